"""Effects of shapes and batches in predictions: those of timed ones, new ones for others."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd

from allometry.inference.latency_arrays import cell_name, setting_name
from allometry.inference.latency_model import LAUNCH_SPREAD
from allometry.inference.latency_posterior import LatencyPosterior
from allometry.inference.latency_reach import between_neighbours, reach_draws
from allometry.inference.latency_settings import new_settings

Draws = npt.NDArray[np.float64]


def cell_of(row: pd.Series) -> str:
    """Name of the cell of a point."""
    return cell_name(str(row["architecture"]), float(row["params"]), str(row["quantity"]))


class Effects:
    """Effects of cells and settings, each drawn once: points of one cell share them.

    With `common`, those that were not timed share one new effect an architecture and phase.
    """

    def __init__(
        self, posterior: LatencyPosterior, rng: np.random.Generator, *, common: bool
    ) -> None:
        self._posterior, self._rng, self._common = posterior, rng, common
        self._work_spread = np.exp(posterior.draws("log_work_spread"))
        self._known: dict[str, tuple[Draws, Draws]] = {}
        self._beyond: dict[str, Draws] = {}
        self._reaches: dict[tuple[str, str], Draws] = {}
        known = posterior.idata["constant_data"]
        prompts = pd.Series(known["prefill_length"].to_numpy())
        self._longest = prompts.groupby(known["setting_index"].to_numpy()).max().to_dict()
        names = posterior.idata["posterior"]["setting"].to_numpy()
        self._index = {str(name): i for i, name in enumerate(names)}
        effects, scales = (posterior.draws(f"setting_{kind}") for kind in ("effect", "scale"))
        self._chains: dict[str, dict[float, Draws]] = {}
        for name, i in self._index.items():
            cell, batch = name.rsplit("/", 1)
            self._chain(cell, float(batch))[np.log2(float(batch))] = effects[:, i] / scales[:, i]

    def of_cell(self, row: pd.Series) -> tuple[Draws, Draws]:
        """Log effects on launches and on work of a point's shape, (draw,) each."""
        cell = cell_of(row)
        found = self._posterior.cell_effects(cell)
        return self._new(cell, row, self._new_cell) if found is None else found

    def of_setting(self, row: pd.Series) -> tuple[Draws, Draws]:
        """Log effect and noise scale of a point's shape and batch, (draw,) each."""
        setting = setting_name(cell_of(row), float(row["batch_size"]))
        found = self._posterior.setting_effects(setting)
        if found is None:
            effect, scale = self._new(setting, row, self._new_setting)
            return self._given_neighbours(row, effect / scale, scale)
        doublings = np.log2(float(row["prefill_length"]) / self._longest[self._index[setting]])
        if doublings <= 0:
            return found
        # Kernels change with the prompt too: a random walk, one kernel spread a doubling.
        if setting not in self._beyond:
            self._beyond[setting] = self._rng.normal(size=self._posterior.n_draws)
        spread = self._posterior.kernel_spread(str(row["architecture"]), str(row["quantity"]))
        return found[0] + np.sqrt(doublings) * spread * self._beyond[setting], found[1]

    def _new(
        self, name: str, row: pd.Series, draw: Callable[[pd.Series], tuple[Draws, Draws]]
    ) -> tuple[Draws, Draws]:
        if self._common:
            name = f"{row['architecture']}/{row['quantity']}/{draw.__name__}"
        if name not in self._known:
            self._known[name] = draw(row)
        return self._known[name]

    def _new_cell(self, row: pd.Series) -> tuple[Draws, Draws]:
        n = self._posterior.n_draws
        launch = LAUNCH_SPREAD * self._rng.normal(size=n)
        return launch, self._work_spread * self._rng.normal(size=n)

    def _new_setting(self, row: pd.Series) -> tuple[Draws, Draws]:
        """Of spread one."""
        drawn = new_settings(np.ones(self._posterior.n_draws), self._rng)
        return drawn.effect, drawn.scale

    def _given_neighbours(self, row: pd.Series, z: Draws, scale: Draws) -> tuple[Draws, Draws]:
        """Effect and noise scale given the neighbouring batches, which share kernels."""
        phase = str(row["architecture"]), str(row["quantity"])
        spread = self._posterior.kernel_spread(*phase)
        if phase not in self._reaches:
            inside = [chain for name, chain in self._chains.items() if _phase(name) == phase]
            self._reaches[phase] = reach_draws(inside, spread, self._rng)
        place, chain = float(np.log2(float(row["batch_size"]))), self._chain_of(row)
        if place not in chain:
            mean, sd = between_neighbours(place, chain, spread, self._reaches[phase])
            chain[place] = mean + sd * z
        return scale * chain[place], scale

    def _chain_of(self, row: pd.Series) -> dict[float, Draws]:
        return self._chain(cell_of(row), float(row["batch_size"]))

    def _chain(self, cell: str, batch: float) -> dict[float, Draws]:
        """Effects of a cell's settings by log2 of the batch; a step of one row stands alone."""
        alone = cell.endswith("/step_time") and batch == 1
        return self._chains.setdefault(f"{cell}/{'one' if alone else 'more'}", {})


def _phase(chain: str) -> tuple[str, str]:
    architecture, _, quantity, _ = chain.split("/")
    return architecture, quantity
