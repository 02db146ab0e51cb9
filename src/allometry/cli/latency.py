"""``allometry latency``: bench, fit, predict."""

from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from allometry.cli.asking import (
    POSTERIOR_FORMATS,
    Seed,
    answered,
    check_output,
    check_picture,
    short,
    write_picture,
)
from allometry.cli.latency_asking import (
    AS_TIMED,
    Numbers,
    Quantity,
    Serving,
    Whole,
    Words,
    device_named,
    loaded_timings,
)
from allometry.cli.pairs import parse_pairs

Pairs = Annotated[list[str] | None, Parameter(negative="")]


def bench_command(
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    shapes: Words,
    batch_sizes: Whole | None = None,
    prefill_lengths: Whole | None = None,
    generation_length: int = 16,
    device: Literal["cpu", "cuda"] = "cpu",
    dtype: Literal["float32", "bfloat16"] = "float32",
    threads: int = 1,
    seconds_per_point: float = 5.0,
    seed: Seed = 0,
    json: bool = False,
) -> int:
    """Time prefill and decode of both models on this machine; write a latency table.

    Points come in random order, with a control point in between that shows how the machine drifts.
    The same command goes on where it stopped. Exit code 1: the clock's own cost passes 1 % of some
    timing.

    Parameters
    ----------
    output
        Latency table to write: .csv, .parquet or .jsonl.
    shapes
        Names of shapes, such as transformer-160m xlstm-160m (allometry account --list).
    batch_sizes
        Sequences; by default 1, 2 and 4.
    prefill_lengths
        Tokens of the prompt; by default 32, 128 and 512.
    generation_length
        Steps that a step time is the mean of.
    device
        cpu or cuda.
    dtype
        Of parameters and activations.
    threads
        Threads of a CPU, each pinned to a core.
    seconds_per_point
        Time for the repeats of one point.
    seed
        Of the order, the parameters and the tokens.
    json
        Print one JSON document.
    """
    from allometry.accounting import preset
    from allometry.cli.output import emit
    from allometry.cli.runtime import stages
    from allometry.harness.latency import BenchPlan, run_bench

    plan = BenchPlan(
        shapes=tuple(preset(name) for name in shapes),
        batch_sizes=tuple(batch_sizes or (1, 2, 4)),
        prefill_lengths=tuple(prefill_lengths or (32, 128, 512)),
        generation_length=generation_length,
        device=device,
        dtype=dtype,
        threads=threads,
        max_seconds=seconds_per_point,
        seed=seed,
    )
    with stages() as bar:
        result = run_bench(plan, output, progress=lambda done, total, name: bar(name, done, total))
    usable = result.table[result.table["status"] == "ok"]
    share = float(result.overhead_seconds / usable["seconds"].min()) if len(usable) else 0.0
    answer: dict[str, Any] = {
        "table": str(output),
        "points": len(result.table),
        "out_of_memory": int((result.table["status"] == "oom").sum()),
        "unsettled": int((~usable["settled"].astype(bool)).sum()),
        "overhead_seconds": result.overhead_seconds,
        "largest_overhead_share": share,
        "drift": result.drift,
    }
    emit(answer, as_json=json)
    return 0 if share < 0.01 else 1


def fit_command(
    table: str,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"])],
    device: str | None = None,
    law: Literal["auto", "roofline", "roofline-two-kernels"] = "auto",
    method: Literal["nuts", "laplace"] = "laplace",
    chains: int | None = None,
    draws: int | None = None,
    alias: Pairs = None,
    fill: Annotated[Pairs, Parameter(name="--set")] = None,
    seed: Seed = 0,
    json: bool = False,
) -> int:
    """Fit one latency law to all sizes and both phases of a table of timings.

    Exit code 1: written, but not converged.

    Parameters
    ----------
    table
        Latency table, another tool's output, or the name of a registered table.
    output
        NetCDF file to write.
    device
        Name of the device that was timed, for its data sheet (such as h100-sxm), if the table
        does not say. Without one the largest rates in the table stand in and its multiprocessors
        are not known: steps of attention at long context are then predicted badly.
    law
        The latency law; auto takes the one of larger evidence.
    method
        laplace, the Gaussian at the mode; or nuts, which samples the posterior itself.
    chains
        Chains of draws; by default 4.
    draws
        Draws of each chain, by default 300; nuts goes on where they are too few.
    alias
        COLUMN=NAME: read a column as another, such as wall=seconds. Repeat it.
    fill
        COLUMN=VALUE of all rows that do not say it, for what another tool did not record, such as
        architecture=transformer or n_layers=32. Repeat it.
    seed
        Seed of everything random.
    json
        Print one JSON document.
    """
    from allometry.cli.output import emit, stderr
    from allometry.cli.runtime import prepare_jax, stages
    from allometry.inference import LatencySampler, fit_latency
    from allometry.observations import read_latency

    check_output(output, POSTERIOR_FORMATS)
    given = {"chains": chains, "draws": draws}
    sampler = LatencySampler(method=method, **{k: v for k, v in given.items() if v is not None})
    timings = read_latency(
        table,
        aliases=parse_pairs(alias, option="--alias"),
        fill=parse_pairs(fill, option="--set"),
    )
    prepare_jax()
    with stages() as bar:
        posterior = fit_latency(
            timings, law=law, device=device_named(device), sampler=sampler, seed=seed, progress=bar
        )
    posterior.save(output)
    record = posterior.record
    for warning in record.warnings:
        stderr.print(f"warning: {warning}", style="yellow", highlight=False)
    found = record.convergence
    if json:
        document = {
            "posterior": str(output),
            "law": record.law,
            "method": record.method,
            "law_evidence": record.law_evidence,
            "device": record.device.name,
            "architectures": list(record.architectures),
            "excluded": [{"rows": n, "reason": why} for n, why in record.excluded],
            "warnings": list(record.warnings),
            "converged": found.converged,
            "diagnostics": {
                "divergences": found.divergences,
                "max_rhat": found.max_rhat,
                "min_ess_bulk": found.min_ess_bulk,
                "min_ess_tail": found.min_ess_tail,
                "seconds": found.seconds,
            },
            "coefficients": posterior.summary().to_dict("records"),
        }
        emit(document, as_json=True)
    else:
        emit(short(posterior.summary()), as_json=False)
        for n, why in record.excluded:
            stderr.print(f"left out {n} row(s): {why}", highlight=False)
    if not found.converged:
        stderr.print(f"not converged: {'; '.join(found.reasons)}", highlight=False)
    return 0 if found.converged else 1


def predict_command(
    posterior: Path,
    *,
    architecture: Words,
    params: Numbers,
    prefill_lengths: Whole,
    batch_sizes: Whole | None = None,
    quantity: Quantity = "step_time",
    serving: Serving = AS_TIMED,
    plot: Path | None = None,
    json: bool = False,
) -> int:
    """Seconds of prefills or decode steps that were not timed, and what bounds them.

    ``seconds`` is the law with the shape's own effects; ``run_seconds`` adds the noise of one
    timing.

    Parameters
    ----------
    posterior
        File written by ``allometry latency fit``.
    architecture
        One or more architectures that were timed.
    params
        Sizes; the timed model of that many params (to half a percent) is taken, or the family's
        shape.
    prefill_lengths
        Tokens of the prompt, or context of the step.
    batch_sizes
        Sequences; by default 1.
    quantity
        ttft or step_time.
    plot
        Picture of the seconds against prompt or context: .png, .pdf or .svg.
    json
        Print one JSON document.
    """
    from itertools import product

    import pandas as pd

    from allometry.cli.output import stderr
    from allometry.decisions.latency import predict_latency

    check_picture(plot)
    loaded = loaded_timings(posterior)
    names = ["architecture", "params", "prefill_length", "batch_size"]
    grid = product(architecture, params, prefill_lengths, batch_sizes or [1])
    points = pd.DataFrame(list(grid), columns=names).assign(quantity=quantity)
    points["dtype"] = serving.dtype
    sheet = device_named(serving.device)
    table = predict_latency(loaded, points, device=sheet, force=serving.force)
    meant = zip(points["architecture"], points["params"], table["params"], strict=True)
    for name, asked, taken in sorted({pair for pair in meant if pair[1] != pair[2]}):
        text = f"{name} of {asked:.6g} params: the timed model of {taken:,.0f} is taken"
        stderr.print(text, highlight=False)
    if too_large := int((table["probability_fits"] < 0.5).sum()):
        text = f"warning: {too_large} of {len(table)} point(s) do not fit the device's memory: "
        stderr.print(f"{text}their seconds are the law's alone", style="yellow", highlight=False)
    if plot:
        from allometry.plots.latency_decide import draw_runtime

        write_picture(draw_runtime(table, loaded.timings()), plot)
    return answered(table, as_json=json)
