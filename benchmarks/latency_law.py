"""One latency law for all sizes against the study's form refitted for every size.

Every size, every batch, the longest prompts, the largest model and a tenth of all timings are left
out in turn and predicted. Prints the tables of docs/latency.md; --json FILE keeps every figure.

    python benchmarks/latency_law.py [--nuts] [--only NAME ...] [--json FILE] [--keep FILE]

With --json, splits that FILE holds already are not fitted again.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.optimize

from allometry.accounting.devices import named_device
from allometry.criticism.scores import covered, shares_if_right
from allometry.decisions.latency import check_points, latency_draws
from allometry.inference import LatencyPosterior, LatencySampler, fit_latency
from allometry.inference.latency_work import point_work, shapes_of, usable_rows
from allometry.observations import read_latency

DEVICE = named_device("h100-sxm")  # the study divides by its 989 TFLOP/s
LAW = "roofline-two-kernels"
LONGEST = 8192  # prompts of this length and more are left out together
BAND = (0.80, 0.97)  # coverage that an interval of 90 % is hoped to have, splits of a kind together
ROUNDS = 4  # in which each draw of a split stands once for what was observed


def study_form(train: pd.DataFrame, test: pd.DataFrame) -> np.ndarray:
    """FLOPs / alpha + eps (ttft), or bytes / beta + eps + batch eps_b (step), one fit a size.

    With right counts, non-negative, least squares of the relative error; NaN where the size was
    not timed.
    """
    predicted = np.full(len(test), np.nan)
    for keys, rows in test.groupby(["architecture", "params", "quantity"]):
        known = train[(train[["architecture", "params", "quantity"]] == list(keys)).all(axis=1)]
        if len(known) < 3:
            continue
        fitted, _ = scipy.optimize.nnls(
            _features(known) / known["seconds"].to_numpy()[:, None], np.ones(len(known))
        )
        predicted[test.index.get_indexer(rows.index)] = _features(rows) @ fitted
    return predicted


def _features(rows: pd.DataFrame) -> np.ndarray:
    shapes = shapes_of(rows)
    work = pd.DataFrame(
        [
            point_work(shape, row, units=DEVICE.units)
            for shape, (_, row) in zip(shapes, rows.iterrows(), strict=True)
        ]
    )
    ones = np.ones(len(rows))
    if rows["quantity"].iloc[0] == "ttft":
        flops = work["linear_flops"] + work["head_flops"] + work["pair_flops"]
        return np.column_stack([flops, ones])
    moved = work["weight_bytes"] + work["cache_bytes"]
    per_sequence = rows["batch_size"] * (rows["architecture"] == "transformer")
    return np.column_stack([moved, ones, per_sequence.to_numpy(dtype=float)])


def judge(
    name: str,
    train: pd.DataFrame,
    test: pd.DataFrame,
    sampler: LatencySampler,
    near: LatencyPosterior,
) -> pd.DataFrame:
    """Errors and coverage of both on the rows left out, by architecture and quantity."""
    posterior = near
    if len(train) < len(near.idata["observed_data"]["seconds"]):
        posterior = fit_latency(train, law=LAW, device=DEVICE, sampler=sampler, near=near)
    draws = latency_draws(posterior, check_points(test))
    seconds = test["seconds"].to_numpy()
    low, high = np.quantile(draws.run_seconds, [0.05, 0.95], axis=0)
    rows = test.assign(
        split=name,
        error=np.abs(np.median(draws.seconds, axis=0) / seconds - 1),
        covered=covered(draws.run_seconds, seconds, 0.9),
        width=np.log(high / low) / 2,
        study_error=np.abs(study_form(train, test) / seconds - 1),
    )
    keys = ["split", "architecture", "quantity"]
    found = rows.groupby(keys, as_index=False).agg(
        rows=("error", "size"),
        median_error=("error", "median"),
        p90_error=("error", lambda e: e.quantile(0.9)),
        coverage_90=("covered", "mean"),
        half_width=("width", "median"),
        study_error=("study_error", "median"),
    )
    parts = rows.groupby(keys).indices.values()
    shares = [shares_if_right(draws.run_seconds[:, part], 0.9).tolist() for part in parts]
    return found.assign(shares_if_right=shares)


def whole(table: pd.DataFrame, sampler: LatencySampler, keep: Path | None) -> LatencyPosterior:
    """The fit of everything, from a file that has it."""
    if keep is not None and keep.exists():
        return LatencyPosterior.load(keep)
    found = fit_latency(table, law=LAW, device=DEVICE, sampler=sampler)
    if keep is not None:
        found.save(keep)
    return found


def sizes(table: pd.DataFrame) -> pd.Series:
    """Nominal size of each row: both architectures have six."""
    ranks = table.groupby("architecture")["params"].rank(method="dense").astype(int) - 1
    return ranks.map(dict(enumerate(("160M", "400M", "830M", "1.4B", "2.7B", "7B"))))


def splits(table: pd.DataFrame) -> dict[str, pd.Series]:
    """Rows to leave out, by the name of the split."""
    size = sizes(table)
    tenth = np.random.default_rng(0).permutation(len(table)) % 10 == 0
    return (
        {"in sample": pd.Series(False, index=table.index)}
        | {f"size {name}": size == name for name in ("160M", "400M", "830M", "1.4B", "2.7B", "7B")}
        | {f"batch {b:.0f}": table["batch_size"] == b for b in sorted(table["batch_size"].unique())}
        | {f"prompts of {LONGEST} and more": table["prefill_length"] >= LONGEST}
        | {"tenth of timings": pd.Series(tenth, index=table.index)}
    )


def if_right(row: object) -> tuple[float, float]:
    """Between which shares nine in ten right forecasts of a row's timings would end."""
    low, high = np.quantile(row.shares_if_right, [0.05, 0.95])
    return float(low), float(high)


def outside(row: object, shares: np.ndarray) -> np.ndarray:
    """Which of some shares are outside the range of '90 if right' of a row."""
    low, high = if_right(row)
    return np.asarray((shares < low) | (shares > high))


def unlikely(table: pd.DataFrame) -> str:
    """Rows whose coverage is outside that range, and how many would be by chance."""
    out = [row for row in table.itertuples() if "in sample" not in row.split]
    lines = []
    for row in out:
        if outside(row, np.asarray(row.coverage_90)):
            share = np.asarray(row.shares_if_right)
            tail = min((share <= row.coverage_90).mean(), (share >= row.coverage_90).mean())
            name = f"{row.split}, {row.architecture} {row.quantity}"
            lines.append(f"{name}: {row.coverage_90:.0%}; so far out {tail:.1%} of right forecasts")
    worlds = zip(out, if_all_right(out), strict=True)
    chance = np.sum([outside(row, shares) for row, shares in worlds], axis=0)
    head = f"{len(lines)} of {len(out)} rows outside the shares of '90 if right'"
    return "\n".join([f"{head}, {counts(chance)} if all were right:", *lines])


def if_all_right(rows: list) -> list[np.ndarray]:
    """Shares of rows covered in one world after the other in which every forecast is right.

    Rows of a split share their draws; splits are taken as independent.
    """
    rng, orders = np.random.default_rng(0), {}
    worlds = ROUNDS * min(len(row.shares_if_right) for row in rows)
    for row in rows:
        if row.split not in orders:
            draws = len(row.shares_if_right)
            orders[row.split] = np.concatenate([rng.permutation(draws) for _ in range(ROUNDS)])
    return [np.asarray(row.shares_if_right)[orders[row.split][:worlds]] for row in rows]


def counts(found: np.ndarray) -> str:
    """Mean and 90 % range of counts."""
    low, high = np.quantile(found, [0.05, 0.95])
    return f"{found.mean():.1f} ({low:.0f} to {high:.0f})"


def held(table: pd.DataFrame) -> str:
    """How probable it is that the coverage of right forecasts is in the band, kind by kind."""
    cells = [row for row in pooled(table).itertuples() if "in sample" not in row.split]
    low, high = BAND
    band = f"{low:.0%} to {high:.0%}"
    lines = [
        f"| left out | architecture | quantity | coverage | {band} if right | is |",
        "|---|---|---|---|---|---|",
    ]
    for row in cells:
        right = ((row.shares_if_right >= low) & (row.shares_if_right <= high)).mean()
        lines.append(
            f"| {row.split} | {row.architecture} | {row.quantity} | {row.coverage_90:.0%} "
            f"| {right:.0%} | {'yes' if low <= row.coverage_90 <= high else 'no'} |"
        )
    count = sum(low <= row.coverage_90 <= high for row in cells)
    chance = sum((row.shares_if_right >= low) & (row.shares_if_right <= high) for row in cells)
    verdict = f"{count} of {len(cells)} cells at {band}, {counts(chance)} if all were right"
    return "\n".join([*lines, "", verdict])


def markdown(table: pd.DataFrame) -> str:
    """One row a split, architecture and quantity."""
    lines = [
        "| left out | architecture | quantity | rows | median error | 90 % of errors below "
        "| 90 % coverage | 90 if right | half width | study's form, a fit a size |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table.itertuples():
        study = "-" if np.isnan(row.study_error) else f"{row.study_error:.1%}"
        least, most = if_right(row)
        right = "-" if "in sample" in row.split else f"{least:.0%} to {most:.0%}"
        lines.append(
            f"| {row.split} | {row.architecture} | {row.quantity} | {row.rows} "
            f"| {row.median_error:.1%} | {row.p90_error:.1%} | {row.coverage_90:.0%} "
            f"| {right} | {row.half_width:.1%} | {study} |"
        )
    return "\n".join(lines)


def pooled(table: pd.DataFrame) -> pd.DataFrame:
    """Splits of one kind together, weighted by rows."""
    kind = table["split"].str.split(" ").str[0].replace({"in": "nothing (in sample)"})
    kind = kind.replace({"size": "each size", "batch": "each batch", "prompts": "longest prompts"})
    kind = kind.replace({"tenth": "a tenth of timings, scattered"})
    columns = ["median_error", "p90_error", "coverage_90", "half_width", "study_error"]
    table = table.assign(split=kind, if_all_right=if_all_right(list(table.itertuples())))
    rows = []
    for keys, part in table.groupby(["split", "architecture", "quantity"], sort=False):
        weight = part["rows"]
        means = {
            c: float((part[c] * weight).sum() / weight[part[c].notna()].sum())
            if part[c].notna().any()
            else np.nan
            for c in columns
        }
        together = weight.to_numpy() @ np.stack(list(part["if_all_right"])) / weight.sum()
        rows.append(
            dict(zip(["split", "architecture", "quantity"], keys, strict=True))
            | {"rows": int(weight.sum())}
            | means
            | {"shares_if_right": together}
        )
    return pd.DataFrame(rows)


def field_numbers(posterior: LatencyPosterior) -> str:
    """Medians of the numbers of what the law misses, one row an architecture and phase."""
    lines = [
        "| architecture | quantity | a shape's own spread of launches, products, mixing, wait "
        "| in common | doublings of rows, sequences, prompt, params | smoothness | noise |",
        "|---|---|---|---|---|---|---|",
    ]
    for architecture in posterior.record.architectures:
        for quantity in ("step_time", "ttft"):
            fields = [field for field, _ in posterior.fields(architecture, quantity)]
            parts = 4 if quantity == "step_time" else 3  # a prefill waits for none
            spread, common, length = (
                np.median([getattr(field, name) for field in fields], axis=0)
                for name in ("spread", "common", "length")
            )
            power, noise = (
                np.median([getattr(field, name) for field in fields]) for name in ("power", "noise")
            )
            own, shared = (", ".join(f"{s:.1%}" for s in v[:parts]) for v in (spread, common))
            lines.append(
                f"| {architecture} | {quantity} | {own} | {shared} "
                f"| {', '.join(f'{d:.3g}' for d in length)} | {power:.1f} | {noise:.2%} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nuts", action="store_true", help="sample every refit (slow)")
    parser.add_argument("--only", nargs="*", help="splits whose name contains one of these")
    parser.add_argument("--json", type=Path, help="write every figure here")
    parser.add_argument("--keep", type=Path, help="the fit of everything: read, or written")
    options = parser.parse_args()
    sampler = LatencySampler(method="nuts" if options.nuts else "laplace", draws=240)
    table = usable_rows(read_latency("latency").table).table
    found, near = [], None
    if options.json and options.json.exists():
        found = [pd.DataFrame(json.loads(options.json.read_text()))]
    done = set(found[0]["split"]) if found else set()
    for name, left_out in splits(table).items():
        wanted = not options.only or any(part in name for part in options.only)
        if name in done or not wanted:
            continue
        began = time.process_time()
        if near is None:
            near = whole(table, sampler, options.keep)
        train = table[~left_out].reset_index(drop=True)
        test = (table[left_out] if left_out.any() else table).reset_index(drop=True)
        found.append(judge(name, train, test, sampler, near))
        print(f"# {name}: {len(test)} rows, {time.process_time() - began:.0f} CPU s", flush=True)
        if options.json:
            options.json.write_text(json.dumps(pd.concat(found).to_dict("records"), indent=1))
    everything = pd.concat(found, ignore_index=True)
    if near is not None:
        print("\n" + field_numbers(near))
    print("\n" + markdown(pooled(everything)) + "\n\n" + markdown(everything))
    print("\n" + unlikely(everything) + "\n\n" + held(everything))


if __name__ == "__main__":
    main()
