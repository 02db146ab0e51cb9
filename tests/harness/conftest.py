"""A small corpus of invented words, the same on every run, and what tests do with folders."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from allometry.harness.corpus import CorpusOptions, build_corpus


def invented_text(rng, words):
    """Words with Zipf's frequencies over a vocabulary of 300: enough order to learn from."""
    vocabulary = ["".join(rng.choice(list("aeioklmnrst"), rng.integers(2, 7))) for _ in range(300)]
    frequency = 1.0 / np.arange(1, 301)
    return " ".join(rng.choice(vocabulary, size=words, p=frequency / frequency.sum()))


@pytest.fixture(scope="session")
def documents(tmp_path_factory):
    """JSONL of 60 documents, about 90 kB."""
    path = tmp_path_factory.mktemp("text") / "documents.jsonl"
    rng = np.random.default_rng(20260)
    rows = [{"text": invented_text(rng, 300), "topic": f"topic {i % 20}"} for i in range(60)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def corpus(tmp_path_factory, documents):
    """Byte corpus of the documents."""
    folder = tmp_path_factory.mktemp("corpus") / "bytes"
    options = CorpusOptions(tokenizer="bytes", validation_fraction=0.1, part_characters=20_000)
    build_corpus([documents], folder, options=options)
    return folder


@pytest.fixture
def contents():
    """Function from a folder to the sha256 of every file in it."""

    def read(folder: Path) -> dict[str, str]:
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }

    return read
