"""The sampling coordinates describe the same posterior as the model's own sites."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from simulation import simulate_runs

import allometry.inference.mode as mode_module
from allometry.inference import default_priors, group_runs
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import (
    Data,
    Program,
    from_sites,
    join,
    log_posterior,
    split,
    to_sites,
)
from allometry.inference.mode import block_hessian, dense_hessian, evaluator, find_mode
from allometry.inference.start import starts
from allometry.inference.whitening import block_whitening, dense_whitening, layout
from allometry.laws import get_law


@pytest.fixture(scope="module")
def problem():
    with jax.enable_x64(True):
        table, law = simulate_runs(0), get_law("pnorm")
        groups = group_runs(table)
        program = Program(law=law, structure=law_structure(law, groups))
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = jnp.asarray([True, False, True, True])
        yield program, Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)


def test_the_flat_vector_goes_into_sites_and_back(problem):
    program, _ = problem
    x = jnp.arange(float(program.size))
    assert (join(split(x, program.structure), program.structure) == x).all()


def test_coordinates_go_to_sites_and_back_with_the_right_volume(problem):
    program, data = problem
    x = jnp.asarray(starts(program, data, count=2, seed=1)[1])
    sites, log_det = to_sites(x, program, data)
    assert jnp.allclose(from_sites(sites, program, data), x, atol=1e-9)
    jacobian = jax.jacfwd(lambda y: join(to_sites(y, program, data)[0], program.structure))(x)
    assert float(log_det) == pytest.approx(float(jnp.linalg.slogdet(jacobian)[1]), abs=1e-8)


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


def test_block_hessian_is_the_dense_one_on_its_blocks(problem):
    program, data = problem
    evaluate = evaluator(program, data)
    x = starts(program, data, count=1, seed=0)[0]
    dense = dense_hessian(x, evaluate)
    hyper, groups = block_hessian(x, program, evaluate)
    above, g = layout(program.structure), program.structure.n_groups
    # Both difference gradients of size up to 1e5 over 1e-5: ten of sixteen digits are left.
    scale = np.abs(dense).max()
    assert np.abs(hyper - dense[:above, :above]).max() < 1e-5 * scale
    for group in range(g):
        rows = np.arange(above + group, program.size, g)
        assert np.abs(groups[group] - dense[np.ix_(rows, rows)]).max() < 1e-5 * scale


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


def test_block_whitening_keeps_the_layout_of_the_flat_vector(problem):
    program, _ = problem
    above = layout(program.structure)
    g = program.structure.n_groups
    k = (program.size - above) // g
    rng = np.random.default_rng(1)
    hyper = np.diag(rng.uniform(1, 2, above))
    groups = np.stack([np.diag(rng.uniform(1, 2, k)) for _ in range(g)])
    whitening = block_whitening(np.zeros(program.size), hyper, groups)
    sd = np.concatenate([np.diag(hyper), np.diagonal(groups, axis1=1, axis2=2).T.ravel()]) ** -0.5
    z = rng.normal(size=program.size)
    x = whitening.apply(z)
    # Each block is diagonal, so that a coordinate is moved by its own sd, up to order and sign.
    assert np.sort(np.abs(x[:above])) == pytest.approx(
        np.sort(np.abs(np.asarray(whitening.hyper) @ z[:above]))
    )
    assert np.linalg.norm(whitening.transpose_times(x / sd**2) - z) < 1e-8


def test_many_groups_do_not_pull_their_spread_to_zero():
    # Forty loose groups pull log spread down by 8, where the joint density has its useless mode.
    cells = {(f"a{i % 4}", 1024 * 2 ** (i // 4)): (1.9, 0.3, 0.35, 0.5) for i in range(40)}
    with jax.enable_x64(True):
        table, law = simulate_runs(0, groups=cells, sizes=2), get_law("pnorm")
        groups = group_runs(table)
        program = Program(law=law, structure=law_structure(law, groups))
        runs = run_arrays(table, groups, law, reference_scale(table))
        centred = jnp.ones(40, dtype=bool)
        data = Data(runs=runs, priors=default_priors(law).arrays(), centred=centred)
        mode = find_mode(starts(program, data, count=1, seed=0)[0], program, data)
        sites = split(jnp.asarray(mode.x), program.structure)
    for name in ("log_spread", "log_parent_spread"):
        assert np.abs(np.asarray(sites[name]) - np.log(data.priors.between)).max() < 3 * 0.45
    assert mode.gradient < 1.0


def test_a_climb_over_thinned_runs_ends_at_the_mode_of_all_of_them(problem, monkeypatch):
    program, data = problem
    with jax.enable_x64(True):
        start = starts(program, data, count=1, seed=0)[0]
        whole = find_mode(start, program, data)
        monkeypatch.setattr(mode_module, "FIRST_CLIMB", 40)  # of 72 runs
        thinned = mode_module.every_nth(data, 20)
        assert len(thinned.runs.group) == 18
        assert np.bincount(np.asarray(thinned.runs.group)).min() >= 4  # of four groups
        twice = find_mode(start, program, data)
    assert twice.log_posterior == pytest.approx(whole.log_posterior, abs=1e-6)
