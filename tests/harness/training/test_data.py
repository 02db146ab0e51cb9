import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.errors import InputError
from allometry.harness.corpus import TokenRow, read_manifest
from allometry.harness.training import data
from allometry.harness.training.data import TrainingWindows, ValidationWindows, shuffled


@pytest.fixture(scope="module")
def row(corpus):
    return TokenRow(corpus, read_manifest(corpus), "train")


@given(n=st.integers(1, 3000), seed=st.integers(0, 2**31), epoch=st.integers(0, 50))
def test_shuffled_is_a_permutation(n, seed, epoch):
    order = shuffled(np.arange(n, dtype=np.uint64), n, (seed, epoch))
    assert sorted(order.tolist()) == list(range(n))


def test_neighbours_are_torn_apart_and_seeds_and_epochs_differ():
    n = 20_000
    orders = [shuffled(np.arange(n, dtype=np.uint64), n, key) for key in ((0, 0), (0, 1), (1, 0))]
    for order in orders:
        values = order.astype(float)
        # Of independent uniform numbers a correlation has sd 1/sqrt(n) = 0.007; five of them.
        assert abs(np.corrcoef(values, np.arange(n))[0, 1]) < 0.035
        assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.035
    for other in orders[1:]:
        assert (orders[0] == other).sum() < 15  # expected: one


def test_an_epoch_sees_every_token_once(row):
    windows = TrainingWindows(row, 32, seed=3)
    epoch = windows.batch(0, windows.n_windows)
    in_order = row.windows(32 * np.arange(windows.n_windows), 33)
    assert sorted(epoch.tolist()) == sorted(in_order.tolist())
    again = windows.batch(windows.n_windows, windows.n_windows)
    assert sorted(again.tolist()) == sorted(in_order.tolist())
    assert again.tolist() != epoch.tolist()


def test_the_next_token_is_the_target_across_shards(row):
    everything = row.windows([0], len(row))[0]
    starts = [0, 19_990, 40_000, len(row) - 64]  # shards hold about 20,000
    windows = row.windows(starts, 64)
    for start, window in zip(starts, windows, strict=True):
        assert window.tolist() == everything[start : start + 64].tolist()


def test_processes_together_see_one_batch(row):
    windows = TrainingWindows(row, 32, seed=3)
    whole = windows.batch(40, 8)
    parts = [windows.batch(40 + rank, 4, every=2) for rank in (0, 1)]
    assert whole[0::2].tolist() == parts[0].tolist()
    assert whole[1::2].tolist() == parts[1].tolist()


@pytest.mark.parametrize("every", [1, 3])
def test_a_batch_goes_on_in_the_next_block_and_epoch(row, monkeypatch, every):
    data._shuffled_block.cache_clear()
    monkeypatch.setattr(data, "_BLOCK", 7)
    windows = TrainingWindows(row, 1024, seed=3)
    first, count = windows.n_windows - 20, 25
    assert windows.n_windows < first + every * count
    one_by_one = [windows.batch(first + every * i, 1)[0].tolist() for i in range(count)]
    assert windows.batch(first, count, every=every).tolist() == one_by_one
    data._shuffled_block.cache_clear()


def test_the_validation_set_is_spread_over_the_split(row):
    windows = ValidationWindows(row, 32, 320)
    assert len(windows) == 10
    starts = windows._starts
    assert starts[0] == 0
    assert np.ptp(np.diff(starts)) <= 32  # even, to one window
    assert starts[-1] > 0.85 * len(row)
    assert len(ValidationWindows(row, 32, 0)) == (len(row) - 1) // 32


def test_a_split_shorter_than_a_window_is_refused(row):
    with pytest.raises(InputError, match="a window needs"):
        TrainingWindows(row, len(row), seed=0)
    with pytest.raises(InputError, match="a window needs"):
        ValidationWindows(row, len(row), 0)
