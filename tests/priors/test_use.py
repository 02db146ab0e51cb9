"""An imported density is the file's, in the study's terms; what does not fit is refused."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from prior_files import prior_file
from prior_studies import problem, simulate_study
from scipy.special import expit

from allometry.accounting import TransformerShape, count_params
from allometry.errors import InputError
from allometry.inference import default_priors, group_runs
from allometry.inference.arrays import law_structure
from allometry.inference.evaluate import LawDraws, log_loss_at
from allometry.inference.import_report import _words
from allometry.inference.imported import (
    from_file,
    law_columns,
    law_of,
    log_factor,
    log_ratio,
    noise_values,
    to_file,
)
from allometry.inference.importing import ImportingStudy, as_blocks, bind_all, imported_drift
from allometry.inference.worth import MOST_RUNS
from allometry.laws import Scale, get_law
from allometry.priors import Mixture, PriorUse, Units
from allometry.priors.use import mixture_arrays

OURS = Scale(params=1e8, tokens=3e9, loss=3.3)
ONE = {("transformer", 2048): 12}
SIX = {(a, t): 6 for a in ("transformer", "xlstm") for t in (2048, 4096, 8192)}


def runs(cells, **columns):
    rows = [(a, t, 1e8, 2e9, 3.0) for (a, t), n in cells.items() for _ in range(n)]
    table = pd.DataFrame(
        rows, columns=["architecture", "context_length", "params", "tokens", "loss"]
    )
    table["params"] *= np.geomspace(0.5, 2.0, len(table))
    return table.assign(**columns)


def importing(cells, *, law="pnorm", loss_unit="nats per token", **columns):
    table = runs(cells, **columns)
    groups, found = group_runs(table), get_law(law)
    return ImportingStudy(
        law=found,
        structure=law_structure(found, groups),
        groups=groups,
        scale=OURS,
        priors=default_priors(found),
        table=table,
        loss_unit=loss_unit,
    )


def prior_draws(cells, n):
    """Sites of the model under the default prior, each with a leading axis of draws."""
    program, data = problem(runs(cells))

    def one(key):
        return simulate_study(key, program, data)[0]

    return jax.vmap(one)(jax.random.split(jax.random.key(0), n))


LABELS = [{"architecture": a, "context_length": t} for a, t in list(SIX)[:4]]
CASES = {
    "shape of the only group": (ONE, PriorUse(file=prior_file()), 0),
    "with its level": (ONE, PriorUse(file=prior_file(), level=True), 0),
    "noise": (ONE, PriorUse(file=prior_file()), 1),
    "population": (SIX, PriorUse(file=prior_file()), 0),
    "one architecture": (SIX, PriorUse(file=prior_file(groups=({"architecture": "xlstm"},))), 0),
    "one of its groups": (SIX, PriorUse(file=prior_file(kind="groups", groups=LABELS[:1])), 0),
}


TWO = (SIX, PriorUse(file=prior_file(kind="groups", groups=LABELS[1::2])), 0)


def quantities(source, law, site):
    """What a source's mixture is a distribution of, at one draw of the sites."""
    parts = []
    if source.law_part != "none":
        y = to_file(law, law_columns(source, site), source.shift)[0]
        parts.append(y[1:, 0] if source.law_part == "shape" else y.T.ravel())
    if source.noise:
        parts.append(noise_values(source, site))
    return jnp.concatenate(parts)


@pytest.mark.parametrize("case", CASES)
def test_the_imported_density_has_mass_one_under_the_default_prior(case):
    # E_p[q / p] = 1 holds only if the default density, the change of reference run, the law's
    # geometry and every volume term are right. With q a normal like p the ratio hardly varies.
    cells, use, which = CASES[case]
    n = 2000
    with jax.enable_x64(True):
        study = importing(cells)
        source = bind_all([use], study)[which].source
        draws = prior_draws(cells, n)
        x = np.asarray(jax.vmap(lambda s: quantities(source, study.law, s))(draws))
        like = Mixture(
            weights=np.ones(1), means=x.mean(axis=0)[None], scales=0.7 * np.cov(x.T)[None]
        )
        source = replace(source, mixture=mixture_arrays(like))
        ratios = np.exp(jax.vmap(lambda s: log_ratio(source, study.law, s))(draws))
    error = ratios.std() / np.sqrt(n)
    assert error < 0.12
    # Four standard errors, and what fitting q to these very draws shifts: below 2 d / n.
    assert abs(ratios.mean() - 1.0) < 4 * error + 2 * x.shape[1] / n


@pytest.mark.parametrize("distort", [0.0, 0.7])
def test_groups_of_two_architectures_have_the_default_density_too(distort):
    # In 15 dimensions q / p is too heavy-tailed for its mean. With r = q / p both of
    # E_p[r / (1 + r)] = E_q[1 / (1 + r)] are bounded, and equal only if the density p is right.
    cells, use, which = TWO
    n = 3000
    with jax.enable_x64(True):
        study = importing(cells)
        source = bind_all([use], study)[which].source
        draws = prior_draws(cells, n)
        x = np.asarray(jax.vmap(lambda s: quantities(source, study.law, s))(draws))
        mean, covariance = x.mean(axis=0), 0.7 * np.cov(x.T)
        like = Mixture(weights=np.ones(1), means=mean[None], scales=covariance[None])
        source = replace(source, mixture=mixture_arrays(like))
        columns = jnp.asarray(source.columns)

        def place(x):
            theta = (
                jnp.zeros((len(study.law.names), 6))
                .at[:, columns]
                .set(law_of(source, study.law, x))
            )
            noise = jnp.zeros(6).at[columns].set(x[-3:-1])
            return {
                "theta": theta,
                "log_noise": jnp.zeros(()),
                "noise_offset": noise,
                "log_off_valley": x[-1],
            }

        own = np.random.default_rng(1).multivariate_normal(mean, covariance, size=n)
        at_p = np.asarray(jax.vmap(lambda s: log_ratio(source, study.law, s))(draws)) + distort
        at_q = jax.vmap(lambda x: log_ratio(source, study.law, place(x)))(jnp.asarray(own))
        under_p, under_q = expit(at_p), expit(-(np.asarray(at_q) + distort))
    error = np.hypot(under_p.std(), under_q.std()) / np.sqrt(n)
    off = abs(under_p.mean() - under_q.mean())
    assert error < 0.02
    # A density that is wrong by a factor of two is noticed.
    assert (off < 4 * error) == (distort == 0)


def test_what_a_prior_says_of_a_run_does_not_hang_on_the_studys_reference():
    file = prior_file(level=True)
    x = file.mixture.draw(50, np.random.default_rng(1))[:, :6]
    params, tokens = np.full(50, 3e9), np.full(50, 4e10)
    found = []
    for scale in (OURS, Scale(params=4e9, tokens=1e9, loss=2.0)):
        with jax.enable_x64(True):
            study = replace(importing(ONE), scale=scale)
            source = bind_all([PriorUse(file=file, level=True, parts=("law",))], study)[0].source
            theta = np.stack(
                [np.asarray(law_of(source, study.law, jnp.asarray(p)))[:, 0] for p in x]
            )
        coefficients = dict(zip(study.law.names, theta.T[:, :, None], strict=True))
        logs = (np.log(scale.params), np.log(scale.tokens), np.log(scale.loss))
        draws = LawDraws(law=study.law, coefficients=coefficients, log_reference=logs)
        found.append(log_loss_at(draws, params[:1], tokens[:1])[0][:, 0])
    # The same curve in float64; the reference changes by four e-folds.
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-10)


def test_the_weights_of_a_robust_mixture():
    near, far = prior_file(seed=1), prior_file(seed=2)
    with jax.enable_x64(True):
        study = importing(ONE)
        uses = [
            PriorUse(file=near, vague=0.1, parts=("law",)),
            PriorUse(file=far, vague=0.3, parts=("law",)),
        ]
        blocks, members = as_blocks(bind_all(uses, study))
        assert members == ((0, 1),)
        np.testing.assert_allclose(np.exp(blocks[0].log_weights), [0.2, 0.4, 0.4])
        site = {"theta": jnp.asarray([[c.loc] for c in study.law.coefficients])}
        ratios = [float(log_ratio(s, study.law, site)) for s in blocks[0].sources]
        wanted = np.log(0.2 + 0.4 * np.exp(ratios[0]) + 0.4 * np.exp(ratios[1]))
        assert float(log_factor(blocks, study.law, site)) == pytest.approx(wanted, abs=1e-12)


def test_a_groups_prior_finds_its_groups_in_any_order():
    file = prior_file(kind="groups", groups=LABELS[1::-1])
    with jax.enable_x64(True):
        source = bind_all([PriorUse(file=file)], importing(SIX))[0].source
        assert source.columns == (1, 0)
        names = [q.name for q in file.quantities]
        means = np.asarray(source.mixture.means[0])
    assert means[12] == file.mixture.means[0][names.index("log_noise")]
    assert len(means) == 15


def test_groups_that_are_not_in_the_study_are_left_out_and_told():
    elsewhere = {"architecture": "mamba", "context_length": 2048}
    file = prior_file(kind="groups", groups=(elsewhere, LABELS[1]))
    with jax.enable_x64(True):
        (bound,) = bind_all([PriorUse(file=file)], importing(SIX))
        assert bound.source.columns == (1,)
        assert bound.source.mixture.means.shape[1] == 8
    assert "1 of its 2 groups" in bound.notes[0]
    # The second group's block of the joint mean, then its noise.
    np.testing.assert_array_equal(bound.source.mixture.means[0][:6], file.mixture.means[0][6:12])
    assert float(bound.source.mixture.means[0][6]) == file.mixture.means[0][13]


NO_EMBEDDINGS = Units(params="without embeddings")
PER_BYTE = Units(loss="nats per byte")
REFUSED = {
    "another law": ({"law": "chinchilla"}, {}, {}, "law chinchilla, this fit's is pnorm"),
    "other groups": (
        {"kind": "groups", "groups": ({"architecture": "mamba"},)}, {}, {}, "is of mamba",
    ),
    "no level": ({"level": False}, {"level": True}, {}, "no absolute level"),
    "no such part": ({}, {"parts": ("drift",)}, {}, "holds nothing of drift"),
    "unit of loss": (
        {"units": Units(loss="accuracy")}, {"level": True}, {}, "no conversion is known",
    ),
    "bytes": ({"units": PER_BYTE}, {"level": True}, {}, "bytes per token"),
    "embeddings": ({"units": NO_EMBEDDINGS}, {}, {}, "params without embeddings|are without"),
    "interaction": ({"law": "interaction"}, {}, {"law": "interaction"}, "reference run"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_go_together_is_refused_with_the_reason(case):
    made, used, study, message = REFUSED[case]
    if made.get("law") == "chinchilla":
        made = made | {"components": 1}
    with pytest.raises(InputError, match=message), jax.enable_x64(True):
        bind_all([PriorUse(file=_file(made), **used)], importing(ONE, **study))


def _file(made):
    names = {"interaction": {"v_slope": 0.0, "beta_slope": 0.0}}.get(made.get("law", ""), {})
    import prior_files

    prior_files.CENTRE.update(names)
    return prior_file(**made)


@pytest.mark.parametrize(
    "wrong", [{"vague": 1.0}, {"vague": -0.1}, {"parts": ()}, {"parts": ("all",)}]
)
def test_a_use_out_of_range_is_refused(wrong):
    with pytest.raises(InputError):
        PriorUse(file=prior_file(), **wrong)


def loss_shift(theirs, ours, *, file_bytes=None, our_bytes=None):
    file = prior_file(units=Units(loss=theirs, bytes_per_token=file_bytes))
    use = PriorUse(file=file, level=True, bytes_per_token=our_bytes)
    with jax.enable_x64(True):
        shift = bind_all([use], importing(ONE, loss_unit=ours))[0].source.shift
    return np.exp(np.asarray(shift)) * [OURS.params, OURS.tokens, OURS.loss]


def test_units_of_loss_and_tokens_convert():
    # 2.9 nats per token are 2.9 / log 2 bits per token, and at 4 bytes a token 0.725 nats per byte.
    np.testing.assert_allclose(loss_shift("nats per token", "bits per token")[2], 2.9 / np.log(2))
    np.testing.assert_allclose(
        loss_shift("nats per token", "nats per byte", file_bytes=4.0)[2], 2.9 / 4
    )
    np.testing.assert_allclose(
        loss_shift("nats per byte", "nats per token", file_bytes=4.0, our_bytes=3.0)[2], 2.9 * 3
    )
    # A token of 3 bytes where the file's have 4: the same text is 4/3 as many tokens, each with 3/4
    # of the loss.
    there = loss_shift("nats per token", "nats per token", file_bytes=4.0, our_bytes=3.0)
    np.testing.assert_allclose(there, [2e8, 5e9 * 4 / 3, 2.9 * 3 / 4])


def test_params_without_embeddings_convert_where_they_are_a_power_of_params():
    ours = runs(ONE)["params"].to_numpy()
    file = prior_file(units=NO_EMBEDDINGS)
    with jax.enable_x64(True):
        study = importing(ONE, params_non_embedding=0.6 * (ours / 1e8) ** 1.1 * 1e8)
        bound = bind_all([PriorUse(file=file)], study)[0]
        x = jnp.asarray(file.mixture.means[0][:6])
        theta = from_file(replace(bound.source, law_part="full"), study.law, x[:, None])[:, 0]
        own = study.law.geometry.forward(x)
    assert "to the 1.100" in bound.notes[0]
    # alpha per e-fold of params is 1.1 times that per e-fold of params without embeddings.
    assert float(theta[3] - own[3]) == pytest.approx(np.log(1.1), abs=1e-9)
    wanted = np.log(2e8 / 0.6e8 / (OURS.params / 1e8) ** 1.1)
    assert float(bound.source.shift[0]) == pytest.approx(wanted, abs=1e-9)


def test_where_a_law_was_fitted_is_told_in_the_studys_units():
    ours = runs(ONE)["params"].to_numpy()
    # At 4 bytes a token there and 2 here the same text is twice as many tokens here.
    file = prior_file(units=Units(bytes_per_token=4.0), fitted_over=((19.0, 1.0, 2.0),))
    with jax.enable_x64(True):
        twice = bind_all([PriorUse(file=file, bytes_per_token=2.0)], importing(ONE))[0]
    assert twice.fitted_over == (pytest.approx((19.0 + np.log10(2), 1.0 + np.log10(2), 2.0)),)
    # 1e9 params without embeddings are as many more here as our runs say.
    power = importing(ONE, params_non_embedding=0.6 * (ours / 1e8) ** 1.1 * 1e8)
    with jax.enable_x64(True):
        file = prior_file(units=NO_EMBEDDINGS, fitted_over=((19.0, 1.0, 2.0),))
        (cell,) = bind_all([PriorUse(file=file)], power)[0].fitted_over
    params = np.log10(1e8 * (1e9 / 0.6e8) ** (1 / 1.1))
    assert cell == pytest.approx((params + 10.0, 10.0 - params, 2.0))


def test_the_noise_alone_has_no_range_nor_has_a_law_of_some_groups():
    file = prior_file(fitted_over=((19.0, 1.0, 2.0),))
    some = replace(file, groups=({"architecture": "xlstm"},))
    with jax.enable_x64(True):
        assert not any(one.fitted_over for one in bind_all([PriorUse(file=some)], importing(SIX)))
        assert bind_all([PriorUse(file=file)], importing(SIX))[0].fitted_over
    with jax.enable_x64(True):
        (noise,) = bind_all([PriorUse(file=file, parts=("noise",))], importing(ONE))
        law, both = bind_all([PriorUse(file=file)], importing(ONE))
    assert noise.fitted_over == both.fitted_over == ()
    assert law.fitted_over


def test_params_without_embeddings_are_counted_from_shapes_where_no_column_has_them():
    widths = {"d_model": [512] * 6 + [768] * 6, "n_layers": 8, "n_heads": 8, "d_ff": 2048}
    counts = [
        count_params(TransformerShape(d_model=d, n_layers=8, n_heads=8, d_ff=2048))
        for d in (512, 768)
    ]
    inside = np.repeat([c.without_embedding_and_head for c in counts], 6)
    params = np.repeat([c.total for c in counts], 6)
    file = prior_file(units=NO_EMBEDDINGS)
    with jax.enable_x64(True):
        found, wanted = (
            bind_all([PriorUse(file=file)], importing(ONE, params=params, **columns))[0].source
            for columns in (widths, {"params_non_embedding": inside})
        )
    assert np.array_equal(found.shift, wanted.shift)
    assert np.array_equal(found.offset, wanted.offset)
    for lacking in ({"n_heads": np.nan}, {"d_model": 513}, {"architecture": "mamba"}):
        with pytest.raises(InputError, match="alone"), jax.enable_x64(True):
            bind_all([PriorUse(file=file)], importing(ONE, params=params, **widths | lacking))


def test_params_without_embeddings_that_are_no_power_are_refused():
    ours = runs(ONE)["params"].to_numpy()
    study = importing(ONE, params_non_embedding=ours - 0.48e8)
    with pytest.raises(InputError, match="no power of params"), jax.enable_x64(True):
        bind_all([PriorUse(file=prior_file(units=NO_EMBEDDINGS))], study)


def test_drifts_that_disagree_are_refused():
    files = [prior_file(name=f"d{s}", drift={"scale": s, "shared": 0.5}) for s in (0.01, 0.02)]
    with jax.enable_x64(True):
        bound = bind_all([PriorUse(file=file) for file in files], importing(ONE))
        assert imported_drift(bound[:2]).scale == 0.01
        with pytest.raises(InputError, match="disagree on the drift"):
            imported_drift(bound)


def test_a_prior_that_was_set_aside_is_not_said_to_be_worth_runs():
    weights = {aside: np.asarray([aside, 1 - aside]) for aside in (0.9, 0.1)}
    said = {a: _words(["other"], "law", 0.2, w, 160.0, 0.3) for a, w in weights.items()}
    assert "set aside" in said[0.9]
    assert "worth" not in said[0.9]
    assert "worth about 160 more runs" in said[0.1]
    endless = _words(["other"], "law", 0.2, weights[0.1], MOST_RUNS, 0.3)
    assert "its worth in runs cannot be told: runs like these, however many" in endless
