"""Plans: a table with one row a run, made from a design and read back from a file."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import pandas as pd

from allometry.accounting import count_params, training_flops_per_sequence
from allometry.errors import InputError
from allometry.harness.sweep.law import Optima
from allometry.harness.sweep.placement import SPREAD, nearest_shape, place_sizes
from allometry.harness.sweep.recipe import Recipe, require_architectures
from allometry.harness.sweep.rows import PLAN_COLUMNS, row_problems
from allometry.observations.writing import write_table

Design = Literal["isoflop", "token-param", "study"]
DESIGNS = get_args(Design)
_SHOWN = 5

LARGEST = {
    "context_lengths": 1e9,
    "budgets": 1e35,
    "sizes": 1e15,
    "ratios": 1e9,
    "architectures": 0,
}
"""Beyond what anybody trains: a slip."""


def plan_isoflop(
    *,
    architectures: Sequence[str],
    context_lengths: Sequence[int],
    budgets: Sequence[float],
    sizes_per_budget: int = 7,
    spread: tuple[float, float] = SPREAD,
    optima: Optima | None = None,
    recipe: Recipe | None = None,
) -> pd.DataFrame:
    """Plan valleys: several sizes at each budget, architecture and context.

    Parameters
    ----------
    architectures, context_lengths, budgets
        Every combination is one valley; budgets in training FLOPs.
    sizes_per_budget : int
        Sizes of a valley, at least 3.
    spread : (float, float)
        Smallest and largest of them as shares of the expected optimum.
    optima : Optima, optional
        Where the optimum is expected; by default where the published law has it.
    recipe : Recipe, optional
        Vocabulary, batch, learning rates, seeds.

    Returns
    -------
    DataFrame
        One row a run, columns `PLAN_COLUMNS`, FLOPs within 2 % of the budget.

    Warns
    -----
    PlanWarning
        For each valley that is one-sided or has fewer sizes than asked for.

    Examples
    --------
    >>> plan = plan_isoflop(
    ...     architectures=["transformer"], context_lengths=[2048], budgets=[6e18]
    ... )
    >>> len(plan), bool((plan.flops / plan.budget - 1).abs().max() < 0.02)
    (7, True)
    """
    optima, recipe = optima or Optima(), recipe or Recipe()
    require_architectures(architectures)
    _require_some(architectures=architectures, context_lengths=context_lengths, budgets=budgets)
    rows: list[dict[str, Any]] = []
    for architecture in architectures:
        for context_length in context_lengths:
            for budget in budgets:
                shapes = place_sizes(
                    architecture,
                    context_length=context_length,
                    budget=budget,
                    optimum=optima.params(
                        architecture, context_length, budget, vocab_size=recipe.vocab_size
                    ),
                    sizes=sizes_per_budget,
                    spread=spread,
                    vocab_size=recipe.vocab_size,
                )
                rows += recipe.rows(shapes, context_length, budget, "isoflop", budget)
    return _frame(rows)


def plan_token_param(
    *,
    architectures: Sequence[str],
    context_lengths: Sequence[int],
    sizes: Sequence[float],
    ratios: Sequence[float],
    recipe: Recipe | None = None,
) -> pd.DataFrame:
    """Plan runs of given sizes, each at several tokens per param.

    Parameters
    ----------
    sizes : sequence of float
        Wanted params with embeddings; the nearest shapes of the family are taken.
    ratios : sequence of float
        Tokens per param, D / N.

    Returns
    -------
    DataFrame
        As from `plan_isoflop`; `budget` is empty.
    """
    recipe = recipe or Recipe()
    require_architectures(architectures)
    _require_some(
        architectures=architectures, context_lengths=context_lengths, sizes=sizes, ratios=ratios
    )
    rows: list[dict[str, Any]] = []
    for architecture in architectures:
        for size in sizes:
            shape = nearest_shape(architecture, size, recipe.vocab_size)
            params = count_params(shape).total
            for context_length in context_lengths:
                cost = training_flops_per_sequence(shape, context_length).total
                for ratio in ratios:
                    flops = cost * ratio * params / context_length
                    rows += recipe.rows([shape], context_length, flops, "tokenparam", None)
    return _frame(rows)


def join_plans(*plans: pd.DataFrame) -> pd.DataFrame:
    """One plan of several; a run that two of them have is kept once."""
    joined = pd.concat(plans, ignore_index=True)
    return joined.drop_duplicates("run_id", ignore_index=True)


def write_plan(plan: pd.DataFrame, path: Path) -> Path:
    """Write a plan as CSV, Parquet or JSON lines, atomically."""
    return write_table(plan, path)


def read_plan(path: Path) -> pd.DataFrame:
    """Read a plan and check that every row can be built.

    Raises
    ------
    InputError
        One error that names every faulty row: shapes that cannot be built, params that are not
        the shape's, run ids that occur twice.
    """
    if not path.is_file():
        raise InputError("no such plan", where=str(path))
    try:
        plan = pd.read_parquet(path) if path.suffix == ".parquet" else _read_text(path)
    except (ValueError, OSError) as error:
        what = f"cannot be read as a table: {str(error).strip()}"
        raise InputError(what, where=str(path)) from error
    return check_plan(plan, source=str(path))


def check_plan(plan: pd.DataFrame, *, source: str = "plan") -> pd.DataFrame:
    """Return a plan whose every row can be built, or raise one InputError; see `read_plan`."""
    if missing := [name for name in PLAN_COLUMNS if name not in plan]:
        what = f"no column {', '.join(missing)}; found {', '.join(map(str, plan.columns))}"
        raise InputError(what, where=source, hint="Make plans with allometry sweep plan.")
    if plan.empty:
        raise InputError("no run in it", where=source)
    faults = [
        f"row {number} ({row['run_id']}): {problem}"
        for number, row in enumerate(plan.to_dict("records"))
        for problem in row_problems({str(name): value for name, value in row.items()})
    ]
    twice = plan.loc[plan.run_id.duplicated(), "run_id"]
    faults += [f"run_id {run_id} occurs twice" for run_id in twice]
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise InputError("; ".join(faults[:_SHOWN]) + more, where=source)
    return plan


def _read_text(path: Path) -> pd.DataFrame:
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True)
    return pd.read_csv(path)


def _frame(rows: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    return join_plans(pd.DataFrame(list(rows), columns=list(PLAN_COLUMNS)))


_OPTIONS = {"context_lengths": "--contexts"}
"""What the command line calls an argument, where it has another name there."""


def _require_some(**lists: Sequence[Any]) -> None:
    if empty := [name for name, values in lists.items() if not len(values)]:
        options = ", ".join(_OPTIONS.get(name, f"--{name}") for name in empty)
        what = f"none given of {', '.join(empty)}"
        raise InputError(what, where="sweep plan", hint=f"Give {options}.")
    for name, values in lists.items():
        numbers = [value for value in values if not isinstance(value, str)]
        if bad := [value for value in numbers if not 0 < value < math.inf]:
            raise InputError(f"{name} must be positive numbers, got {bad[0]}", where="sweep plan")
        if bad := [value for value in numbers if value > LARGEST[name]]:
            what = f"{name} must be at most {LARGEST[name]:g}, got {bad[0]:g}"
            raise InputError(what, where="sweep plan")
