"""Names people give to columns, and the canonical name each is read as."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
import pandas as pd

from allometry.errors import InputError

ALIASES: dict[str, list[str]] = {
    "params": (
        "n params num_params n_params nparams param params_count param_count parameter_count "
        "parameters num_parameters n_parameters total_params params_total total_parameters "
        "model_params model_parameters model_size params_active params_active_precise "
        "active_params active_parameters params_with_embedding params_with_embeddings "
        "trainable_params trainable_parameters"
    ).split(),
    "tokens": (
        "d tokens num_tokens n_tokens ntokens token_count train_tokens training_tokens "
        "tokens_trained train_tokens_seen tokens_seen training_tokens_seen total_tokens "
        "consumed_tokens consumed_train_tokens num_train_tokens n_train_tokens "
        "num_input_tokens_seen dataset_size_tokens throughput/total_tokens"
    ).split(),
    "flops": (
        "c flops flop total_flops train_flops training_flops training_flop training_compute "
        "train_compute compute compute_flops flops_total total_flop budget compute_budget "
        "flops_budget flop_budget num_flops total_compute total_floating_point_operations"
    ).split(),
    "loss": (
        "loss val_loss validation_loss valid_loss eval_loss evaluation_loss test_loss final_loss "
        "final_val_loss final_validation_loss final_eval_loss final_test_loss heldout_loss "
        "held_out_loss loss_val loss_eval loss_nats val_loss_nats loss_cross_entropy "
        "cross_entropy cross_entropy_loss val_cross_entropy val_ce nll val_nll "
        "validation/loss/mean best_val_loss"
    ).split(),
    "architecture": "arch architecture model_arch model_architecture model_family family".split(),
    "context_length": (
        "ctx context_length context context_len ctx_len ctx_length context_size context_window "
        "seq_len seqlen seq_length sequence_length max_seq_len max_seq_length block_size n_ctx "
        "max_position_embeddings train_context_length train_seq_len seq"
    ).split(),
    "params_non_embedding": (
        "params_non_embedding non_embedding_params non_embedding_parameters params_nonembedding "
        "params_no_embedding params_no_embed num_params_non_embedding n_params_non_embedding "
        "params_without_embedding params_without_embeddings non_emb_params"
    ).split(),
    "run_id": "run_id run_name run id name wandb_id experiment_id uuid".split(),
    "batch_size": "batch_size bs global_batch_size train_batch_size".split(),
    "learning_rate": "learning_rate lr max_lr peak_lr max_learning_rate".split(),
    "d_model": "d_model hidden_size hidden_dim n_embd embedding_dim model_dim".split(),
    "n_layers": "n_layers n_layer num_layers num_hidden_layers num_blocks n_blocks".split(),
    "n_heads": "n_heads n_head num_heads num_attention_heads".split(),
    "d_ff": "d_ff ffn_dim intermediate_size mlp_dim feed_forward_dim".split(),
    "unique_tokens": "unique_tokens num_unique_tokens unique_train_tokens".split(),
    "epochs": "epochs num_epochs n_epochs".split(),
    "seed": "seed random_seed".split(),
    "loss_stderr": "loss_stderr loss_se loss_std_err loss_standard_error val_loss_stderr".split(),
    "diverged": "diverged is_diverged has_diverged".split(),
}
"""Canonical name -> names read as it. Case, spaces and punctuation do not count."""

MUST_BE_CLEAR = ("params", "tokens", "flops", "loss", "architecture", "context_length")
"""Where two candidates disagree, the reader asks; for other columns it leaves both alone."""

NEVER_BY_NAME = ("loss",)
"""Asked for even if one candidate bears the name: beside ``eval/loss`` it is a training loss."""

UNITS = {
    "k": 1e3, "thousand": 1e3, "thousands": 1e3, "m": 1e6, "mn": 1e6, "million": 1e6,
    "millions": 1e6, "b": 1e9, "g": 1e9, "bn": 1e9, "billion": 1e9, "billions": 1e9, "t": 1e12,
    "tn": 1e12, "trillion": 1e12, "trillions": 1e12,
}  # fmt: skip
"""Multipliers in column names ("params (B)") and cells ("2.8B")."""

_FLOP_UNITS = {"p": 1e15, "e": 1e18, "z": 1e21, "y": 1e24}

NOT_LOSS = {
    "trainloss": "the training loss, not a held-out one",
    "trainlossfinal": "the training loss, not a held-out one",
    "finaltrainloss": "the training loss, not a held-out one",
    "ppl": "a perplexity: its natural log is the loss",
    "perplexity": "a perplexity: its natural log is the loss",
    "valppl": "a perplexity: its natural log is the loss",
    "evalperplexity": "a perplexity: its natural log is the loss",
    "bpb": "bits per byte, not nats per token",
    "bitsperbyte": "bits per byte, not nats per token",
    "bpc": "bits per character, not nats per token",
}
"""Columns that look like a loss and are not, and why."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnMap:
    """How the columns of one table are read.

    Attributes
    ----------
    canonical : dict of str to str
        Column of the table -> canonical name, renamed ones only.
    scale : dict of str to float
        Canonical name -> multiplier that its column's name asked for ("tokens_b": 1e9).
    warnings : tuple of str
        Choices that a person may want to know of.
    """

    canonical: dict[str, str]
    scale: dict[str, float]
    warnings: tuple[str, ...]


def simplified(name: str) -> str:
    """Column name without case, spaces and punctuation: what aliases are compared by."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def vocabulary(aliases: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Simplified name -> canonical name, from canonical name -> names read as it."""
    return {simplified(name): to for to, names in aliases.items() for name in (to, *names)}


_RUNS = vocabulary(ALIASES)


def recognise(name: str, names: Mapping[str, str] = _RUNS) -> tuple[str, float] | None:
    """Return the canonical name and multiplier of a foreign column, or None.

    Examples
    --------
    >>> recognise("eval/loss"), recognise("Params (B)"), recognise("temperature")
    (('loss', 1.0), ('params', 1000000000.0), None)
    """
    key = simplified(name)
    if key in names:
        return names[key], 1.0
    countable = ("params", "tokens", "params_non_embedding", "unique_tokens")
    for unit, multiplier in UNITS.items():
        for stem in (key.removesuffix(unit), key.removesuffix("in" + unit)):
            target = names.get(stem)
            if stem != key and len(stem) > 2 and target in countable:  # not "nb", "dm"
                return target, multiplier
    return None


def map_columns(
    table: pd.DataFrame,
    *,
    aliases: Mapping[str, str] | None = None,
    source: str = "table",
    names: Mapping[str, str] = _RUNS,
    must_be_clear: Sequence[str] = MUST_BE_CLEAR,
) -> ColumnMap:
    """Decide which column of a foreign table is read as which canonical one.

    Parameters
    ----------
    table : DataFrame
        As loaded; values are looked at only to see whether two candidates agree.
    aliases : mapping of str to str, optional
        Column -> name to read it as. Wins over every guess; any new name is allowed, which takes a
        column out of the way.
    source : str
        What to call the table in errors.
    names : mapping of str to str
        Names known by themselves, as `vocabulary` makes them.
    must_be_clear : sequence of str
        Canonical names for which two candidates that differ are an error.

    Raises
    ------
    InputError
        If an alias names no column, or two columns that bear other names claim one canonical name
        with other values. A column that bears the canonical name itself wins, with a warning (but
        for loss).
    """
    chosen = dict(aliases or {})
    _check_aliases(table, chosen, source)
    taken = {target: column for column, target in chosen.items()}
    canonical = {column: target for column, target in chosen.items() if column != target}
    candidates: dict[str, list[tuple[str, float]]] = {}
    for column in map(str, table.columns):
        found = recognise(column, names) if column not in chosen else None
        if found and found[0] not in taken:
            candidates.setdefault(found[0], []).append((column, found[1]))
    scale: dict[str, float] = {}
    notes: list[str] = []
    unclear: dict[str, list[str]] = {}
    for target, options in candidates.items():
        best = _first_choice(table, target, options)
        if best is None:
            rivals = [column for column, _ in options]
            if target in rivals and target not in NEVER_BY_NAME:
                others = ", ".join(repr(column) for column in rivals if column != target)
                notes.append(
                    f"{target!r} is read as {target}; {others} differs and is left as it is"
                )
                continue
            if target in must_be_clear:
                unclear[target] = rivals
            else:
                listed = ", ".join(map(repr, rivals))
                notes.append(f"{listed} could each be {target} and differ; left as they are")
            continue
        column, multiplier = best
        if column != target:
            canonical[column] = target
        if multiplier != 1.0:
            scale[target] = multiplier
            notes.append(f"{column!r} multiplied by {multiplier:g} to give {target}")
    if unclear:
        what = "; ".join(
            f"{target} could be {' or '.join(map(repr, rivals))}, and they differ"
            for target, rivals in unclear.items()
        )
        target, rivals = next(iter(unclear.items()))
        example = f'aliases={{"{rivals[-1]}": "{target}"}} (--alias "{rivals[-1]}={target}")'
        hint = f"Say which: {example}."
        raise InputError(what, where=source, hint=hint)
    return ColumnMap(canonical=canonical, scale=scale, warnings=tuple(notes))


def apply_map(table: pd.DataFrame, mapping: ColumnMap) -> pd.DataFrame:
    """Table with canonical names; a column that another one displaces is kept under ``NAME_2``."""
    renamed = dict(mapping.canonical)
    for column in map(str, table.columns):
        if column in renamed.values() and column not in renamed:
            renamed[column] = f"{column}_2"
    return table.rename(columns=str).rename(columns=renamed)


def parse_numbers(column: pd.Series, *, kind: str) -> tuple[pd.Series, dict[str, float]]:
    """Numbers of a column that may hold text such as "2.8B".

    Parameters
    ----------
    column : Series
        Any dtype.
    kind : str
        Canonical name: ``flops`` also knows P, E, Z, Y; in ``context_length`` k is 1024.

    Returns
    -------
    numbers : Series of float64
        NaN where the cell is missing or cannot be read.
    read : dict of str to float
        Distinct texts with a unit that were read, and as what.
    """
    if pd.api.types.is_bool_dtype(column):
        return pd.Series(np.nan, index=column.index), {}
    if pd.api.types.is_numeric_dtype(column):
        return column.astype("float64"), {}
    texts = column.astype("object")
    parsed = {text: parse_number(text, kind=kind) for text in texts.dropna().unique()}
    numbers = texts.map(parsed).astype("float64")
    units = {
        str(text): value
        for text, value in parsed.items()
        if isinstance(text, str) and np.isfinite(value) and _plain_number(text) is None
    }
    return numbers, units


def parse_number(text: object, *, kind: str = "params") -> float:
    """One number from a cell; NaN if it is none.

    Examples
    --------
    >>> [parse_number(x) for x in ("2.8B", "300M", "1e9", "1.4 T", "1,000,000", "about 7")]
    [2800000000.0, 300000000.0, 1000000000.0, 1400000000000.0, 1000000.0, nan]
    >>> parse_number("8k", kind="context_length")
    8192.0
    """
    if isinstance(text, bool):
        return float("nan")
    if isinstance(text, (int, float, np.number, Decimal)):
        try:
            return float(text)
        except OverflowError:  # an int of more than 308 digits
            return math.inf if text > 0 else -math.inf
    if not isinstance(text, str):
        return float("nan")
    plain = _plain_number(text)
    if plain is not None:
        return plain
    match = _QUANTITY.fullmatch(text.strip())
    if not match:
        return float("nan")
    number = float(match["number"].replace(",", "").replace("_", ""))
    unit = (match["unit"] or "").lower()
    known = UNITS | (_FLOP_UNITS if kind == "flops" else {})
    if kind == "context_length":
        known = {"k": 1024.0, "m": 1024.0**2}
    return number * known[unit] if unit in known else (number if not unit else float("nan"))


_QUANTITY = re.compile(
    r"(?P<number>[+-]?(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d[\d_]*\.?\d*|\.\d+)(?:e[+-]?\d+)?)"
    r"\s*(?P<unit>thousands?|millions?|billions?|trillions?|mn|bn|tn|[kmbgtpezy])?"
    r"\s*(?:params?|parameters?|tokens?|flops?)?",
    re.IGNORECASE,
)


def _plain_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _check_aliases(table: pd.DataFrame, aliases: Mapping[str, str], source: str) -> None:
    columns = [str(column) for column in table.columns]
    if unknown := [column for column in aliases if column not in columns]:
        what = f"aliases name no column {', '.join(map(repr, unknown))}; found {', '.join(columns)}"
        raise InputError(what, where=source, hint="Write the column as the table spells it.")
    targets = list(aliases.values())
    if twice := sorted({target for target in targets if targets.count(target) > 1}):
        hint = "Give each name one column."
        raise InputError(f"aliases map two columns to {', '.join(twice)}", where=source, hint=hint)


def _first_choice(
    table: pd.DataFrame, target: str, options: list[tuple[str, float]]
) -> tuple[str, float] | None:
    # The only candidate, or the canonical one when all say the same; None asks.
    options = sorted(options, key=lambda option: option[0] != target)
    filled = [option for option in options if table[option[0]].notna().any()]
    if len(filled) <= 1:
        return (filled or options)[0]
    first = _comparable(table[filled[0][0]], target, filled[0][1])
    same = all(
        first.equals(_comparable(table[column], target, multiplier))
        for column, multiplier in filled[1:]
    )
    return filled[0] if same else None


def _comparable(column: pd.Series, target: str, multiplier: float) -> pd.Series:
    if target in ("architecture", "run_id"):
        return column.astype("object").astype(str)
    return parse_numbers(column, kind=target)[0] * multiplier
