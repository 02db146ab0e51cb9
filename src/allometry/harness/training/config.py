"""Everything that decides what a training run computes, as one frozen value with a JSON form."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from allometry.accounting import Shape, TransformerShape, XLSTMShape
from allometry.errors import InputError

Schedule = Literal["study", "wsd"]
Precision = Literal["auto", "float32", "bfloat16"]
Parallel = Literal["ddp", "fsdp"]

_SHAPES: dict[str, type[TransformerShape] | type[XLSTMShape]] = {
    "transformer": TransformerShape,
    "xlstm": XLSTMShape,
}
_POSITIVE = ("context_length", "batch_size", "steps", "learning_rate", "accumulation", "eps")
_COUNTS = (
    *("validation_tokens", "warmup_steps", "cooldown_steps", "threads", "log_steps", "clip"),
    *("seed", "weight_decay", "beta1", "beta2", "checkpoint_seconds"),
)
_BELOW = {"seed": 2**32, "beta1": 1, "beta2": 1, "threads": 1025}
_HOW_NOT_WHAT = ("corpus", "device", "threads", "checkpoint_seconds", "keep_weights")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run.

    Attributes
    ----------
    shape : TransformerShape or XLSTMShape
        The model; its `vocab_size` is at least the corpus's.
    corpus : str
        Folder of the corpus.
    context_length : int
        Tokens a sequence.
    batch_size : int
        Sequences an optimizer step, over all devices and micro-batches.
    steps : int
        Optimizer steps. Tokens trained on: ``batch_size * context_length * steps``.
    learning_rate : float
        Peak of the schedule; see `allometry.accounting.study_learning_rate`.
    seed : int
        Of the initial weights and of the order of the data, each from its own stream.
    schedule : {"study", "wsd"}
        See `learning_rate_at`.
    warmup_steps, cooldown_steps : int
        Parts of the schedule; 0 means the schedule's own rule.
    weight_decay : float
        On matrices only, the xLSTM's embedding excepted (as in the reference study).
    beta1, beta2, eps : float
        AdamW.
    clip : float
        Largest global gradient norm; 0 means no clipping.
    accumulation : int
        Micro-batches a step; `batch_size` is divisible by it.
    validation_points : int
        Validations, the last at the end, evenly spaced in steps; the same tokens each time.
    validation_tokens : int
        Tokens validated on, spread evenly over the validation split; 0 means all of it.
    mask_documents : bool
        Attention and state stop at the start of a document, as in the reference study.
    precision : {"auto", "float32", "bfloat16"}
        bfloat16 is autocast over float32 weights. ``auto``: bfloat16 on a GPU, float32 on a CPU.
    compile : bool
        Run the model through `torch.compile`.
    parallel : {"ddp", "fsdp"}
        With several processes (torchrun): a copy of the model in each, or its shards (FSDP2).
    device : str
        ``auto`` (a GPU if there is one), ``cpu`` or ``cuda``.
    threads : int
        CPU threads; 0 leaves PyTorch's choice. A resumed run is bit-equal for the same number.
    log_steps : int
        A row of the loss curve every so many steps; 0 means about 200 rows a run.
    checkpoint_seconds : float
        Time between checkpoints; 0 means after every step.
    keep_weights : bool
        Leave the final weights in the run's folder.
    """

    shape: Shape
    corpus: str
    context_length: int
    batch_size: int
    steps: int
    learning_rate: float
    seed: int = 0
    schedule: Schedule = "study"
    warmup_steps: int = 0
    cooldown_steps: int = 0
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-8
    clip: float = 0.5
    accumulation: int = 1
    validation_points: int = 9
    validation_tokens: int = 0
    mask_documents: bool = True
    precision: Precision = "auto"
    compile: bool = False
    parallel: Parallel = "ddp"
    device: str = "auto"
    threads: int = 0
    log_steps: int = 0
    checkpoint_seconds: float = 60.0
    keep_weights: bool = True

    def __post_init__(self) -> None:
        self._require_kinds()
        bad = [
            f"{name} {getattr(self, name)!r}" for name in _POSITIVE if not getattr(self, name) > 0
        ]
        if self.validation_points < 1:
            bad.append(f"validation_points {self.validation_points}")
        if bad:
            raise InputError(f"must be positive: {', '.join(bad)}", where="TrainConfig")
        if bad := [
            f"{name} {getattr(self, name)!r}" for name in _COUNTS if getattr(self, name) < 0
        ]:
            raise InputError(f"must not be negative: {', '.join(bad)}", where="TrainConfig")
        for name, most in _BELOW.items():
            if (value := getattr(self, name)) >= most:
                raise InputError(f"{name} must be below {most}, got {value}", where="TrainConfig")
        if self.batch_size % self.accumulation:
            what = f"batch_size {self.batch_size} is not divisible by accumulation "
            raise InputError(what + f"{self.accumulation}", where="TrainConfig")
        for name, kinds in (
            ("schedule", Schedule),
            ("precision", Precision),
            ("parallel", Parallel),
        ):
            if (value := getattr(self, name)) not in get_args(kinds):
                what = f"{name} must be one of {', '.join(get_args(kinds))}, got {value!r}"
                raise InputError(what, where="TrainConfig")

    def _require_kinds(self) -> None:
        # Values come from files and from NAME=VALUE.
        for field in fields(self):
            if field.type in _KINDS:
                _require_kind(field.name, getattr(self, field.name), field.type, "TrainConfig")

    @property
    def tokens(self) -> int:
        """Tokens trained on."""
        return self.batch_size * self.context_length * self.steps

    def to_json(self) -> dict[str, Any]:
        """Plain values, the shape with its architecture; `from_json` is the inverse."""
        document = asdict(self)
        document["shape"] = {"architecture": self.shape.architecture, **document["shape"]}
        return document

    @classmethod
    def from_json(cls, document: Mapping[str, Any], *, where: str = "config") -> "TrainConfig":
        """Config of `to_json`; an InputError names fields that are unknown or missing.

        Examples
        --------
        >>> shape = TransformerShape(d_model=64, n_layers=2, n_heads=4, vocab_size=256)
        >>> config = TrainConfig(
        ...     shape=shape, corpus="c", context_length=8, batch_size=8, steps=9, learning_rate=1e-3
        ... )
        >>> TrainConfig.from_json(config.to_json()) == config
        True
        """
        given_shape = document.get("shape")
        shape = dict(given_shape) if isinstance(given_shape, Mapping) else {}
        kind = _SHAPES.get(str(shape.pop("architecture", "")))
        if kind is None:
            what = "shape needs an architecture: " + " or ".join(_SHAPES)
            raise InputError(what, where=where)
        for name, known, given in (
            ("shape", fields(kind), shape),
            ("config", fields(cls), document),
        ):
            if unknown := [key for key in given if key not in {field.name for field in known}]:
                valid = ", ".join(field.name for field in known)
                what = f"unknown in {name}: {', '.join(unknown)}"
                raise InputError(what, where=where, hint=f"Valid are: {valid}.")
        for field in fields(kind):
            if field.name in shape:
                _require_kind(f"shape.{field.name}", shape[field.name], field.type, where)
        try:
            return cls(**{**document, "shape": kind(**shape)})
        except TypeError as error:  # says which argument is missing
            raise InputError(str(error).split("() ")[-1], where=where) from error

    def differences(self, other: "TrainConfig") -> list[str]:
        """Fields in which two configs would compute other numbers; not where or how fast."""
        mine, theirs = self.to_json(), other.to_json()
        return [name for name in mine if name not in _HOW_NOT_WHAT and mine[name] != theirs[name]]


_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    bool: (bool, "true or false"),
    str: (str, "text"),
}


def _require_kind(name: str, value: Any, wanted: Any, where: str) -> None:
    # A bool is no number, NaN and infinity neither.
    kind, said = _KINDS[wanted]
    fits = isinstance(value, kind) and (wanted is bool or not isinstance(value, bool))
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise InputError(f"{name} must be {said}, got {value!r}", where=where)


def corpus_path(config: TrainConfig) -> Path:
    """Folder of the corpus as a path."""
    return Path(config.corpus).expanduser()
