"""What a lab engineer mistypes: one line, exit code 2, nothing begun and nothing left behind."""

import pandas as pd
import pytest

from allometry.cli import main

ISOFLOP = ["sweep", "plan", "--design", "isoflop", "--contexts", "64", "--sizes-per-budget", "3"]
TOKEN_PARAM = ["sweep", "plan", "--design", "token-param", "--contexts", "64"]
SIZES = ["--vocab-size", "256", "-o", "new.csv"]
RUN = ["sweep", "run", "plan.csv", "--corpus", "CORPUS"]
BENCH = ["latency", "bench", "--shapes", "transformer-tiny"]
TRAIN = ["train", "--corpus", "CORPUS", "--context-length", "32", "--batch-size", "2"]

CASES = [
    (["corpus", "build", "TEXT", "-o", "file/new"], "file/new: cannot be written"),
    (["corpus", "build", "TEXT", "-o", "file"], "file: is a file"),
    (["corpus", "build", "--demo", "english", "-o", "file/new"], "file/new: cannot be written"),
    (["corpus", "build", "TEXT", "-o", "new", "--workers", "0"], "workers must be at least 1"),
    ([*ISOFLOP, "--budgets", "1e300", *SIZES], "budgets must be at most 1e+35, got 1e+300"),
    ([*ISOFLOP, "--budgets", "1e11", "--seeds", "-1", *SIZES], "whole number of 32 bits, got -1"),
    ([*ISOFLOP, "--budgets", "1e11", "--seeds-at", "3", *SIZES], "--seeds-at: 3 is none of"),
    ([*ISOFLOP, "--budgets", "1e11", "-o", "new.csv", "--vocab-size", "0"], "vocab_size 0"),
    ([*ISOFLOP, "--budgets", "1e11", "-o", "new.txt"], "new.txt: cannot write .txt"),
    ([*ISOFLOP, "--budgets", "1e11", "-o", "file/new.csv"], "cannot be written"),
    ([*ISOFLOP, "--budgets", "1e11", "--lr-probe", "file/new", *SIZES], "file/new: cannot be"),
    ([*TOKEN_PARAM, "--sizes", "1e300", "--ratios", "2", *SIZES], "sizes must be at most 1e+15"),
    ([*TOKEN_PARAM, "--sizes", "1e5", "--ratios", "1e300", *SIZES], "ratios must be at most 1e+09"),
    ([*RUN, "-o", "file/new"], "file/new: cannot be written"),
    ([*RUN, "-o", "file"], "file: is a file"),
    ([*RUN, "-o", "new", "--workers", "-1"], "workers must be 0 or more, got -1"),
    ([*RUN, "-o", "new", "--gpus", "-1"], "--gpus"),
    (["sweep", "run", "bad.csv", "--corpus", "CORPUS", "-o", "new"], "seed must be at least 0"),
    ([*TRAIN, "--params", "1e5", "--steps", "2", "-o", "file/new"], "file/new: cannot be written"),
    ([*TRAIN, "--params", "1e300", "--steps", "2", "-o", "new"], "no shape near 1e+300 params"),
    ([*TRAIN, "--params", "6e4", "--tokens", "nan", "-o", "new"], "--tokens: must be positive"),
    (["train", "list.json", "-o", "new"], "list.json: not a run's config"),
    (["train", "folder", "-o", "new"], "folder: cannot be read"),
    ([*TRAIN, "--params", "6e4", "--steps", "2", "-o", "new", "--device", "mps"], "on 'mps'"),
    (["kernels", "check", "--device", "meta"], "cannot compute on 'meta'; use auto, cpu or cuda"),
    (["kernels", "check", "--device", "banana"], "no device 'banana'"),
    (["kernels", "bench", "--device", "cpu", "--time", "-4"], "--time"),
    (["kernels", "bench", "--device", "cpu", "--repeats", "0"], "--repeats"),
    (["kernels", "bench", "--device", "cpu", "--heads", "0"], "--heads"),
    (["kernels", "bench", "--device", "cpu", "-o", "new.txt"], "new.txt: suffix .txt"),
    ([*BENCH, "-o", "new.txt"], "new.txt: cannot write .txt"),
    ([*BENCH, "-o", "file/new.csv"], "file/new.csv: cannot be written"),
    ([*BENCH, "-o", "new.csv", "--seconds-per-point", "nan"], "seconds per point nan"),
    ([*BENCH, "-o", "new.csv", "--threads", "100000"], "100000 threads on"),
    ([*TRAIN, "--params", "1", "--steps", "2", "-o", "new"], "no shape near 1 params"),
]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a file where a folder is wanted, a plan, and one with a faulty seed."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "folder").mkdir()
    sizes = ["--sizes", "1e5", "--ratios", "2", "--vocab-size", "256"]
    assert main([*TOKEN_PARAM, *sizes, "-o", "plan.csv"]) == 0
    plan = pd.read_csv("plan.csv")
    plan.assign(seed=-1).to_csv("bad.csv", index=False)
    return tmp_path


def test_mistakes_are_one_line_and_leave_nothing_behind(place, corpus, documents, capsys):
    known = {"CORPUS": str(corpus), "TEXT": str(documents)}
    before = sorted(place.rglob("*"))
    for words, said in CASES:
        capsys.readouterr()
        assert main([known.get(word, word) for word in words]) == 2, words
        err = capsys.readouterr().err
        errors = [line for line in err.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1, words
        assert said in errors[0], words
        assert "Traceback" not in err
        assert sorted(place.rglob("*")) == before, words
