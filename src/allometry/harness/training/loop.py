"""Train one model: the whole loop, from an empty folder or from where a killed run stopped."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from allometry.accounting import count_params, training_flops
from allometry.errors import InputError, RunError
from allometry.harness.corpus import Manifest, TokenRow, manifest_sha256, read_manifest
from allometry.harness.training.checkpoint import (
    load_checkpoint,
    remove_checkpoint,
    save_checkpoint,
    save_weights,
)
from allometry.harness.training.clock import Clock
from allometry.harness.training.config import TrainConfig, corpus_path
from allometry.harness.training.data import TrainingWindows, ValidationWindows
from allometry.harness.training.device import World, device_name, joined
from allometry.harness.training.folder import RunFolder
from allometry.harness.training.loss import mean_loss, validation_loss
from allometry.harness.training.parallel import Forward, spread_over
from allometry.harness.training.result import Listener, RunResult, StepReport
from allometry.harness.training.schedule import learning_rate_at, schedule_parts
from allometry.models import build, weight_decay_groups

ROWS = 200
"""Rows of a loss curve, about, where `log_steps` is 0."""
SMOOTHING = 0.9
"""Weight of the past in the smoothed loss that divergence is judged by."""
DIVERGED_NATS = 0.5
"""A smoothed loss this far above log(vocab_size), a blind guess, after the warm-up has diverged."""


def train(
    config: TrainConfig,
    folder: Path,
    *,
    progress: Listener | None = None,
    loggers: Sequence[Listener] = (),
) -> RunResult:
    """Train a model, or go on with its training, or return the result it has.

    After a kill at any moment the same call goes on from the last checkpoint; on a CPU with the
    same number of threads, weights and loss curve are then bit-equal to an undisturbed run's.

    Parameters
    ----------
    config : TrainConfig
        The run.
    folder : Path
        Its folder; see `allometry.harness.training.folder` for what is in it.
    progress, loggers : Listener
        Told of every row of the loss curve, in the first of several processes.

    Returns
    -------
    RunResult
        With ``diverged=True`` and no loss if the loss or a gradient was not finite, or stayed
        worse than a blind guess after the warm-up.

    Raises
    ------
    InputError
        If the corpus is damaged or does not fit the shape, or the folder holds another run.
    RunError
        If the disk is full or the checkpoint is damaged.
    """
    listeners = [*([progress] if progress else []), *loggers]
    with joined(config) as world:
        run = RunFolder(Path(folder), writes=world.rank == 0)
        run.open(config)
        result = run.result()
        if result is None:
            with run.status_on_exit():
                result = _train(config, run, world, listeners)
                run.finish(result)
        if run.writes:
            remove_checkpoint(run.checkpoint)
        end = "diverged" if result.diverged else "finished"
        run.set_status(end, step=result.steps, steps=config.steps, loss=result.loss)
        return result


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    # What a checkpoint keeps beside the tensors. The data needs only the step; nothing is drawn.
    step: int = 0
    loss_sum: float = 0.0  # since the last row of the curve
    loss_steps: int = 0
    smoothed: float | None = None
    seconds: float = 0.0


def _train(
    config: TrainConfig, run: RunFolder, world: World, listeners: Sequence[Listener]
) -> RunResult:
    manifest, windows, held_out = _data(config)
    end_of_text = manifest.end_of_text if config.mask_documents else None
    model = build(config.shape, seed=config.seed, device=world.device)
    forward = spread_over(world, model, config)
    optimizer = torch.optim.AdamW(
        weight_decay_groups(model, weight_decay=config.weight_decay),
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )
    state = _state_of(load_checkpoint(run.checkpoint, model, optimizer), run)
    run.cut_curve(state.step)
    run.set_status("running", step=state.step, steps=config.steps)
    clock = Clock(config, world, seconds_before=state.seconds)
    rows, validations = row_steps(config), validation_steps(config)
    loss, reason = math.nan, ""

    while state.step < config.steps and not reason:
        rate = learning_rate_at(config, state.step)
        with clock.loading():
            batches = _micro_batches(config, windows, world, state.step)
        with clock.training():
            own_loss, norm = _step(forward, optimizer, batches, rate, end_of_text, world, config)
        loss_sum, save = world.total(own_loss, float(clock.checkpoint_is_due() and run.writes))
        state = _next_state(state, loss_sum / world.size)
        reason = _divergence(state, config, loss_sum, norm)
        if state.step in rows | validations and not reason:
            val = None
            if state.step in validations:
                batch_size = config.batch_size // (world.size * config.accumulation)
                loss = val = validation_loss(model, held_out, end_of_text, world, batch_size)
                reason = "" if math.isfinite(val) else f"step {state.step}: validation loss {val}"
            if not reason:
                _report(state, config, clock, run, listeners, rate=rate, norm=norm, val=val)
                state = replace(state, loss_sum=0.0, loss_steps=0)
        if save and not reason and state.step < config.steps:
            run.sync_curve()
            kept = asdict(replace(state, seconds=clock.seconds()))
            save_checkpoint(run.checkpoint, model, optimizer, kept, writes=run.writes)
            run.set_status("running", step=state.step, steps=config.steps)
            clock.checkpoint_was_made()

    run.sync_curve()
    if config.keep_weights:
        save_weights(run.checkpoint, model, writes=run.writes)
    row = _row(config, state.step, windows, held_out, manifest, loss=None if reason else loss)
    return RunResult(
        run_id=run.path.resolve().name,
        **row,
        diverged=bool(reason),
        reason=reason,
        seconds=clock.seconds(),
        device=device_name(world.device),
        precision="bfloat16" if world.bfloat16 else "float32",
        tokens_per_second=clock.tokens_per_second(),
        mfu=clock.mfu(),
        loader_share=clock.loader_share(),
    )


def _state_of(kept: dict[str, Any] | None, run: RunFolder) -> _State:
    try:
        return _State(**(kept or {}))
    except TypeError as error:  # names the field that is not one
        what = f"checkpoint of another version: {str(error).split('() ')[-1]}"
        hint = "Go on with the version of allometry that wrote it, or remove the folder."
        raise RunError(what, where=str(run.checkpoint), hint=hint) from error


def _data(config: TrainConfig) -> tuple[Manifest, TrainingWindows, ValidationWindows]:
    folder = corpus_path(config)
    manifest = read_manifest(folder)
    if config.shape.vocab_size < manifest.vocab_size:
        what = f"the shape has {config.shape.vocab_size} vocabulary rows, the corpus needs "
        hint = "Give the shape the corpus's vocab_size."
        raise InputError(what + f"{manifest.vocab_size}", where=config.corpus, hint=hint)
    train_row = TokenRow(folder, manifest, "train")
    validation_row = TokenRow(folder, manifest, "validation")
    windows = TrainingWindows(train_row, config.context_length, config.seed)
    held_out = ValidationWindows(validation_row, config.context_length, config.validation_tokens)
    return manifest, windows, held_out


def validation_steps(config: TrainConfig) -> set[int]:
    """Steps after which the validation loss is taken: evenly spaced, the last one at the end."""
    points = config.validation_points
    return {round(config.steps * k / points) for k in range(1, points + 1)} - {0}


def row_steps(config: TrainConfig) -> set[int]:
    """Steps after which the curve gets a row, beside those of a validation."""
    every = config.log_steps or max(1, config.steps // ROWS)
    return set(range(every, config.steps + 1, every))


def _micro_batches(
    config: TrainConfig, windows: TrainingWindows, world: World, step: int
) -> Sequence[Tensor]:
    # Window numbers of a step are dealt to the processes in turn: together they see one batch.
    first = step * config.batch_size + world.rank
    own = windows.batch(first, config.batch_size // world.size, every=world.size)
    return own.to(world.device, non_blocking=True).chunk(config.accumulation)


def _step(
    forward: Forward,
    optimizer: torch.optim.Optimizer,
    batches: Sequence[Tensor],
    rate: float,
    end_of_text: int | None,
    world: World,
    config: TrainConfig,
) -> tuple[float, float]:
    # One optimizer step; loss of this process's share of the batch, and gradient norm before clip.
    loss = torch.zeros((), device=world.device)
    for number, batch in enumerate(batches, start=1):
        with forward.accumulating(last=number == len(batches)):
            with world.autocast():
                part = mean_loss(forward.model, batch, end_of_text) / len(batches)
            torch.autograd.backward(part)
        loss += part.detach()
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(parameters, config.clip or math.inf)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    whole_norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    return loss.item(), float(whole_norm)


def _next_state(state: _State, loss: float) -> _State:
    smoothed = loss
    if state.smoothed is not None:
        smoothed = SMOOTHING * state.smoothed + (1 - SMOOTHING) * loss
    return replace(
        state,
        step=state.step + 1,
        loss_sum=state.loss_sum + loss,
        loss_steps=state.loss_steps + 1,
        smoothed=smoothed,
    )


def _divergence(state: _State, config: TrainConfig, loss: float, norm: float) -> str:
    # Why to stop; empty if all is well.
    if not (math.isfinite(loss) and math.isfinite(norm)):
        return f"step {state.step}: loss {loss}, gradient norm {norm}"
    guess = math.log(config.shape.vocab_size)
    smoothed = state.smoothed or 0.0
    if state.step > schedule_parts(config)[0] and smoothed > guess + DIVERGED_NATS:
        return f"step {state.step}: smoothed loss {smoothed:.3f}, a blind guess {guess:.3f}"
    return ""


def _report(
    state: _State,
    config: TrainConfig,
    clock: Clock,
    run: RunFolder,
    listeners: Sequence[Listener],
    *,
    rate: float,
    norm: float,
    val: float | None,
) -> None:
    report = StepReport(
        step=state.step,
        steps=config.steps,
        tokens=state.step * config.batch_size * config.context_length,
        train_loss=state.loss_sum / state.loss_steps,
        val_loss=val,
        learning_rate=rate,
        grad_norm=norm,
        tokens_per_second=clock.tokens_per_second(),
        seconds_left=clock.seconds_left(config.steps - state.step),
        mfu=clock.mfu(),
        loader_share=clock.loader_share(),
    )
    run.append_curve(report)
    for listener in listeners if run.writes else ():
        listener(report)


def _row(
    config: TrainConfig,
    steps: int,
    windows: TrainingWindows,
    held_out: ValidationWindows,
    manifest: Manifest,
    *,
    loss: float | None,
) -> dict[str, Any]:
    shape, counts = config.shape, count_params(config.shape)
    tokens = steps * config.batch_size * config.context_length
    return {
        "architecture": shape.architecture,
        "context_length": config.context_length,
        "params": counts.total,
        "params_non_embedding": counts.without_embedding_and_head,
        "tokens": tokens,
        "flops": training_flops(shape, context_length=config.context_length, tokens=tokens),
        "loss": loss,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "d_model": shape.d_model,
        "n_layers": shape.n_layers,
        "n_heads": shape.n_heads,
        "d_ff": shape.d_ff,
        "seed": config.seed,
        "epochs": steps * config.batch_size / windows.n_windows,
        "steps": steps,
        "schedule": config.schedule,
        "vocab_size": shape.vocab_size,
        "validation_tokens": len(held_out) * config.context_length,
        "corpus_sha256": manifest_sha256(corpus_path(config)),
        "tokenizer_sha256": manifest.tokenizer_sha256,
    }
