import numpy as np
import pandas as pd
import pytest

from allometry.criticism import isoflop_optima, parabola_growth_law
from allometry.errors import InputError

BUDGETS = (1e18, 1e19, 1e20)


def valleys(params_exponent: float = 0.55, budgets: tuple[float, ...] = BUDGETS) -> pd.DataFrame:
    """Exact parabolas in log10 N (and so in log10 D: C = 6 N D), minimum at 0.1 C ** exponent."""
    rows = []
    for flops in budgets:
        best = 0.1 * flops**params_exponent
        for params in best * np.geomspace(0.3, 4.0, 7):
            loss = 3.0 - 0.1 * np.log10(flops / 1e18) + 0.2 * np.log10(params / best) ** 2
            rows.append((params, flops / 6 / params, flops, loss))
    return pd.DataFrame(rows, columns=["params", "tokens", "flops", "loss"])


def test_minima_of_exact_parabolas_are_found():
    optima = isoflop_optima(valleys())
    np.testing.assert_allclose(optima["params"], 0.1 * np.array(BUDGETS) ** 0.55, rtol=1e-8)
    np.testing.assert_allclose(optima["params"] * optima["tokens"] * 6, BUDGETS, rtol=1e-8)
    np.testing.assert_allclose(optima["loss"], [3.0, 2.9, 2.8], rtol=1e-10)
    assert optima["inside"].all()


def test_growth_law_is_the_line_through_the_minima():
    growth = parabola_growth_law(valleys()).iloc[0]
    assert growth["params_exponent"] == pytest.approx(0.55)
    assert growth["params_prefactor"] == pytest.approx(0.1)
    assert growth["tokens_exponent"] == pytest.approx(0.45)
    assert growth["budgets"] == 3


def test_realised_budgets_that_scatter_are_one_budget():
    table = valleys()
    rng = np.random.default_rng(0)
    table["flops"] *= 1 + 0.04 * rng.standard_normal(len(table)).clip(-2, 2)
    assert isoflop_optima(table)["runs"].tolist() == [7, 7, 7]


def test_a_valley_that_opens_downwards_has_no_optimum():
    table = valleys()
    upside = table["flops"] == 1e19
    table.loc[upside, "loss"] = 6.0 - table.loc[upside, "loss"]
    np.testing.assert_allclose(isoflop_optima(table)["flops"], [1e18, 1e20])


def test_one_budget_has_no_growth_law():
    with pytest.raises(InputError, match="two budgets"):
        parabola_growth_law(valleys(budgets=(1e18,)))
