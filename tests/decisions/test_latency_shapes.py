"""Shapes that a latency is asked of: timed ones as they were timed, others with their settings."""

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from allometry.accounting import VOCAB_SIZE, XLSTMShape
from allometry.decisions.latency import predict_latency
from allometry.decisions.latency_shapes import point_shapes
from allometry.inference import LatencyPosterior

OTHER_CHUNK, OTHER_VOCABULARY = 256, 4096


def retold(posterior: LatencyPosterior, **widths: float) -> LatencyPosterior:
    """The posterior of a table with other widths in every row."""
    tree = posterior.idata.copy(deep=True)
    known = tree["constant_data"].to_dataset()
    size = known.sizes["timing"]
    same = {name: ("timing", np.full(size, width)) for name, width in widths.items()}
    tree["constant_data"] = xr.DataTree(known.assign(same))
    return LatencyPosterior(idata=tree, record=posterior.record)


@pytest.fixture
def points(fitted_latency):
    """A timed size of each architecture, and one that was not timed."""
    timed = fitted_latency.timed_models().drop_duplicates("architecture")
    rows = timed[["architecture", "params"]]
    return pd.concat([rows, rows.assign(params=3e8)], ignore_index=True)


def test_a_timed_model_has_the_widths_it_was_timed_with(fitted_latency, points):
    timed = point_shapes(retold(fitted_latency, chunk_size=OTHER_CHUNK), points)
    chunks = [shape.chunk_size for shape in timed if isinstance(shape, XLSTMShape)]
    assert chunks == [OTHER_CHUNK, OTHER_CHUNK]  # the other size too: all timings had it
    asked = points.assign(d_model=np.nan, chunk_size=32.0)
    given = point_shapes(retold(fitted_latency, chunk_size=OTHER_CHUNK), asked)
    assert [s.chunk_size for s in given if isinstance(s, XLSTMShape)] == [32, 32]


def test_a_size_that_was_not_timed_has_the_vocabulary_of_those_that_were(fitted_latency, points):
    new = points[points["params"] == 3e8]
    other = point_shapes(retold(fitted_latency, vocab_size=OTHER_VOCABULARY), new)
    assert [shape.vocab_size for shape in other] == [OTHER_VOCABULARY] * 2
    assert [shape.vocab_size for shape in point_shapes(fitted_latency, new)] == [VOCAB_SIZE] * 2


def test_predictions_of_timed_models_do_not_ask_for_their_widths(fitted_latency):
    posterior = retold(fitted_latency, chunk_size=OTHER_CHUNK)
    models = posterior.timed_models()
    points = models.assign(batch_size=1, prefill_length=2048, quantity="ttft")
    narrow = ["architecture", "params", "batch_size", "prefill_length", "quantity"]
    with_widths = predict_latency(posterior, points)["seconds_median"]
    without = predict_latency(posterior, points[narrow])["seconds_median"]
    pd.testing.assert_series_equal(without, with_widths)
    families = predict_latency(fitted_latency, points[narrow])["seconds_median"]
    xlstm = points["architecture"] == "xlstm"
    assert (families[xlstm] != without[xlstm]).all()  # twice the tokens a chunk, half the chunks
