"""Names people give to columns, and the canonical name each is read as."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from allometry.errors import InputError
from allometry.observations.cells import parse_numbers
from allometry.observations.units import COUNTS, UNITS, total_flops, unit_of

ALIASES: dict[str, list[str]] = {
    "params": (
        "n params num_params n_params nparams param params_count param_count parameter_count "
        "parameter parameters num_parameters n_parameters total_params params_total "
        "total_parameters "
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
        "flops_budget flop_budget num_flops total_compute total_floating_point_operations "
        "total_flos throughput/total_flops throughput/total_training_flops"
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
        "params_without_embedding params_without_embeddings non_emb_params params_non_emb "
        "n_non_embedding n_nonemb"
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

TRAINING_LOSS = "the training loss, not a held-out one"

NOT_LOSS = {
    "trainloss": TRAINING_LOSS,
    "trainlossfinal": TRAINING_LOSS,
    "finaltrainloss": TRAINING_LOSS,
    "trainingloss": TRAINING_LOSS,
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
    >>> recognise("eval/loss"), recognise("N (B)"), recognise("temperature")
    (('loss', 1.0), ('params', 1000000000.0), None)
    >>> recognise("compute (PF-days)")
    ('flops', 8.64e+19)
    """
    key = simplified(name)
    if key in names:
        return names[key], 1.0
    if bracketed := _BRACKETED.fullmatch(name):
        target = names.get(simplified(bracketed["name"]))
        multiplier = unit_of(bracketed["unit"], target)
        if target is not None and multiplier is not None:
            return target, multiplier
    for unit, multiplier in UNITS.items():
        for stem in (key.removesuffix(unit), key.removesuffix("in" + unit)):
            target = names.get(stem)
            if stem != key and len(stem) > 2 and target in COUNTS:  # not "nb", "dm"
                return target, multiplier
    if (counted := total_flops(key)) and names.get(counted[0]) == "flops":
        return "flops", counted[1]
    return None


def recognise_setting(name: str) -> tuple[str, float] | None:
    """Return what the end of a path names: ``run/config/num_parameters``, ``train.total_flos``.

    Never a loss: whose it is, the path says.
    """
    *folders, last = re.split(r"[/.:]", name)
    if not folders or not all(simplified(part) in _FOLDERS for part in folders):
        return None
    found = recognise(last) if len(simplified(last)) > 2 else None
    return found if found and found[0] in _SETTINGS else None


_SETTINGS = ("params", "tokens", "flops", "architecture", "context_length")
_FOLDERS = (
    "args cfg config final hparams hyperparameters metrics model run state summary train trainer "
    "training"
).split()
_BRACKETED = re.compile(r"(?P<name>.+?)\s*[(\[](?P<unit>[^()\[\]]+)[)\]]\s*")


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
    unread = []
    for column in map(str, table.columns):
        found = recognise(column, names) if column not in chosen else None
        if found and found[0] not in taken:
            candidates.setdefault(found[0], []).append((column, found[1]))
        elif not found and column not in chosen:
            unread.append(column)
    clear = {*taken, *candidates}
    for column in unread if names is _RUNS else ():
        found = recognise_setting(column)
        if found and found[0] not in clear:
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
        rival = next((name for name in reversed(rivals) if name != target), rivals[-1])
        example = f'aliases={{"{rival}": "{target}"}} (--alias "{rival}={target}")'
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
