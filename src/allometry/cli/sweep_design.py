"""Options of ``allometry sweep plan`` as a recipe and a plan."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from allometry.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from allometry.harness.sweep import Optima, Recipe

_RECIPE = {"vocab_size", "corpus", "batch_tokens", "learning_rate", "lr_probe", "seeds"}
_TAKEN = {
    "isoflop": _RECIPE | {"contexts", "budgets", "optima", "seeds_at"},
    "token-param": _RECIPE | {"contexts", "sizes", "ratios"},
    "study": set(),
}
"""Options that a design heeds, of those that only some heed."""


def refuse_unheeded(design: str, **given: Any) -> None:
    """Refuse options that this design would not heed; those not given are None."""
    names = [name for name, value in given.items() if value is not None]
    if unheeded := [name for name in names if name not in _TAKEN[design]]:
        options = ", ".join("--" + name.replace("_", "-") for name in unheeded)
        hint = "It is the study as it was made." if design == "study" else ""
        raise InputError(f"--design {design} takes no {options}", where="sweep plan", hint=hint)


def designed_plan(
    design: str,
    recipe: "Recipe",
    *,
    architectures: list[str],
    contexts: list[int],
    budgets: list[float],
    sizes_per_budget: int,
    spread: tuple[float, float],
    sizes: list[float],
    ratios: list[float],
    optima: Path | None,
) -> "pd.DataFrame":
    """Plan of a design; of the study, the rows of `architectures`."""
    from allometry.harness.sweep import plan_isoflop, plan_token_param, study_plan
    from allometry.harness.sweep.recipe import require_architectures

    if design == "study":
        require_architectures(architectures)
        plan = study_plan()
        return plan[plan.architecture.isin(architectures)].reset_index(drop=True)
    if design == "token-param":
        return plan_token_param(
            architectures=architectures,
            context_lengths=contexts,
            sizes=sizes,
            ratios=ratios,
            recipe=recipe,
        )
    return plan_isoflop(
        architectures=architectures,
        context_lengths=contexts,
        budgets=budgets,
        sizes_per_budget=sizes_per_budget,
        spread=spread,
        optima=_optima(optima),
        recipe=recipe,
    )


def _optima(path: Path | None) -> "Optima":
    from allometry.harness.sweep import Optima, read_optima

    return Optima(table=read_optima(path) if path else None)


def recipe_of(
    vocab_size: int | None,
    corpus: Path | None,
    batch_tokens: float | None,
    learning_rate: list[str] | None,
    seeds: list[int],
    seeds_at: list[float] | None,
) -> "Recipe":
    """Recipe of the options; without a vocabulary, the corpus's or the study's."""
    from allometry.accounting import VOCAB_SIZE
    from allometry.harness.sweep import Recipe

    if vocab_size is None and corpus is not None:
        from allometry.harness.corpus import read_manifest

        vocab_size = read_manifest(corpus).vocab_size
    return Recipe(
        vocab_size=VOCAB_SIZE if vocab_size is None else vocab_size,
        batch_tokens=batch_tokens,
        learning_rates=_rates(learning_rate or []),
        seeds=tuple(seeds),
        seeds_at=tuple(seeds_at or ()),
    )


def _rates(given: list[str]) -> dict[str, float]:
    rates: dict[str, float] = {}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            rate = float(value)
        except ValueError as error:
            what = f"--learning-rate {text!r} is neither a number nor ARCHITECTURE=NUMBER"
            raise InputError(what) from error
        rates.update({name: rate} if name else dict.fromkeys(("transformer", "xlstm"), rate))
    return rates
