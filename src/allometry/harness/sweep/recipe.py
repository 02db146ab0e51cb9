"""What the runs of a plan have in common, and the rows that follow for one shape."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from allometry.accounting import VOCAB_SIZE, Shape, steps_for, study_learning_rate
from allometry.errors import InputError
from allometry.harness.sweep.placement import choose_batch, rule_batch_tokens
from allometry.harness.sweep.rows import plan_row

ARCHITECTURES = ("transformer", "xlstm")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What the runs of a plan have in common.

    Attributes
    ----------
    vocab_size : int
        Rows of embedding and head; the corpus's, padded if wanted.
    batch_tokens : float or None
        Tokens a step; None: by budget, `rule_batch_tokens`.
    learning_rates : Mapping[str, float]
        Peak rate by architecture; where there is none, the reference study's for the width.
    seeds : tuple of int
        Each run once for each seed.
    seeds_at : tuple of float
        Budgets at which seeds after the first are run; empty: at all.
    """

    vocab_size: int = VOCAB_SIZE
    batch_tokens: float | None = None
    learning_rates: Mapping[str, float] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)
    seeds_at: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds must be different numbers, at least one: {self.seeds}")
        if bad := [seed for seed in self.seeds if not 0 <= seed < 2**32]:
            raise InputError(f"a seed must be a whole number of 32 bits, got {bad[0]}")
        if self.batch_tokens is not None and not 0 < self.batch_tokens < math.inf:
            raise InputError(f"batch_tokens must be a positive number, got {self.batch_tokens}")
        require_architectures(self.learning_rates)
        for rate in self.learning_rates.values():
            if not 0 < rate < 1:
                raise InputError(f"a learning rate must be between 0 and 1, got {rate}")

    def seeds_for(self, budget: float | None) -> tuple[int, ...]:
        """Seeds of the runs of a budget."""
        return self.seeds if not self.seeds_at or budget in self.seeds_at else self.seeds[:1]

    def rows(
        self,
        shapes: Sequence[Shape],
        context_length: int,
        flops: float,
        experiment: str,
        budget: float | None,
    ) -> Iterator[dict[str, Any]]:
        """Rows of shapes that are trained with `flops` each and one batch: one a seed."""
        wanted = self.batch_tokens or rule_batch_tokens(flops)
        batch_size = choose_batch(shapes, context_length, flops, wanted)
        for shape in shapes:
            usual = study_learning_rate(shape.architecture, shape.d_model)
            for seed in self.seeds_for(budget):
                yield plan_row(
                    shape,
                    context_length=context_length,
                    batch_size=batch_size,
                    # At least MIN_STEPS, so rounding costs less than 1 % of the budget.
                    steps=steps_for(flops, shape, context_length, batch_size, round_to=1),
                    learning_rate=self.learning_rates.get(shape.architecture, usual),
                    seed=seed,
                    experiment=experiment,
                    budget=budget,
                )


def require_architectures(names: Iterable[str]) -> None:
    """Refuse names that are not an architecture's."""
    if unknown := [name for name in names if name not in ARCHITECTURES]:
        what = f"no architecture named {', '.join(map(repr, unknown))}"
        raise InputError(what, hint=f"Known: {', '.join(ARCHITECTURES)}.")
