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
from allometry.inference.latency_program import LatencyProgram
from allometry.inference.latency_start import start_vector
from allometry.inference.latency_work import table_work
from allometry.laws.latency import latency_law


@pytest.fixture(scope="module", params=[True, False], ids=["data sheet", "no data sheet"])
def problem(request):
    table = simulate_latency(0)
    groups, law = group_timings(table), latency_law("roofline-two-kernels")
    with jax.enable_x64(True):
        work = table_work(table, DEVICE)
        data = latency_data(table, work, groups, law, bounded=request.param)
    structure = groups.structure(law, bounded=request.param)
    return LatencyProgram(law=law, structure=structure, linear=True), data


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


def test_density_of_coordinates_is_that_of_the_sites_times_the_jacobian(problem):
    program, data = problem
    with jax.enable_x64(True):
        for x in points_around_the_start(problem, 1):
            sites = program.sites(x, data)
            joint = log_density(latency_model, (program.law, program.structure, data), {}, sites)[0]
            jacobian = jax.jacfwd(lambda y: flat(program.sites(y, data), program.structure))(x)
            expected = joint + jnp.linalg.slogdet(jacobian)[1]
            # A determinant of some 60 rows: 60 roundings of float64 in a sum near 1e3.
            assert float(program.log_density(x, data)) == pytest.approx(float(expected), rel=1e-10)


def test_without_linear_terms_coefficients_are_sampled_as_they_are(problem):
    program, data = problem
    logs = replace(program, linear=False)
    with jax.enable_x64(True):
        x = points_around_the_start(problem, 1)[0]
        spreads = 1 + 2 * program.structure.n_noises
        theta = x[spreads : spreads + len(program.structure.active)]
        assert np.array_equal(logs.sites(x, data)["theta"], theta)
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
