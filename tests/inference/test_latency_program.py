"""Coordinates of the latency posterior: a bijection, with the right Jacobian."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from latency_simulation import DEVICE, simulate_latency
from numpyro.infer.util import log_density

from allometry.inference.latency_arrays import group_timings, latency_data
from allometry.inference.latency_model import latency_model, latency_site_shapes
from allometry.inference.latency_program import LatencyProgram, as_timings_tell
from allometry.inference.latency_start import start_vector
from allometry.inference.latency_work import table_work
from allometry.inference.mode import find_mode
from allometry.laws.latency import latency_law


@pytest.fixture(scope="module", params=[True, False], ids=["data sheet", "no data sheet"])
def problem(request):
    table = simulate_latency(0)
    groups, law = group_timings(table), latency_law("roofline-two-kernels")
    with jax.enable_x64(True):
        work = table_work(table, DEVICE)
        data = latency_data(table, work, groups, law, bounded=request.param)
        # Any coordinates will do: these are none that a mode has.
        rng = np.random.default_rng(1)
        told = 0.1 * rng.normal(size=data.told.shape) * data.timings.weight
        resolved = jnp.asarray(np.exp(rng.normal(size=data.resolved.shape)))
    moved = replace(data, told=told, resolved=resolved)
    structure = groups.structure(law, bounded=request.param)
    return LatencyProgram(law=law, structure=structure, linear=True), moved


def points_around_the_start(problem, count):
    program, data = problem
    table = simulate_latency(0)
    start = start_vector(program, data, group_timings(table))
    return jnp.asarray(start + np.random.default_rng(0).normal(size=(count, program.size)))


def flat(sites, structure):
    return jnp.concatenate([sites[name].ravel() for name in latency_site_shapes(structure)])


def test_sites_of_the_coordinates_of_sites_are_these_sites(problem):
    program, data = problem
    with jax.enable_x64(True):
        x = points_around_the_start(problem, 4)
        again = program.vector(program.sites(x, data), data)
    # Through log(exp(u) - 1) at u down to 0.05: a few hundred roundings of float64.
    assert np.allclose(again, x, rtol=1e-10, atol=1e-10)


def test_draws_come_first_and_each_is_its_own(problem):
    program, data = problem
    with jax.enable_x64(True):
        x = points_around_the_start(problem, 3)
        together, alone = program.sites(x, data), program.sites(x[1], data)
    for name, shape in latency_site_shapes(program.structure).items():
        assert together[name].shape == (3, *shape)
        assert np.allclose(together[name][1], alone[name], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("linear", [True, False], ids=["terms", "logarithms"])
def test_density_of_coordinates_is_that_of_the_sites_times_the_jacobian(problem, linear):
    program, data = replace(problem[0], linear=linear), problem[1]
    with jax.enable_x64(True):
        for x in points_around_the_start(problem, 1):
            sites = program.sites(x, data)
            joint = log_density(latency_model, (program.law, program.structure, data), {}, sites)[0]
            jacobian = jax.jacfwd(lambda y: flat(program.sites(y, data), program.structure))(x)
            expected = joint + jnp.linalg.slogdet(jacobian)[1]
            # A determinant of some 60 rows: 60 roundings of float64 in a sum near 1e3.
            assert float(program.log_density(x, data)) == pytest.approx(float(expected), rel=1e-10)


def test_without_linear_terms_coefficients_are_sampled_as_they_are_but_launches(problem):
    """Those of one row and the further ones of several by their sum and their ratio."""
    program, data = problem
    logs = replace(program, linear=False)
    names = np.asarray([program.law.names[k] for k, _ in program.structure.active])
    one, more = (names == f"launch_{rows}" for rows in ("one_row", "more_rows"))
    with jax.enable_x64(True):
        x = points_around_the_start(problem, 1)[0]
        spreads = 1 + 2 * program.structure.n_noises
        theta = x[spreads : spreads + len(program.structure.active)]
        found = np.asarray(logs.sites(x, data)["theta"])
        assert np.array_equal(found[~(one | more)], theta[~(one | more)])
        assert np.allclose(np.logaddexp(found[one], found[more]), theta[one], rtol=1e-12)
        assert np.allclose(found[one] - found[more], theta[more], atol=1e-12)
        again = logs.vector(logs.sites(x, data), data)
    assert np.allclose(again, x, rtol=1e-10, atol=1e-10)


def test_the_start_is_at_the_prior_means_without_effects(problem):
    program, data = problem
    with jax.enable_x64(True):
        start = jnp.asarray(start_vector(program, data, group_timings(simulate_latency(0))))
        sites = program.sites(start, data)
    assert np.allclose(sites["theta"], data.loc, atol=1e-12)
    assert np.allclose(sites["work_effect"], 0.0, atol=1e-12)
    assert np.allclose(sites["launch_effect"], 0.0, atol=1e-12)


def test_effects_are_apart_from_the_coefficients_that_share_their_timings(problem):
    """Around the mode, in coordinates less what timings tell of the effects."""
    program, data = problem
    theta = slice(1 + 2 * program.structure.n_noises, program.size - 2 * program.structure.n_cells)
    effects = slice(theta.stop, program.size)
    correlations = {}
    with jax.enable_x64(True):
        plain = replace(data, told=0 * data.told, resolved=0 * data.resolved)
        start = start_vector(program, plain, group_timings(simulate_latency(0)))
        mode = find_mode(start, program, plain)
        _, moved = as_timings_tell(mode.x, program, plain)
        moved = replace(moved, resolved=plain.resolved)  # effects alone are moved here
        one = program.sites(jnp.asarray(mode.x), plain)
        there = program.vector(one, moved)
        apart = find_mode(np.asarray(there), program, moved)
        for found, known in ((mode, plain), (apart, moved)):
            factor = np.asarray(found.whitening.hyper)
            sd = np.sqrt((factor**2).sum(axis=1))
            correlation = (factor @ factor.T / sd / sd[:, None])[effects, theta]
            correlations[known is moved] = np.abs(correlation).max(axis=1)
        other = program.sites(jnp.asarray(apart.x), moved)
    assert correlations[True].max() < 0.5 * correlations[False].max()
    # The map is a shear: the mode, and the density there, are the same.
    assert apart.log_posterior == pytest.approx(mode.log_posterior, abs=1e-6)
    assert np.allclose(one["theta"], other["theta"], atol=1e-3)
    assert np.allclose(one["work_effect"], other["work_effect"], atol=1e-4)


def test_a_term_that_timings_do_not_tell_stays_a_logarithm(problem):
    """And one that they tell grows in proportion from where they tell it."""
    program, data = problem
    theta = slice(1 + 2 * program.structure.n_noises, program.size - 2 * program.structure.n_cells)
    is_term = np.asarray(program.slopes()) != 0
    with jax.enable_x64(True):
        for resolved, grows in ((1e-3, np.log(np.log1p(np.expm1(3) * np.exp(4)) / 3)), (1e3, 4.0)):
            known = replace(data, resolved=jnp.full_like(data.resolved, resolved))
            x = jnp.zeros(program.size).at[theta].set(4.0)
            logs = program.slopes() * (program.sites(x, known)["theta"] - data.loc)
            assert np.allclose(np.asarray(logs)[is_term], grows, atol=0.1)


def test_timings_tell_a_term_from_less_the_less_noise_they_have(problem):
    program, data = problem
    resolved = []
    with jax.enable_x64(True):
        for sd in (0.0, 10.0):
            known = replace(data, timings=replace(data.timings, relative_sd=jnp.full((1, 1), sd)))
            start = start_vector(program, known, group_timings(simulate_latency(0)))
            resolved.append(as_timings_tell(jnp.asarray(start), program, known)[1].resolved)
    assert (resolved[1] >= resolved[0]).all()
    # A step of 1.4e9 params reads its weights.
    k = program.law.names.index("weight_bandwidth")
    read = np.asarray([coefficient == k for coefficient, _ in program.structure.active])
    assert (np.asarray(resolved[0])[read] < 1).all()
    assert (np.asarray(resolved[1])[read] > 1).all()
