"""Numbers in words, the same in Python and in the page's script."""

import json
import shutil
import subprocess
from importlib import resources

import numpy as np
import pytest

from allometry.inference.reach import reach_sentence, times_words
from allometry.report.planner import reaches
from allometry.report.words import (
    count_words,
    joined,
    percent_words,
    plural,
    power_words,
    range_words,
)

VALUES = [0.0123, 0.97, 3.14, 20.4, 999.4, 1234.0, 9.97e5, 7.234e9, 9.96e11, 1.4e13, 3.3e16, 2e19]
FACTORS = [0.3, 1.0, 1.5, 9.96, 31.0, 99.4, 104.0, 2766.0, 5e4, 2e6, 1.87e41]


def script(expression, values):
    """What the page's script answers for `values`, as JSON."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("no node to run the page's script with")
    source = (resources.files("allometry.report") / "assets" / "numbers.js").read_text()
    program = (
        f"{source}\nconst given = {json.dumps(values)};"
        f"console.log(JSON.stringify(given.map((v) => {expression})));"
    )
    done = subprocess.run([node, "-e", program], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_counts_and_budgets_read_the_same_in_the_script():
    assert script("countWords(v)", VALUES) == [count_words(v) for v in VALUES]
    assert script("powerWords(v)", VALUES) == [power_words(v) for v in VALUES]
    pairs = [[a, 1.37 * a] for a in VALUES]
    assert script("rangeWords(v[0], v[1])", pairs) == [range_words(a, b) for a, b in pairs]


def test_chances_and_factors_read_the_same_in_the_script():
    chances = [0.0, 0.004, 0.006, 0.634, 0.991, 0.996, 1.0]
    assert script("percentWords(v)", chances) == [percent_words(p) for p in chances]
    assert script("timesWords(v)", FACTORS) == [times_words(f) for f in FACTORS]


def test_the_script_says_of_a_distance_what_predictions_say():
    told = [r | {"high": r["high"] if np.isfinite(r["high"]) else None} for r in reaches()]
    answered = script(f"reachWords({json.dumps(told)}, v)", FACTORS)
    assert answered == [reach_sentence(f) for f in FACTORS]
    answered = script(f"reachWords({json.dumps(told)}, v, true)", FACTORS)
    assert answered == [reach_sentence(f, unseen=True) for f in FACTORS]


def test_the_script_gives_nodes_exactly_and_goes_straight_between_them_on_the_log_scale():
    flops, values = [1e18, 1.47e18, 1e20, 3.3e20], [7.1e7, 9.3e7, 1.2e9, 2.22e9]
    expression = f"interpolate({flops}, {values}, v)"
    assert script(expression, flops) == values
    middle = float(np.sqrt(1.47e18 * 1e20))
    assert script(expression, [middle]) == pytest.approx([np.sqrt(9.3e7 * 1.2e9)], rel=1e-12)
    assert script(expression, [1e17, 1e22]) == [values[0], values[-1]]
    chances = f"interpolate({flops}, [0, 0, 1, 1], v, true)"
    assert script(chances, [middle]) == pytest.approx([0.5], rel=1e-12)
    missing = f"interpolate({flops}, [1, null, 2, 3], v)"
    assert script(missing, [1.2e18, middle, 2e20])[:2] == [None, None]


def test_a_typed_budget_is_read_as_people_write_it():
    typed = ["1e22", " 1.5E+22 ", "10^22", "3 x 10^22", "3×10^22", "1,000", "", "-1", "1e", "many"]
    read = script("typedBudget(v)", typed)
    assert read[:6] == [1e22, 1.5e22, 1e22, 3e22, 3e22, 1000]
    assert read[6:] == [None] * 4  # NaN


def test_lists_and_plurals():
    assert [joined(p) for p in (["a"], ["a", "b"], ["a", "b", "c"])] == [
        "a",
        "a and b",
        "a, b and c",
    ]
    assert [plural(n, "run") for n in (1, 2, 1234)] == ["1 run", "2 runs", "1,234 runs"]
