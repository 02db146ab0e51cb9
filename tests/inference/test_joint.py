"""The density that is sampled is the NumPyro model's, up to a constant."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro import handlers
from numpyro.infer.util import log_density
from prior_files import prior_file
from simulation import TRUTH, simulate_runs

from allometry.inference import default_priors, group_runs
from allometry.inference.arrays import law_structure, reference_scale, run_arrays
from allometry.inference.coordinates import Data, Program, log_posterior, split, to_sites
from allometry.inference.importing import ImportingStudy, as_blocks
from allometry.inference.joint import log_joint, prior_sites
from allometry.inference.model import loss_model, site_shapes
from allometry.inference.start import starts
from allometry.laws import get_law
from allometry.priors import PriorUse

FOUR = list(TRUTH)
CASES = {
    "nested": dict(TRUTH),
    "one architecture": {key: TRUTH[key] for key in FOUR[:2]},
    "one context": {key: TRUTH[key] for key in FOUR[::2]},
    "one group": {FOUR[0]: TRUTH[FOUR[0]]},
}


def problem(cells, law="pnorm", *, imported=False):
    table, found = simulate_runs(0, groups=cells), get_law(law)
    table["loss_stderr"] = 0.002
    table["epochs"] = np.linspace(1.0, 8.0, len(table))
    groups, scale, priors = group_runs(table), reference_scale(table), default_priors(found)
    program = Program(law=found, structure=law_structure(found, groups))
    weak = priors.arrays()
    if imported:
        study = ImportingStudy(
            law=found,
            structure=program.structure,
            groups=groups,
            scale=scale,
            priors=priors,
            table=table,
            loss_unit="nats per token",
        )
        use = PriorUse(file=prior_file(sd=0.05, level=False), vague=0.2, parts=("law",))
        weak = replace(weak, imported=as_blocks(use.bind(study))[0])
    runs = run_arrays(table, groups, found, scale)
    by_group = jnp.arange(groups.n_groups) % 2 == 0
    centred = jnp.tile(by_group, (program.structure.n_coefficients, 1))
    return program, Data(runs=runs, priors=weak, centred=centred)


def points(program, data, count):
    first = starts(program, data, count=1, seed=0)[0]
    return first + 0.3 * np.random.default_rng(0).normal(size=(count, program.size))


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("imported", [False, True], ids=["default", "imported"])
def test_the_joint_density_is_the_models_up_to_a_constant(case, imported):
    with jax.enable_x64(True):
        program, data = problem(CASES[case], imported=imported)
        differences = []
        for x in points(program, data, 4):
            sites = split(jnp.asarray(x), program.structure)
            arguments = (program.law, program.structure, data.runs, data.priors)
            model = log_density(loss_model, arguments, {}, sites)[0]
            differences.append(float(model - log_joint(*arguments, sites)))
    # Sums of some hundred terms up to 1e4: a few roundings of float64 at that size.
    np.testing.assert_allclose(differences, differences[0], atol=1e-9)


@pytest.mark.parametrize("law", ["chinchilla", "kaplan", "interaction", "repetition", "gamma"])
def test_every_law_has_the_models_density_and_gradient(law):
    with jax.enable_x64(True):
        program, data = problem(dict(TRUTH), law)

        def model(x):
            sites, log_det = to_sites(x, program, data)
            arguments = (program.law, program.structure, data.runs, data.priors)
            return log_density(loss_model, arguments, {}, sites)[0] + log_det

        for x in points(program, data, 2):
            ours = jax.grad(lambda y: log_posterior(y, program, data))(jnp.asarray(x))
            np.testing.assert_allclose(ours, jax.grad(model)(jnp.asarray(x)), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("case", CASES)
def test_a_draw_of_the_prior_is_as_many_sds_from_its_mean_as_the_model_says(case):
    with jax.enable_x64(True):
        program, data = problem(CASES[case])
        shapes = site_shapes(program.structure)
        rng = np.random.default_rng(3)
        standard = {name: rng.normal(size=shape) for name, shape in shapes.items()}
        sites = prior_sites(standard, {}, program.structure, data.runs, data.priors)
        model = handlers.substitute(handlers.seed(loss_model, jax.random.key(0)), data=sites)
        arguments = (program.law, program.structure, data.runs, data.priors)
        traced = handlers.trace(model).get_trace(*arguments, observed=False)
        assert set(traced) - {"log_loss", "coefficient", "run"} == set(shapes)
        for name, z in standard.items():
            normal = traced[name]["fn"]
            ours = (sites[name] - normal.mean) / jnp.sqrt(normal.variance)
            np.testing.assert_allclose(ours, z, rtol=1e-9, atol=1e-9)


def test_what_is_known_of_a_draw_of_the_prior_stays_and_what_is_below_follows():
    with jax.enable_x64(True):
        program, data = problem(CASES["one context"])
        shapes = site_shapes(program.structure)
        standard = {name: np.zeros(shape) for name, shape in shapes.items()}
        known = {"mean": jnp.arange(program.structure.n_coefficients, dtype=float)}
        sites = prior_sites(standard, known, program.structure, data.runs, data.priors)
        np.testing.assert_array_equal(sites["mean"], known["mean"])
        below = jnp.broadcast_to(known["mean"][:, None], sites["theta"].shape)
        np.testing.assert_array_equal(sites["theta"], below)
