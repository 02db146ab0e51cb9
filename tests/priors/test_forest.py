"""Groups and other priors side by side, at one reference run."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from prior_files import prior_file

from allometry.cli import main
from allometry.errors import InputError
from allometry.inference.evaluate import LawDraws, log_loss_at
from allometry.laws import Scale, get_law
from allometry.priors import forest_table
from allometry.priors.forest import moved_to

HERE, THERE = Scale(params=2e8, tokens=5e9, loss=2.9), Scale(params=7e9, tokens=9e10, loss=1.0)
GROUPS = ({"architecture": "transformer"}, {"architecture": "xlstm"})


def narrow(**options):
    """A prior whose draws are as good as one number."""
    return prior_file(sd=1e-6, components=1, reference=HERE, noise=False, **options)


@pytest.mark.parametrize("level", [True, False])
def test_a_prior_moved_says_of_the_new_run_what_its_law_says_there(level):
    file = narrow(level=level)
    mean = dict(zip([q.name for q in file.quantities], file.mixture.mean, strict=True))
    rows = jnp.asarray([mean.get(name, 0.0) for name in
                        ("log_loss", "log_slope_params", "log_slope_tokens", "logit_reducible",
                         "logit_params_share", "log_gamma")])[:, None]  # fmt: skip
    law = get_law("pnorm")
    with jax.enable_x64(True):
        theta = np.asarray(law.geometry.forward(rows.astype(jnp.float64)))
    drawn = LawDraws(
        law=law,
        coefficients={n: theta[i][:, None] for i, n in enumerate(law.names)},
        log_reference=(np.log(HERE.params), np.log(HERE.tokens), 0.0),
    )

    def log_loss(params: float, tokens: float) -> float:
        return float(log_loss_at(drawn, np.asarray([params]), np.asarray([tokens]))[0][0, 0])

    step = 1e-4  # central differences: their error is of the order of its square
    slopes = [
        -(log_loss(THERE.params * np.exp(a), THERE.tokens * np.exp(b))
          - log_loss(THERE.params * np.exp(-a), THERE.tokens * np.exp(-b))) / (2 * step)
        for a, b in ((step, 0.0), (0.0, step))
    ]  # fmt: skip
    found = moved_to(file, THERE).mean(axis=0)
    first = 1 if level else 0
    np.testing.assert_allclose(np.exp(found[first : first + 2]), slopes, rtol=1e-4)
    if level:
        assert found[0] == pytest.approx(log_loss(THERE.params, THERE.tokens), abs=1e-4)


def test_rows_are_groups_and_the_priors_beside_them():
    file = prior_file(kind="groups", groups=GROUPS, reference=HERE)
    same, other = prior_file(name="same", reference=HERE), prior_file(name="far", reference=THERE)
    table = forest_table(file, [same, other])
    slopes = table[table["quantity"] == "slope_params"]
    assert list(slopes["group"]) == ["transformer", "xlstm", "same", "far"]
    assert list(slopes["kind"]) == ["group", "group", "predictive", "predictive"]
    # A loss of another study's reference run does not compare.
    assert list(table[table["quantity"] == "loss"]["group"]) == ["transformer", "xlstm", "same"]


def test_what_does_not_stand_beside_is_refused():
    file = prior_file(name="a")
    with pytest.raises(InputError, match="is of groups"):
        forest_table(file, [prior_file(kind="groups", groups=GROUPS)])
    with pytest.raises(InputError, match="is of law chinchilla"):
        forest_table(file, [replace(file, law="chinchilla")])


def test_the_command_draws_the_forest_and_keeps_its_lines_short(tmp_path, capsys):
    picture = tmp_path / "forest.png"
    command = ["prior", "show", "xlstm-study-groups", "--beside", "typical"]
    assert main([*command, "--plot", str(picture)]) == 0
    assert picture.read_bytes().startswith(b"\x89PNG")
    captured = capsys.readouterr()
    assert str(picture) in captured.err
    assert "typical" in captured.out
    assert max(map(len, captured.out.splitlines())) < 125
    assert main([*command, "--plot", str(tmp_path / "forest.bmp")]) == 2


def test_a_comparison_without_names_and_a_picture_without_a_place_are_refused(tmp_path, capsys):
    from allometry.cli import main

    assert main(["prior", "show", "typical", "--beside"]) == 2
    assert "--beside" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    asked = tmp_path / "file" / "forest.png"
    assert main(["prior", "show", "xlstm-study-groups", "--plot", str(asked)]) == 2
    said = capsys.readouterr().err
    assert str(asked) in said.replace("\n", "")
    assert ".tmp" not in said
