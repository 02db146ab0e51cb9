import numpy as np
import pandas as pd

from allometry.observations import read_runs
from allometry.observations.lookalikes import lookalikes


def runs(**columns):
    params = np.geomspace(1e7, 1e9, 12)
    table = pd.DataFrame({"params": params, "tokens": 20 * params, "loss": 3 - params / 1e9})
    return table.assign(**columns)


def test_an_unread_column_that_may_tell_groups_apart_is_named():
    kinds, notes = ["mamba", "gpt"] * 6, list("abcdefghijkl")
    table = runs(model_kind=kinds, window=[1024, 4096] * 6, note=notes)
    assert lookalikes(table) == {"architecture": "model_kind", "context_length": "window"}
    said = "\n".join(read_runs(table).warnings)
    assert "'model_kind' is it: --alias model_kind=architecture" in said
    assert "'window' is it: --alias window=context_length" in said


def test_unread_training_flops_are_known_by_their_size():
    table = runs()
    work = 6.5 * table["params"] * table["tokens"]
    assert lookalikes(table.assign(work=work)) == {"flops": "work"}
    assert lookalikes(table.assign(work=work / 1e18)) == {}


def test_nothing_is_guessed_where_two_columns_could_be_meant_or_the_name_is_there():
    kinds = ["mamba", "gpt"] * 6
    assert lookalikes(runs(kind=kinds, data=kinds)) == {}
    assert lookalikes(runs(architecture=kinds, data=kinds)) == {}
    assert lookalikes(runs(depth=[2, 3, 4] * 4, flag=[True, False] * 6)) == {}
