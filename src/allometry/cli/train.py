"""``allometry train``: one run, or a probe of learning rates."""

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from allometry.cli.output import emit, stderr
from allometry.errors import InputError
from allometry.files import check_folder

if TYPE_CHECKING:
    from allometry.harness.training import TrainConfig

MOST_TOKENS = 1e30

FAR = 10.0
"""A shape so many times smaller or larger than was asked for is not what was meant."""


def train_command(
    config: Annotated[Path | None, Parameter(name="CONFIG")] = None,
    /,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])],
    corpus: Path | None = None,
    run_id: str | None = None,
    architecture: Literal["transformer", "xlstm"] = "transformer",
    params: float | None = None,
    context_length: int | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    tokens: float | None = None,
    learning_rate: float | None = None,
    seed: int | None = None,
    schedule: Literal["study", "wsd"] | None = None,
    validation_tokens: int | None = None,
    accumulation: int | None = None,
    precision: Literal["auto", "float32", "bfloat16"] | None = None,
    compile: bool | None = None,
    parallel: Literal["ddp", "fsdp"] | None = None,
    device: str | None = None,
    threads: int | None = None,
    lr_probe: bool = False,
    logger: Annotated[list[str] | None, Parameter(negative=())] = None,
    json: bool = False,
) -> int:
    """Train a model and write its run: config, loss curve, result, weights.

    A run that was killed goes on from its last checkpoint when the same command is given again.
    For several GPUs: torchrun --nproc-per-node N -m allometry.cli train ...
    Exit code 1 if the run diverged.

    Parameters
    ----------
    config
        A config.json, as in a run's folder, or a plan of a sweep. Options change its values.
    output
        Folder of the run.
    corpus
        Folder made by ``allometry corpus build``.
    run_id
        Run of the plan.
    architecture
        Family of the model, with --params.
    params
        Wanted parameters, embedding and head included; the nearest shape of the family is taken.
    context_length
        Tokens a sequence.
    batch_size
        Sequences a step.
    steps
        Optimizer steps; or give --tokens.
    tokens
        Tokens to train on, rounded to whole steps.
    learning_rate
        Peak rate. Default: the reference study's for this size.
    seed
        Of the weights and of the order of the data.
    schedule
        ``study``: warm-up, cosine to a tenth, linear to 0. ``wsd``: warm-up, constant, linear to 0.
    validation_tokens
        Tokens of the validation set; 0 means all of it.
    accumulation
        Micro-batches a step.
    precision
        ``auto`` is bfloat16 autocast on a GPU and float32 on a CPU.
    compile
        Use torch.compile.
    parallel
        Copies or shards of the model, with several processes.
    device
        ``auto``, ``cpu`` or ``cuda``.
    threads
        CPU threads; 0 leaves PyTorch's choice.
    lr_probe
        Train the run at six peak rates from 5e-4 to 1.6e-2 and say which is best.
    logger
        ``wandb``, ``mlflow`` or ``tensorboard``; may be repeated.
    json
        Print one JSON document instead of a table.
    """
    from allometry.harness.training import train

    check_folder(output)
    given = {
        "context_length": context_length,
        "batch_size": batch_size,
        "steps": steps,
        "learning_rate": learning_rate,
        "seed": seed,
        "schedule": schedule,
        "validation_tokens": validation_tokens,
        "accumulation": accumulation,
        "precision": precision,
        "compile": compile,
        "parallel": parallel,
        "device": device,
        "threads": threads,
        "corpus": None if corpus is None else str(corpus),
    }
    fields = _file_fields(config, run_id)
    fields |= {name: value for name, value in given.items() if value is not None}
    if params is not None:
        fields["shape"] = _shape(architecture, params, fields.get("corpus"))
    run = _config(fields, tokens, where=str(config or "options"))
    if os.environ.get("RANK", "0") != "0":  # torchrun's number of this process: the first one talks
        return 1 if train(run, output).diverged else 0
    if lr_probe:
        return _probe(run, output, as_json=json)
    from allometry.harness.training.loggers import open_logger
    from allometry.harness.training.progress import progress_bar

    with contextlib.ExitStack() as stack:
        loggers = [stack.enter_context(open_logger(name, run, output)) for name in logger or []]
        show = stack.enter_context(progress_bar(steps=run.steps, console=stderr))
        try:
            result = train(run, output, progress=show, loggers=loggers)
        except KeyboardInterrupt:
            said = "stopped; the same command goes on from the last checkpoint"
            stderr.print(said, markup=False)
            raise
    emit(result.to_json(), as_json=json)
    return 1 if result.diverged else 0


def _file_fields(path: Path | None, run_id: str | None) -> dict[str, Any]:
    from allometry.harness.files import read_json

    if path is not None and path.suffix in (".csv", ".parquet", ".jsonl"):
        return _planned(path, run_id)
    if run_id is not None:
        raise InputError("names a run of a plan, and there is none", where="--run-id")
    fields = read_json(path) if path else {}
    if not isinstance(fields, dict):
        what = "not a run's config: no fields by name"
        raise InputError(what, where=str(path), hint="Give the config.json of a run's folder.")
    return fields


def _planned(path: Path, run_id: str | None) -> dict[str, Any]:
    from dataclasses import asdict

    from allometry.harness.sweep import read_plan
    from allometry.harness.sweep.entry import planned_fields
    from allometry.harness.sweep.folder import plan_records

    rows = {row["run_id"]: row for row in plan_records(read_plan(path))}
    if run_id not in rows:
        what = "which of its runs?" if run_id is None else f"no run {run_id!r} in this plan"
        hint = f"Name one with --run-id; it has {len(rows)}, the first is {next(iter(rows))}."
        raise InputError(what, where=str(path), hint=hint)
    fields = planned_fields(rows[run_id])
    shape = fields["shape"]
    return {**fields, "shape": {"architecture": shape.architecture, **asdict(shape)}}


def _shape(architecture: str, params: float, corpus: str | None) -> dict[str, Any]:
    from dataclasses import asdict

    from allometry.accounting import choose_shape
    from allometry.harness.corpus import read_manifest

    if corpus is None:
        raise InputError("--params needs --corpus, which says the vocabulary")
    vocab_size = read_manifest(Path(corpus)).vocab_size
    choice = choose_shape(architecture, params, vocab_size=vocab_size)
    if not params / FAR <= choice.params <= params * FAR:
        what = f"no shape near {params:g} params; the nearest has {choice.params:,}"
        raise InputError(what, where="--params", hint="allometry account shows shapes.")
    if choice.extrapolated:
        said = (
            f"warning: the shapes end before {params:,.0f} params; this one has {choice.params:,}"
        )
        stderr.print(said, soft_wrap=True, markup=False, highlight=False)
    return {"architecture": architecture, **asdict(choice.shape)}


def _config(fields: dict[str, Any], tokens: float | None, *, where: str) -> "TrainConfig":
    from allometry.accounting import study_learning_rate
    from allometry.harness.training import TrainConfig

    needed = ["corpus", "context_length", "batch_size", "shape", "steps"]
    if tokens is not None:
        needed.remove("steps")
    if missing := [name for name in needed if not fields.get(name)]:
        names = ", ".join("params" if name == "shape" else name for name in missing)
        hint = "Give a CONFIG file, or options: --corpus, --params, --context-length, --batch-size "
        hint += "and --steps or --tokens."
        raise InputError(f"not given: {names}", where=where, hint=hint)
    if tokens is not None:
        if not 0 < tokens <= MOST_TOKENS:
            what = f"must be positive and at most {MOST_TOKENS:g}, got {tokens:g}"
            raise InputError(what, where="--tokens")
        step_tokens = fields["context_length"] * fields["batch_size"]
        fields["steps"] = max(1, round(tokens / step_tokens))
    if fields.get("learning_rate") is None:
        shape = TrainConfig.from_json({**fields, "learning_rate": 1.0}, where=where).shape
        fields["learning_rate"] = study_learning_rate(shape.architecture, shape.d_model)
    return TrainConfig.from_json(fields, where=where)


def _probe(config: "TrainConfig", folder: Path, *, as_json: bool) -> int:
    from allometry.harness.training.probe import RATES, probe_learning_rates
    from allometry.harness.training.progress import progress_bar

    with progress_bar(steps=config.steps, console=stderr) as show:
        probe = probe_learning_rates(config, folder, rates=RATES, progress=show)
    runs = [{"learning_rate": run.learning_rate, "loss": run.loss} for run in probe.runs]
    answer = {"learning_rate": probe.learning_rate, "inside": probe.inside, "runs": runs}
    emit(answer if as_json else [*runs, {"learning_rate": probe.learning_rate}], as_json=as_json)
    if not probe.inside:
        stderr.print("warning: the best rate is at the edge of the rates tried", markup=False)
    return 0 if probe.inside else 1
