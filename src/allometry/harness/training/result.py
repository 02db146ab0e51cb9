"""What a run says: while it trains, when it ends, and in one row of a runs table."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class StepReport:
    """State of a run at a row of its loss curve.

    Attributes
    ----------
    step, steps : int
        Steps done, and of how many.
    tokens : int
        Tokens trained on so far.
    train_loss : float
        Nats per token, mean since the last row.
    val_loss : float or None
        On the fixed validation set, where it was taken.
    learning_rate, grad_norm : float
        Of the last step; the norm before clipping.
    tokens_per_second, seconds_left : float
        Since this process started, validation included.
    mfu : float
        Model FLOPs over the peak of the device (see `peak_flops`).
    loader_share : float
        Share of the time spent on reading data.
    """

    step: int
    steps: int
    tokens: int
    train_loss: float
    val_loss: float | None
    learning_rate: float
    grad_norm: float
    tokens_per_second: float
    seconds_left: float
    mfu: float
    loader_share: float

    def curve_row(self) -> dict[str, Any]:
        """What the loss curve keeps: nothing that depends on the clock."""
        names = ("step", "tokens", "train_loss", "val_loss", "learning_rate", "grad_norm")
        return {name: getattr(self, name) for name in names}


Listener = Callable[[StepReport], None]
"""Told of every row of the curve: the progress bar and each logger is one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunResult:
    """One row of a runs table, and how it was made.

    Attributes
    ----------
    run_id : str
        Name of the run's folder.
    params, params_non_embedding : int
        Total; without embedding and head.
    tokens : int
        Trained on.
    flops : float
        `allometry.accounting.training_flops`, in the study's mode.
    loss : float or None
        Nats per token on the validation set after the last step; None if the run diverged.
    epochs : float
        Passes over the train split.
    diverged : bool
        The run was stopped, for `reason`.
    seconds : float
        Wall time, validation included, over all sessions of the run.
    validation_tokens : int
        Tokens that `loss` is the mean of.
    corpus_sha256, tokenizer_sha256 : str
        Of the corpus's manifest and of its tokenizer.
    loader_share, mfu, tokens_per_second : float
        Of the last session.
    """

    run_id: str
    architecture: str
    context_length: int
    params: int
    params_non_embedding: int
    tokens: int
    flops: float
    loss: float | None
    batch_size: int
    learning_rate: float
    d_model: int
    n_layers: int
    n_heads: int
    d_ff: int
    seed: int
    epochs: float
    diverged: bool
    reason: str
    steps: int
    schedule: str
    vocab_size: int
    validation_tokens: int
    corpus_sha256: str
    tokenizer_sha256: str
    seconds: float
    device: str
    precision: str
    tokens_per_second: float
    mfu: float
    loader_share: float

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``RunResult(**document)`` is the inverse."""
        return asdict(self)
