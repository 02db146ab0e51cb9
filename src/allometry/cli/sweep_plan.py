"""``allometry sweep plan``: which runs, and what they cost."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from allometry.cli.output import emit, stderr
from allometry.cli.sweep_design import designed_plan, recipe_of, refuse_unheeded
from allometry.errors import InputError
from allometry.files import check_folder, check_writable

if TYPE_CHECKING:
    import pandas as pd

    from allometry.harness.sweep import ProbedRate

Many = Parameter(consume_multiple=True, negative=())


def plan_command(
    *,
    design: Literal["isoflop", "token-param", "study"],
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    architectures: Annotated[list[str], Many] = ["transformer", "xlstm"],  # noqa: B006 (help shows it)
    contexts: Annotated[list[int] | None, Many] = None,
    budgets: Annotated[list[float] | None, Many] = None,
    sizes_per_budget: int = 7,
    spread: tuple[float, float] = (0.2, 5.0),
    sizes: Annotated[list[float] | None, Many] = None,
    ratios: Annotated[list[float] | None, Many] = None,
    vocab_size: int | None = None,
    corpus: Path | None = None,
    optima: Path | None = None,
    batch_tokens: float | None = None,
    learning_rate: Annotated[list[str] | None, Many] = None,
    lr_probe: Path | None = None,
    seeds: Annotated[list[int], Many] = [0],  # noqa: B006 (help shows it)
    seeds_at: Annotated[list[float] | None, Many] = None,
    add: Path | None = None,
    device: str = "h100",
    mfu: float | None = None,
    flops_per_second: float | None = None,
    threads: int = 1,
    price_per_hour: float | None = None,
    json: bool = False,
) -> int:
    """Plan a sweep: write a table with one row a run, and print what it costs.

    Parameters
    ----------
    design
        ``isoflop``: valleys at fixed budgets. ``token-param``: sizes, each at several tokens per
        param. ``study``: the 640 runs of the reference study.
    output
        The plan: .csv, .parquet or .jsonl.
    architectures
        transformer, xlstm.
    contexts
        Tokens a sequence.
    budgets
        Training FLOPs (isoflop).
    sizes_per_budget
        Sizes of a valley (isoflop).
    spread
        Smallest and largest size as shares of the expected optimum (isoflop).
    sizes
        Params with embeddings (token-param).
    ratios
        Tokens per param (token-param).
    vocab_size
        Vocabulary of the models; default: the corpus's, else the study's 50,304.
    corpus
        Folder of the corpus, for its vocabulary.
    optima
        Where optima are expected: ``allocate --json`` of an earlier fit, or a CSV with
        architecture, context_length, flops, params. Default: the published law of Chinchilla.
    batch_tokens
        Tokens a step; default by budget.
    learning_rate
        Peak rate for all, ``3e-3``, or by architecture, ``xlstm=2e-3``; default: the study's.
    lr_probe
        Folder for a probe on --corpus: the smallest run of each architecture is trained at six
        peak rates; wider models take the best one times the ratio of the study's rates for the
        widths. Stopped and given again, it goes on. Exit code 1 if the best is at the edge.
    seeds
        Each run once for each.
    seeds_at
        Budgets at which seeds after the first are run; default: all.
    add
        A plan to put before this one.
    device
        What hours and cost are of: a data-sheet name, or cpu (measured here).
    mfu
        Share of the device's peak that training reaches.
    flops_per_second
        What training reaches, instead of the device's peak and MFU.
    threads
        CPU threads of a run, for --device cpu.
    price_per_hour
        Of one device.
    json
        Print the summary as one JSON document.
    """
    import warnings

    from allometry.harness.sweep import (
        PlanWarning,
        check_plan,
        device_named,
        join_plans,
        price_plan,
        read_plan,
        require_price,
        write_plan,
    )
    from allometry.observations.writing import table_ending

    # What costs nothing to check comes before the plan, and before hours of a probe.
    refuse_unheeded(
        design,
        contexts=contexts,
        budgets=budgets,
        sizes=sizes,
        ratios=ratios,
        vocab_size=vocab_size,
        corpus=corpus,
        optima=optima,
        batch_tokens=batch_tokens,
        learning_rate=learning_rate,
        lr_probe=lr_probe,
        seeds=None if seeds == [0] else seeds,
        seeds_at=seeds_at,
    )
    table_ending(output)
    check_writable(output)
    if lr_probe is not None:
        check_folder(lr_probe)
    if lost := [budget for budget in seeds_at or () if budget not in (budgets or ())]:
        what = f"{lost[0]:g} is none of the --budgets"
        raise InputError(what, where="--seeds-at", hint="It names some of them.")
    priced_on = device_named(device, mfu=mfu, flops_per_second=flops_per_second, threads=threads)
    require_price(price_per_hour)
    before = None if add is None else read_plan(add)
    recipe = recipe_of(vocab_size, corpus, batch_tokens, learning_rate, seeds, seeds_at)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", PlanWarning)
        plan = designed_plan(
            design,
            recipe,
            architectures=architectures,
            contexts=contexts or [],
            budgets=budgets or [],
            sizes_per_budget=sizes_per_budget,
            spread=spread,
            sizes=sizes or [],
            ratios=ratios or [],
            optima=optima,
        )
    probed: list[ProbedRate] = []
    if lr_probe is not None:
        plan, probed = _probed(plan, corpus, lr_probe, learning_rate, threads)
    said = [str(warning.message) for warning in caught]
    for line in said:
        stderr.print(f"warning: {line}", soft_wrap=True, markup=False, highlight=False)
    if before is not None:
        plan = join_plans(before[[name for name in plan.columns if name in before]], plan)
    plan = price_plan(check_plan(plan), priced_on, price_per_hour=price_per_hour)
    write_plan(plan, output)
    if not json:
        emit(_valleys(plan), as_json=False)
    summary: dict[str, Any] = {
        "plan": str(output),
        "runs": len(plan),
        "flops": float(plan.flops.sum()),
        "device": priced_on.name,
        "flops_per_second": priced_on.flops_per_second,
        "mfu": priced_on.mfu,
        "device_hours": float(plan.hours.sum()),
        "cost": float(plan.cost.sum()) if "cost" in plan else None,
    }
    if probed:
        summary["probed_learning_rates"] = {p.architecture: p.learning_rate for p in probed}
    emit(summary | ({"warnings": said} if json else {}), as_json=json)
    return 0


def _probed(
    plan: "pd.DataFrame",
    corpus: Path | None,
    folder: Path,
    given: list[str] | None,
    threads: int,
) -> tuple["pd.DataFrame", "list[ProbedRate]"]:
    from allometry.harness.sweep import SweepConfig, probe_plan, with_rates
    from allometry.harness.training.probe import RATES
    from allometry.harness.training.progress import progress_bar

    if corpus is None or given:
        what = "--lr-probe needs --corpus, and no --learning-rate"
        raise InputError(what, where="sweep plan", hint="The probe is what sets the rates.")
    config = SweepConfig(
        corpus=str(corpus.absolute()), threads=threads, settings={"validation_tokens": 65_536}
    )
    runs = len(RATES) * plan.architecture.nunique()
    with progress_bar(steps=int(plan.steps.max()), console=stderr) as show:
        stderr.print(f"probing learning rates: {runs} runs", markup=False, highlight=False)
        found = probe_plan(plan, folder, config, progress=show)
    return with_rates(plan, found), found


def _valleys(plan: "pd.DataFrame") -> "pd.DataFrame":
    # One line for each architecture, context and budget: what a person wants to see of a plan.
    keys = ["experiment", "architecture", "context_length", "budget"]
    table = plan.groupby(keys, dropna=False, sort=False).agg(
        runs=("run_id", "size"),
        params_from=("params", "min"),
        params_to=("params", "max"),
        tokens_from=("tokens", "min"),
        tokens_to=("tokens", "max"),
        flops=("flops", "sum"),
        hours=("hours", "sum"),
    )
    return table.reset_index()
