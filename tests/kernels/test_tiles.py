"""Tiles fit the shared memory of every kind of GPU, and the tuner picks the best."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from allometry.errors import KernelError
from allometry.kernels.tiles import (
    CHUNK_SIZES,
    MAX_CANDIDATES,
    MIN_TILE,
    pair_bytes,
    pair_candidates,
    state_candidates,
    state_tile_bytes,
    step_block,
)

KB = 1024
# H100; A100; RTX 30, 40, 50 and sm_120; T4: shared memory of one block.
LIMITS = (227 * KB, 163 * KB, 99 * KB, 64 * KB)
BYTES = {"bfloat16": (2, 2), "float16": (2, 4), "float32": (4, 4)}  # operand, scaled operand
COMPILER = Path(__file__).parents[1] / "helpers" / "compile_for_gpu.py"


@given(
    widths=st.tuples(st.integers(1, 512), st.integers(1, 512)),
    chunk=st.sampled_from(CHUNK_SIZES),
    dtype=st.sampled_from(sorted(BYTES)),
    limit=st.sampled_from(LIMITS),
)
def test_every_candidate_fits_and_there_is_always_one(widths, chunk, dtype, limit):
    operand, wide = BYTES[dtype]
    pairs = pair_candidates(
        width=widths[0],
        out_width=widths[1],
        chunk=chunk,
        operand_bytes=operand,
        wide_bytes=wide,
        state_bytes=wide,
        limit=limit,
    )
    states = state_candidates(
        d_qk=widths[0],
        d_v=widths[1],
        chunk=chunk,
        operand_bytes=operand,
        wide_bytes=wide,
        limit=limit,
    )
    for found in (pairs, states):
        assert 1 <= len(found) <= MAX_CANDIDATES
    for tiles in pairs:
        assert pair_bytes(tiles, widths[0], operand, wide, wide) <= limit
        sides = (tiles.rows, tiles.columns, tiles.inner, tiles.outer)
        assert all(side >= MIN_TILE and side & (side - 1) == 0 for side in sides)
        assert chunk % tiles.rows == chunk % tiles.columns == 0
    for tiles in states:
        assert state_tile_bytes(tiles, operand, wide) <= limit
        assert chunk % tiles.time == 0


def test_an_h100_gets_larger_tiles_than_a_t4():
    def largest(limit: int) -> int:
        found = pair_candidates(
            width=256,
            out_width=512,
            chunk=128,
            operand_bytes=2,
            wide_bytes=2,
            state_bytes=2,
            limit=limit,
        )
        return max(tiles.rows * tiles.outer for tiles in found)

    assert largest(LIMITS[0]) > largest(LIMITS[3])


def test_a_step_of_few_heads_is_cut_finer_than_one_of_many():
    assert step_block(512, 264, 8) < step_block(512, 264, 1024) == 64
    assert step_block(512, 264, 1) == MIN_TILE


@pytest.fixture
def tuner(tmp_path, monkeypatch):
    from allometry.kernels.tuning import Tuner

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    speeds = itertools.cycle([3.0, 1.0, 2.0])

    def measure(launch):
        launch()
        return next(speeds)

    return Tuner(measure)


def _three():
    return state_candidates(
        d_qk=64, d_v=128, chunk=128, operand_bytes=2, wide_bytes=2, limit=LIMITS[0]
    )[:3]


def test_the_fastest_tiles_are_kept_in_the_process_and_on_disk(tuner):
    from allometry.kernels.tuning import Tuner

    candidates, launched = _three(), []
    chosen = tuner.choose(("states", 64), candidates, launched.append, large=True)
    assert chosen == candidates[1]
    assert launched == list(candidates)
    tuner.choose(("states", 64), candidates, launched.append, large=True)
    later = Tuner(lambda launch: pytest.fail("measured again"))
    assert later.choose(("states", 64), candidates, launched.append, large=True) == chosen
    assert len(launched) == 3


def test_small_calls_are_not_measured(tuner):
    candidates = _three()
    assert (
        tuner.choose(("states", 64), candidates, lambda tiles: None, large=False) == candidates[0]
    )


def test_tiles_that_do_not_run_are_passed_over_and_none_at_all_is_an_error(tuner):
    from triton.runtime.errors import OutOfResources

    candidates = _three()

    def launch(tiles):
        if tiles != candidates[2]:
            raise OutOfResources(2, 1, "shared memory")

    assert tuner.choose(("a",), candidates, launch, large=False) == candidates[2]
    with pytest.raises(KernelError, match="no tile"):
        tuner.choose(("b",), candidates[:2], launch, large=False)


def compiled(**options):
    """What `compile_for_gpu` reports, compiled in a process without the interpreter."""
    environment = os.environ | {"TRITON_INTERPRET": "0"}
    command = [sys.executable, str(COMPILER), json.dumps(options)]
    lines = subprocess.run(
        command, capture_output=True, text=True, check=True, env=environment
    ).stdout.splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("capability", "limit", "d_qk", "d_v", "chunk", "dtype", "count"),
    [
        (90, LIMITS[0], 128, 256, 128, "bfloat16", 6),
        (90, LIMITS[0], 256, 512, 256, "bfloat16", 6),
        (80, LIMITS[1], 96, 80, 64, "float16", 2),
        (80, LIMITS[1], 128, 256, 64, "float32", 2),
        (120, LIMITS[2], 256, 512, 256, "bfloat16", 2),
        (75, LIMITS[3], 128, 256, 64, "float16", 1),
    ],
)
def test_the_compiler_needs_no_more_memory_than_the_formula_says(
    capability, limit, d_qk, d_v, chunk, dtype, count
):
    rows = compiled(
        capability=capability,
        limit=limit,
        d_qk=d_qk,
        d_v=d_v,
        chunk=chunk,
        dtype=dtype,
        count=count,
    )
    estimated = [row for row in rows if "estimate" in row]
    assert {row["kernel"] for row in rows} >= {"pairs_kernel", "states_kernel", "step_kernel"}
    assert {row["use"] for row in estimated} >= {"h", "q", "k", "v"}
    for row in estimated:
        assert row["shared"] <= row["estimate"] <= limit, row
