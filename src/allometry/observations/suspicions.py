"""Figures that pass every rule and still look wrong, each as one sentence with its numbers."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from allometry.observations.catalogue import TOKENS_REPEAT
from allometry.observations.outliers import FEWEST_RUNS, fit_surface, split_groups
from allometry.observations.schema import name_rows
from allometry.observations.settings import settings_suspicion

REPEATED = 2.0
"""Epochs from which on text is seen again as a whole."""

UNFINISHED = ("crashed", "failed", "killed", "preempted", "preempting", "running", "pending")
"""What trackers of experiments write in a column `State` of a run that did not end."""

_ENOUGH = 100  # runs that fix E far better than the 5 % asked of it
NATS_PER_BIT = float(np.log(2.0))
_PERPLEXITY = 8.0  # of loss: 5.5 nats if bits, a model that has hardly begun to learn
_BITS = (1.3, 1.9)  # the studies in `catalogue` have 1.00 to 1.18; in bits 1.44 to 1.70


def suspicions(
    table: pd.DataFrame, *, by: Sequence[str] = (), loss_unit: str = "nats per token"
) -> list[str]:
    """Everything about validated runs that a person should look at once.

    Parameters
    ----------
    table : DataFrame
        Validated runs; the index is what messages call the row.
    by : sequence of str
        Columns whose cells are groups.
    loss_unit : str
        Where it is not nats per token, the size of the loss is not judged.

    Returns
    -------
    list of str
        One sentence a suspicion, with figures and rows; empty where all is as expected.
    """
    found = [
        *_sizes_in_billions(table),
        *_fewer_tokens_than_params(table),
        *_flops_against_6nd(table),
        *_without_embeddings(table),
        *_repeated_names(table),
        *_unfinished(table),
        *_repeated_text(table),
        *settings_suspicion(table, by),
        *_small_groups(table, by),
        *_below_asymptote(table, by),
    ]
    return found + (_loss_unit(table) if loss_unit == "nats per token" else [])


def _repeated_text(table: pd.DataFrame) -> list[str]:
    epochs = table["epochs"] if "epochs" in table else pd.Series(dtype=float)
    return [TOKENS_REPEAT] if (epochs >= REPEATED).any() else []


def _sizes_in_billions(table: pd.DataFrame) -> list[str]:
    # No language model of the field has fewer than ten thousand parameters or tokens.
    least = 1e4
    if "flops" in table and table["flops"].notna().any():
        ratio = (table["flops"] / (6.0 * table["params"] * table["tokens"])).median()
        if 0.1 < ratio < 10.0 and table["flops"].min() > 1e7:
            return []  # sizes agree with FLOPs that a computer can count: they are in units of one
        least = 1e5
    return [
        f"{name} run from {table[name].min():.4g} to {table[name].max():.4g}: in millions or "
        f'billions? They are taken as they are, in units of one; a column named "{name} (M)" or '
        f'"{name} (B)" settles it'
        for name in ("params", "tokens")
        if table[name].max() < least
    ]


def _fewer_tokens_than_params(table: pd.DataFrame) -> list[str]:
    # At most 5 % of the runs of any public study have fewer tokens than params.
    ratio = table["tokens"] / table["params"]
    few = ratio < 1.0
    if few.mean() <= 0.5:
        return []
    return [
        f"{int(few.sum())} of {len(table)} runs have fewer tokens than params "
        f"({ratio.median():.2g} tokens a param in the median): are the two columns swapped?"
    ]


def _flops_against_6nd(table: pd.DataFrame) -> list[str]:
    if "flops" not in table:
        return []
    ratio = table["flops"] / (6.0 * table["params"] * table["tokens"])
    off = ratio[(ratio > 3.0) | (ratio < 1.0 / 3.0)]
    if off.empty:
        return []
    per_token = (table["flops"] / (6.0 * table["params"])).loc[off.index]
    guess = ""
    if per_token.between(1 / 3, 3).all():
        guess = "; they look like FLOPs of one token"
    elif off.max() < 1 / 3:
        guess = "; they look like FLOPs of a step or a sequence, or in other units"
    return [
        f"flops are {off.median():.3g} x 6ND in the median, beyond a factor of 3, in {len(off)} of "
        f"{len(table)} runs ({name_rows(off.index)}){guess}; total training FLOPs are expected"
    ]


def _published_loss(table: pd.DataFrame) -> pd.Series:
    """Loss of Chinchilla's runs at these sizes: Besiroglu et al. 2024, arXiv:2404.10102."""
    return 1.8172 + 482.01 / table["params"] ** 0.3478 + 2085.43 / table["tokens"] ** 0.3658


def _loss_unit(table: pd.DataFrame) -> list[str]:
    loss = table["loss"]
    median = float(loss.median())
    guessed = False
    if "vocab_size" in table and pd.api.types.is_numeric_dtype(table["vocab_size"]):
        uniform = np.log(table["vocab_size"].astype(float))
        over = loss.index[loss > uniform]
        if len(over):
            return [f"loss is above log(vocab_size), a uniform guess, in {name_rows(over)}: bits?"]
        guessed = bool((loss <= uniform).all())
    if median > _PERPLEXITY:
        return [
            f"loss has median {median:.3g}: a perplexity? Its natural log would be "
            f"{np.log(median):.3g} nats; nats per token are expected"
        ]
    if median > 5.0 and not guessed:  # small models learn little; none knows less than a guess
        return [
            f"loss has median {median:.3g}: bits per token? That would be "
            f"{median * NATS_PER_BIT:.3g} nats; nats per token are expected"
        ]
    if median < 1.2:
        return [
            f"loss has median {median:.3g}: per byte or per character? Nats per token are "
            f"expected, mostly 1.5 to 5; priors on E assume them"
        ]
    usual = (table["params"] > 1e7) & (table["tokens"] > 1e8)
    ratio = float((loss / _published_loss(table))[usual].median())
    if _BITS[0] < ratio < _BITS[1]:
        return [
            f"loss is {ratio:.2f} x that of Chinchilla's runs at the same sizes in the median: "
            f"bits per token? They are 1.44 x nats; nats per token are expected"
        ]
    return []


def _without_embeddings(table: pd.DataFrame) -> list[str]:
    if "params_non_embedding" in table:
        same = table.index[table["params"] <= table["params_non_embedding"]]
        if len(same):
            what = "params are not above params_non_embedding"
            return [f"{what} in {name_rows(same)}: params should count the embeddings too"]
        return []
    if not {"d_model", "n_layers"} <= set(table.columns):
        return []
    width, layers = table["d_model"], table["n_layers"]
    feed_forward = 3.0 * table["d_ff"] if "d_ff" in table else 8.0 * width
    blocks = layers * width * (4.0 * width + feed_forward)
    # 32,000 rows is a small vocabulary; below 5 % of the total the two counts cannot be told apart.
    visible = (32_000.0 * width > 0.05 * blocks) & blocks.notna()
    near = visible & ((table["params"] / blocks - 1.0).abs() < 0.02)
    if not visible.any() or near.sum() < 0.5 * visible.sum():
        return []
    return [
        f"params equal the blocks alone, without embeddings, within 2 % in {int(near.sum())} of "
        f"{len(table)} runs ({name_rows(table.index[near])}); the count with embeddings is expected"
    ]


def _unfinished(table: pd.DataFrame) -> list[str]:
    for column in table.columns:
        if str(column).lower() in ("state", "status", "run_state"):
            words = table[column].astype(str).str.strip().str.lower()
            rows = table.index[words.isin(UNFINISHED)]
            if len(rows):
                return [
                    f"{column} says {', '.join(sorted(set(words[rows])))} in {name_rows(rows)}: "
                    f"the loss of an unfinished run is not that of its tokens; leave it out with "
                    f"exclude='{column} == \"{table[column][rows[0]]}\"' (--exclude)"
                ]
    return []


def _repeated_names(table: pd.DataFrame) -> list[str]:
    if "run_id" not in table:
        return []
    names = table["run_id"].dropna()
    repeated = names[names.duplicated(keep=False)]
    if repeated.empty:
        return []
    return [
        f"{repeated.nunique()} run_id(s) appear on several rows ({name_rows(repeated.index)}): "
        f"checkpoints of one run are not independent runs"
    ]


def _small_groups(table: pd.DataFrame, by: Sequence[str]) -> list[str]:
    small = [
        f"{' '.join(map(str, cell.values())) or 'all'} ({len(group)})"
        for cell, group in split_groups(table, by)
        if len(group) < 6
    ]
    if not small:
        return []
    listed = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
    return [f"groups with fewer than 6 runs lean on the others or on the prior: {listed}"]


def _below_asymptote(table: pd.DataFrame, by: Sequence[str]) -> list[str]:
    # A loss far below the E that all other runs point to: another unit, test set or tokenizer.
    found = []
    for cell, group in split_groups(table, by):
        if len(group) < FEWEST_RUNS:
            continue
        losses = group["loss"].to_numpy()
        lowest = int(losses.argmin())
        others = group.drop(index=group.index[lowest])
        asymptote = fit_surface(others.iloc[:: 1 + len(others) // _ENOUGH], steps=12).E
        # 5 %: what an additive law overstates E by where the true law bends otherwise.
        if losses[lowest] < 0.95 * asymptote:
            name = " ".join(map(str, cell.values())) or "all runs"
            found.append(
                f"loss {losses[lowest]:.4g} in row {group.index[lowest]} is below E = "
                f"{asymptote:.4g} that the other runs of {name} point to: another unit or test set?"
            )
    return found
