"""The sampling coordinates describe the same posterior as the model's own sites."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulation import simulate_runs

from allometry.inference import default_priors, group_runs, sampling
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import (
    Data,
    Program,
    centring,
    from_sites,
    join,
    log_posterior,
    split,
    to_sites,
)
from allometry.inference.hessian import arrow_hessian, dense_hessian
from allometry.inference.mode import evaluator, every_nth, find_mode
from allometry.inference.spreads import held_levels, learned_levels
from allometry.inference.start import starts
from allometry.inference.whitening import arrow_whitening, dense_whitening
from allometry.laws import get_law


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        table, law = simulate_runs(0), get_law("pnorm")
        groups = group_runs(table)
        program = Program(law=law, structure=law_structure(law, groups))
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = jnp.tile(jnp.asarray([True, False, True, True]), (6, 1))
        yield program, Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)


def test_the_flat_vector_goes_into_sites_and_back(problem):
    program, _ = problem
    x = jnp.arange(float(program.size))
    assert (join(split(x, program.structure), program.structure) == x).all()


@pytest.mark.parametrize("runs", [(18, 3, 18, 18), (12, 3, 18, 40), (3, 3, 12, 12)])
def test_coordinates_go_to_sites_and_back_with_the_right_volume(problem, runs):
    program, data = problem
    centred = centring(program.law, program.structure, np.array(runs))
    data = replace(data, centred=centred)
    x = jnp.asarray(starts(program, data, count=2, seed=1)[1])
    sites, log_det = to_sites(x, program, data)
    assert jnp.allclose(from_sites(sites, program, data), x, atol=1e-9)
    jacobian = jax.jacfwd(lambda y: join(to_sites(y, program, data)[0], program.structure))(x)
    assert float(log_det) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-8)


@pytest.mark.parametrize("shaped", [True, False])
@pytest.mark.parametrize("kind", ["problem", "unnested"])
def test_coordinates_of_thin_groups_go_to_sites_and_back_with_the_right_volume(
    kind, shaped, request
):
    program, data = request.getfixturevalue(kind)
    law = program.law if shaped else replace(program.law, geometry=None)
    program = replace(program, law=law, thin=True)
    start = starts(program, data, count=1, seed=1)[0]
    x = jnp.asarray(start + 0.5 * np.random.default_rng(3).normal(size=start.shape))
    sites, log_det = to_sites(x, program, data)
    assert jnp.allclose(from_sites(sites, program, data), x, atol=1e-7)
    jacobian = jax.jacfwd(lambda y: join(to_sites(y, program, data)[0], program.structure))(x)
    assert float(log_det) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-6)


def test_thin_groups_are_unit_gaussians_given_the_levels_above_them(problem):
    """Log density along a group's coordinates at a mode with others held: -z^2 / 2, nearly."""
    program, data = problem
    program = replace(program, thin=True)
    mode = find_mode(starts(program, data, count=1, seed=0)[0], program, data)
    hessian = dense_hessian(mode.x, evaluator(program, data))
    size = program.structure.n_coefficients * program.structure.n_groups
    curvatures = np.linalg.eigvalsh(hessian[-size:, -size:])  # theta comes last
    assert curvatures.min() > 0.3
    assert curvatures.max() < 3.0


def test_few_runs_centre_nothing_and_some_all_but_the_bend(problem):
    program, _ = problem
    centred = centring(program.law, program.structure, np.array([11, 12, 19, 20]))
    assert centred.sum(axis=0).tolist() == [0, 5, 5, 6]
    assert centred[5].tolist() == [False, False, False, True]  # log_gamma
    alone = replace(program.structure, pooled=False)
    assert centring(program.law, alone, np.array([6])).all()


def test_padding_runs_add_nothing(problem):
    program, data = problem
    x = jnp.asarray(starts(program, data, count=1, seed=0)[0])
    moved = replace(data.runs, log_loss=jnp.where(data.runs.weight > 0, data.runs.log_loss, 7.0))
    assert (data.runs.weight == 0).any()
    here = log_posterior(x, program, data)
    assert log_posterior(x, program, replace(data, runs=moved)) == here


def test_all_starts_climb_to_one_mode_with_no_slope_left(problem):
    program, data = problem
    modes = [find_mode(x, program, data) for x in starts(program, data, count=3, seed=5)]
    best = max(mode.log_posterior for mode in modes)
    assert all(best - mode.log_posterior < 1e-4 for mode in modes)
    assert max(mode.gradient for mode in modes) < 1e-3


@pytest.fixture
def unnested():
    """Four groups by one column: no levels above them but the population."""
    with jax.enable_x64(True):
        table, law = simulate_runs(0), get_law("pnorm")
        table = table.assign(data=table["architecture"] + table["context_length"].astype(str))
        groups = group_runs(table, ["data"])
        program = Program(law=law, structure=law_structure(law, groups))
        assert not program.structure.nested
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = centring(law, program.structure, groups.runs_per_group)
        yield program, Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)


@pytest.mark.parametrize("thin", [False, True])
@pytest.mark.parametrize("kind", ["problem", "unnested"])
def test_arrow_hessian_is_the_dense_one(kind, thin, request):
    program, data = request.getfixturevalue(kind)
    program = replace(program, thin=thin)
    evaluate = evaluator(program, data)
    x = starts(program, data, count=1, seed=0)[0]
    dense = dense_hessian(x, evaluate)
    arrow = arrow_hessian(x, program.structure, np.asarray(data.runs.parent), evaluate)
    g, above = program.structure.n_groups, len(arrow.hyper)
    rebuilt = np.zeros_like(dense)
    rebuilt[:above, :above] = arrow.hyper
    for group in range(g):
        rows = np.arange(above + group, program.size, g)
        rebuilt[np.ix_(rows, rows)] = arrow.groups[group]
        rebuilt[np.ix_(rows, arrow.columns[group])] = arrow.cross[group]
        rebuilt[np.ix_(arrow.columns[group], rows)] = arrow.cross[group].T
    # Both difference gradients of size up to 1e5 over 1e-5: ten of sixteen digits are left.
    assert np.abs(rebuilt - dense).max() < 1e-5 * np.abs(dense).max()


def test_arrow_whitening_turns_the_hessian_into_the_identity(problem):
    program, data = problem
    evaluate = evaluator(program, data)
    x = find_mode(starts(program, data, count=1, seed=0)[0], program, data).x
    dense = dense_hessian(x, evaluate)
    arrow = arrow_hessian(x, program.structure, np.asarray(data.runs.parent), evaluate)
    whitening = arrow_whitening(x, arrow)
    factor = whitening.apply(np.eye(program.size)).T - x[:, None]
    assert factor.T @ dense @ factor == pytest.approx(np.eye(program.size), abs=1e-3)
    gradient = np.random.default_rng(0).normal(size=program.size)
    assert whitening.transpose_times(gradient) == pytest.approx(factor.T @ gradient)
    z = jnp.asarray(gradient)
    assert whitening.apply_traced(z) == pytest.approx(whitening.apply(gradient))


def test_whitening_turns_the_hessian_into_the_identity():
    rng = np.random.default_rng(0)
    root = rng.normal(size=(5, 5))
    hessian = root @ root.T + np.eye(5)
    whitening = dense_whitening(np.ones(5), hessian)
    factor = np.asarray(whitening.hyper)
    assert factor.T @ hessian @ factor == pytest.approx(np.eye(5), abs=1e-10)
    z = rng.normal(size=(3, 5))
    traced = np.stack([np.asarray(whitening.apply_traced(jnp.asarray(row))) for row in z])
    assert whitening.apply(z) == pytest.approx(traced, abs=1e-5)  # traced in float32 here


def test_many_groups_learn_their_spread_by_its_marginal_mode():
    # Forty loose groups pull log spread down by 8, where the joint density has its useless mode.
    spread = 0.05
    rng = np.random.default_rng(3)
    cells = {
        (f"a{i % 4}", 1024 * 2 ** (i // 4)): (1.9 * np.exp(spread * rng.normal()), 0.3, 0.35, 0.5)
        for i in range(40)
    }
    with jax.enable_x64(True):
        table, law = simulate_runs(0, groups=cells, sizes=4), get_law("pnorm")
        groups = group_runs(table)
        program = Program(law=law, structure=law_structure(law, groups))
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = jnp.ones((6, 40), dtype=bool)
        data = Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)
        mode = find_mode(starts(program, data, count=1, seed=0)[0], program, data)
        sites = split(jnp.asarray(mode.x), program.structure)
        again = learned_levels(mode.x, mode.whitening, program, data)
    assert mode.gradient < 1.0
    log_spread = np.asarray(sites["log_spread"])
    of_E = list(law.names).index("log_E")
    # Between the truth and the prior's median: forty groups say it to sqrt(1 / 80) of its log.
    assert log_spread[of_E] == pytest.approx(np.log(spread), abs=0.45)
    # Coefficients that do not differ are learned to differ little, but not by the factor of e^8.
    assert np.abs(log_spread - np.log(data.priors.between)).max() < 2.5
    held = held_levels(program)
    assert np.abs(again - mode.x)[held].max() < 0.3  # settled
    assert again[~held][: len(sites["mean"])] == pytest.approx(mode.x[~held][: len(sites["mean"])])


def test_a_climb_over_thinned_runs_ends_at_the_mode_of_all_of_them(problem, monkeypatch):
    program, data = problem
    monkeypatch.setattr(sampling, "FIRST_CLIMB", 40)  # of 72 runs
    seen = []
    monkeypatch.setattr(sampling, "_draw", lambda mode, *_: seen.append(mode))
    with jax.enable_x64(True):
        few = every_nth(data, 20)
        assert len(few.runs.group) == 18
        assert np.bincount(np.asarray(few.runs.group)).min() >= 4  # of four groups
        start = starts(program, data, count=1, seed=0)[0]
        whole = find_mode(start, program, data)
        modes, _ = sampling.climb_and_draw(program, data, sampling.Sampler(starts=2), 0, None)
    assert seen[0].log_posterior == pytest.approx(whole.log_posterior, abs=1e-6)
    assert len(modes) == 2
    assert all(mode.log_posterior != pytest.approx(whole.log_posterior) for mode in modes)
