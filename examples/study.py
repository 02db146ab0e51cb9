# %% [markdown]
# # Transformer against xLSTM: from 640 runs to decisions
#
# The public runs of "xLSTM Scaling Laws" (arXiv:2510.02228): two architectures, three context
# lengths, isoflop and token/param runs. One hierarchical model is fitted to all of them; growth
# laws are printed beside the published ones, with probabilities for what the study says in words.
# From the shell, with any runs table that has `architecture` and `context_length`:
#
#     python examples/study.py --runs xlstm --output output/study

# %%
import sys
from pathlib import Path
from typing import Annotated

import cyclopts
import numpy as np
import pandas as pd

from allometry.cli.output import emit
from allometry.cli.runtime import prepare_jax, stages
from allometry.decisions import allocate, compare, growth_law
from allometry.decisions.optimum import optimum
from allometry.errors import AllometryError
from allometry.inference import Posterior, Sampler, fit, interval_columns
from allometry.observations import read_runs
from allometry.plots import Request, draw_figure, plot_exponents
from allometry.plots.writing import save_figure

# %% [markdown]
# Published exponents of N* and D* in compute: a line through the minima of least squares parabolas
# at the budgets 6e18, 1e19 and 3e19 of each context (same paper).

# %%
PUBLISHED_RANGE = (6e18, 3e19)  # FLOPs
PUBLISHED = pd.DataFrame(
    [
        ("transformer", 2048, 0.5535, 0.4226),
        ("transformer", 8192, 0.5773, 0.4219),
        ("transformer", 16384, 0.5693, 0.4325),
        ("xlstm", 2048, 0.5555, 0.4031),
        ("xlstm", 8192, 0.5406, 0.4288),
        ("xlstm", 16384, 0.5660, 0.3852),
    ],
    columns=["architecture", "context_length", "params_exponent", "tokens_exponent"],
)


# %% [markdown]
# ## Fit, and whether to believe it


# %%
def fit_runs(runs: str, *, seed: int = 0, sampler: Sampler | None = None) -> Posterior:
    """The default model on a runs table, with a progress bar."""
    with stages() as bar:
        table = read_runs(runs)
        return fit(table, sampler=sampler or Sampler(), seed=seed, progress=bar)


def convergence_table(posterior: Posterior) -> pd.DataFrame:
    c = posterior.record.convergence
    return pd.DataFrame(
        {
            "runs": [posterior.idata["observed_data"].sizes["run"]],
            "method": [posterior.record.method],
            "converged": [c.converged],
            "divergences": [c.divergences],
            "max_rhat": [c.max_rhat],
            "min_ess_bulk": [c.min_ess_bulk],
            "min_ess_tail": [c.min_ess_tail],
            "seconds": [c.seconds],
        }
    )


# %% [markdown]
# ## Growth laws beside the published ones
#
# Over the published range of budgets: the slopes of log N* and log D* in log C along the true
# C(N, D) of each group.


# %%
def growth_table(posterior: Posterior, *, published: bool) -> pd.DataFrame:
    low, high = PUBLISHED_RANGE if published else (None, None)
    ours = growth_law(posterior, flops_low=low, flops_high=high)
    names = [f"{q}_exponent_{s}" for q in ("params", "tokens") for s in ("median", "q5", "q95")]
    table = ours[[*posterior.groups.columns, *names]]
    if published:
        renamed = {f"{q}_exponent": f"{q}_published" for q in ("params", "tokens")}
        table = table.merge(PUBLISHED.rename(columns=renamed), how="left")
    return table


# %% [markdown]
# ## Does the compute-optimal size shrink with context?
#
# N* at the longest context over N* at the shortest one, at equal compute, draw by draw; and the
# probability that it is below one. The study says: it shrinks for the Transformer, whose attention
# costs more FLOPs a token, and hardly for the xLSTM.


# %%
def shrinkage_table(posterior: Posterior, flops: tuple[float, ...]) -> pd.DataFrame:
    groups = posterior.groups.assign(_index=np.arange(len(posterior.groups)))
    rows, ratios = [], {}
    for name, part in groups.groupby("architecture", sort=False):
        ends = part.sort_values("context_length").iloc[[0, -1]]
        for budget in flops:
            index = ends["_index"].to_numpy()
            params, _, _ = optimum(posterior, index, np.full(2, float(budget)))
            ratio = params[:, 1] / params[:, 0]
            ratios[str(name), budget] = ratio
            ends_text = " / ".join(map(str, ends["context_length"].to_numpy()[::-1]))
            shrinks = {"probability_shrinks": (ratio < 1).mean()}
            rows.append(
                {"architecture": name, "contexts": ends_text, "flops": budget}
                | interval_columns("ratio", ratio)
                | shrinks
            )
    table = pd.DataFrame(rows)
    first, *others = table["architecture"].unique()
    for other in others:
        more = [(ratios[first, b] < ratios[other, b]).mean() for b in flops]
        of_first = table["architecture"] == first
        table.loc[of_first, f"probability_more_than_{other}"] = more
    return table


# %% [markdown]
# ## Who wins where


# %%
def winner_table(posterior: Posterior, flops: tuple[float, ...]) -> pd.DataFrame:
    first = posterior.groups["architecture"].unique()
    return compare(posterior, str(first[-1]), str(first[0]), flops)


# %% [markdown]
# ## Tables and figures


# %%
FIGURES = ("valleys", "growth", "allocations", "fan", "ppc", "residuals", "probability", "prior")


def write_figures(posterior: Posterior, folder: Path, kinds: tuple[str, ...] = FIGURES) -> None:
    with stages() as bar:
        for done, kind in enumerate(kinds):
            bar(f"drawing {kind}", done, len(kinds))
            save_figure(draw_figure(posterior, kind, Request()), folder / f"{kind}.png", dpi=150)


def write_exponents(posterior: Posterior, folder: Path, *, published: bool) -> None:
    """Growth exponents, with the published ones as crosses where they are of these runs."""
    from matplotlib.figure import Figure

    low, high = PUBLISHED_RANGE if published else (None, None)
    table = growth_law(posterior, flops_low=low, flops_high=high)
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for ax, quantity in zip(figure.subplots(1, 2), ("params", "tokens"), strict=True):
        known = PUBLISHED.rename(columns={f"{quantity}_exponent": "value"}) if published else None
        plot_exponents(table, quantity=f"{quantity}_exponent", reference=known, ax=ax)
    save_figure(figure, folder / "exponents.png", dpi=150)


def show(title: str, table: pd.DataFrame) -> None:
    print(f"\n{title}")
    kept = [name for name in table if not str(name).endswith(("_q25", "_q75"))]
    emit(table[kept], as_json=False)


def analyse(
    posterior: Posterior,
    folder: Path,
    *,
    compare_at: tuple[float, ...],
    allocate_at: tuple[float, ...],
    kinds: tuple[str, ...] = FIGURES,
    published: bool = False,
) -> None:
    """Print every table and write every figure of one posterior."""
    show("The fit", convergence_table(posterior))
    show(
        "Growth laws: N* and D* as powers of compute", growth_table(posterior, published=published)
    )
    show("Compute-optimal runs", allocate(posterior, allocate_at))
    show("N* at the longest context over the shortest", shrinkage_table(posterior, compare_at))
    show("Probability that one architecture beats the other", winner_table(posterior, compare_at))
    write_exponents(posterior, folder, published=published)
    write_figures(posterior, folder, kinds)
    print(f"\nFigures: {folder}")


# %%
def main(
    *,
    runs: str = "xlstm",
    output: Annotated[Path, cyclopts.Parameter(name=["--output", "-o"])] = Path("output/study"),
    posterior: Path | None = None,
    seed: int = 0,
) -> int:
    """The whole analysis.

    Parameters
    ----------
    runs
        A runs table, or the name of a known one.
    output
        Folder for the posterior and the figures.
    posterior
        A posterior that was fitted before, instead of fitting.
    seed
        Seed of the fit.
    """
    prepare_jax()
    fitted = Posterior.load(posterior) if posterior else fit_runs(runs, seed=seed)
    if posterior is None:
        print(f"Posterior: {fitted.save(output / 'posterior.nc')}")
    analyse(
        fitted,
        output,
        compare_at=(6e18, 3e19, 1e21),
        allocate_at=(1e21, 1e22, 1e23),
        published=fitted.record.source == "xlstm",
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(cyclopts.run(main))
    except AllometryError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
