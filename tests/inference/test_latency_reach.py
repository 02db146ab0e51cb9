"""Neighbouring batches share errors: the conditional law and how far it reaches."""

import numpy as np

from allometry.inference.latency_reach import between_neighbours, reach_draws

PLACES = np.array([1.0, 2.0, 3.0, 5.0, 5.5])


def chain_of(values):
    return dict(zip(PLACES.tolist(), values, strict=True))


def test_neighbours_tell_what_the_whole_cell_tells():
    rng, reach, spread, place = np.random.default_rng(0), 0.7, 0.03, 4.0
    known = spread * rng.normal(size=len(PLACES))
    everything = np.append(PLACES, place)
    covariance = spread**2 * reach ** np.abs(everything[:, None] - everything)
    weights = np.linalg.solve(covariance[:-1, :-1], covariance[:-1, -1])
    one = np.ones(1)
    mean, sd = between_neighbours(place, chain_of(known[:, None]), spread * one, reach * one)
    # The correlation is Markov: two neighbours are as good as all five places.
    assert np.allclose(mean, weights @ known, rtol=1e-10)
    variance = covariance[-1, -1] - weights @ covariance[:-1, -1]
    assert np.allclose(sd, np.sqrt(variance), rtol=1e-10)


def test_no_neighbour_or_no_reach_leaves_the_prior():
    spread, known = np.array([0.03]), chain_of(np.full((len(PLACES), 1), 0.1))
    for chain, reach in (({}, 0.9), (known, 0.0)):
        mean, sd = between_neighbours(4.0, chain, spread, np.array([reach]))
        assert mean[0] == 0.0
        assert np.isclose(sd[0], spread[0], rtol=1e-12)


def test_beyond_the_last_batch_what_it_told_fades():
    known, spread = {3.0: np.array([0.1])}, np.array([0.03])
    found = [between_neighbours(p, known, spread, np.array([0.8])) for p in (3.5, 5.0, 20.0)]
    means, sds = ([float(f[k][0]) for f in found] for k in (0, 1))
    assert means[0] > means[1] > means[2] > 0
    assert sds[0] < sds[1] < sds[2]


def test_reach_is_found_again():
    rng, spread, cells, draws = np.random.default_rng(1), 0.03, 60, 400
    steps = np.arange(10.0)
    for truth in (0.0, 0.8):
        factor = np.linalg.cholesky(truth ** np.abs(steps[:, None] - steps))
        chains = []
        for _ in range(cells):
            u = spread * factor @ rng.normal(size=len(steps))
            chains.append({p: np.full(draws, v) for p, v in zip(steps.tolist(), u, strict=True)})
        found = reach_draws(chains, np.full(draws, spread), rng)
        # 540 steps tell a correlation to (1 - c^2) / sqrt(540): 0.043 and 0.016; the grid adds
        # 0.05. Four of these.
        assert abs(np.mean(found) - truth) < 4 * ((1 - truth**2) / np.sqrt(540)) + 0.05


def test_cells_of_one_setting_say_nothing_of_the_reach():
    rng = np.random.default_rng(2)
    found = reach_draws([{3.0: np.full(4000, 0.01)}], np.full(4000, 0.03), rng)
    # Uniform on [0, 0.95]: sd 0.274, four standard errors of 4000 draws.
    assert abs(found.mean() - 0.475) < 4 * 0.274 / np.sqrt(4000)
