import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from allometry.cli import main
from allometry.errors import InputError, RunError
from allometry.harness.corpus import (
    CorpusOptions,
    TokenRow,
    build_corpus,
    check_corpus,
    read_manifest,
)
from allometry.harness.corpus.documents import in_validation, read_pieces
from allometry.harness.corpus.tokenizer import byte_encoder, file_encoder

OPTIONS = CorpusOptions(
    tokenizer="bytes", validation_fraction=0.2, split_by="topic", part_characters=3000
)
BPE = replace(OPTIONS, tokenizer="bpe", vocab_size=300)


def test_the_shards_are_the_documents_one_after_the_other(tmp_path, documents):
    manifest = build_corpus([documents], tmp_path / "c", options=BPE)
    encoder = file_encoder(tmp_path / "c" / "tokenizer.json")
    assert len(manifest.train) > 5
    for split in ("train", "validation"):
        wanted = []
        for piece in read_pieces([documents], split_by="topic"):
            if in_validation(piece.group, 0.2) == (split == "validation"):
                wanted += [*encoder.encode(piece.text).tolist(), encoder.end_of_text]
        row = TokenRow(tmp_path / "c", manifest, split)
        assert row.windows([0], len(row))[0].tolist() == wanted
        assert manifest.tokens(split) == len(wanted)


def test_document_starts_follow_the_ends_of_text(tmp_path, documents):
    manifest = build_corpus([documents], tmp_path / "c", options=OPTIONS)
    for shard in manifest.train:
        tokens = np.fromfile(tmp_path / "c" / shard.file, dtype="<u2")
        starts = np.fromfile(tmp_path / "c" / shard.starts_file, dtype="<u8")
        ends = np.flatnonzero(tokens == byte_encoder().end_of_text)
        assert starts.tolist() == [0, *(ends[:-1] + 1).tolist()]
        assert shard.text_bytes + shard.documents == shard.tokens  # a byte a token


def test_no_group_is_in_both_splits(tmp_path, documents):
    seen = {True: set(), False: set()}
    for piece in read_pieces([documents], split_by="topic"):
        seen[in_validation(piece.group, 0.2)].add(piece.group)
    assert seen[True]
    assert not seen[True] & seen[False]


def test_the_number_of_workers_changes_no_byte(tmp_path, documents, contents):
    build_corpus([documents], tmp_path / "one", options=BPE)
    build_corpus([documents], tmp_path / "two", options=BPE, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


BUILD = """
import sys
from pathlib import Path
from allometry.harness.corpus import CorpusOptions, build_corpus
options = CorpusOptions(
    tokenizer=sys.argv[3], vocab_size=300, validation_fraction=0.2, split_by="topic",
    part_characters=3000,
)
if __name__ == "__main__":
    build_corpus([Path(sys.argv[1])], Path(sys.argv[2]), options=options, workers=int(sys.argv[4]))
"""


@pytest.mark.parametrize(("tokenizer", "workers", "seed"), [("bpe", 1, 1), ("bytes", 2, 2)])
def test_a_build_killed_at_random_moments_ends_as_if_undisturbed(
    tmp_path, documents, contents, tokenizer, workers, seed
):
    options = replace(BPE, tokenizer=tokenizer)
    build_corpus([documents], tmp_path / "whole", options=options)
    script = tmp_path / "build.py"
    script.write_text(BUILD)
    arguments = [sys.executable, str(script), str(documents), str(tmp_path / "c"), tokenizer]
    rng = np.random.default_rng(seed)
    kills = 0
    for stop_at in sorted(rng.integers(1, 25, size=2)):
        process = subprocess.Popen([*arguments, str(workers)], start_new_session=True)
        parts = tmp_path / "c" / "parts"
        while process.poll() is None and len(list(parts.glob("*"))) < stop_at:
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.01))
        kills += process.poll() is None
        os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None
        process.wait()
    assert kills  # at least one was still at work
    build_corpus([documents], tmp_path / "c", options=options)
    assert contents(tmp_path / "c") == contents(tmp_path / "whole")


def test_a_worker_that_is_killed_is_one_line_and_the_build_goes_on_later(
    tmp_path, documents, contents
):
    def kill_one(stage, characters):
        multiprocessing.active_children()[0].kill()

    folder = tmp_path / "c"
    with pytest.raises(RunError, match="a worker was killed"):
        build_corpus([documents], folder, options=OPTIONS, workers=2, report=kill_one)
    build_corpus([documents], folder, options=OPTIONS)
    build_corpus([documents], tmp_path / "whole", options=OPTIONS)
    assert contents(folder) == contents(tmp_path / "whole")


def test_without_a_terminal_a_build_says_a_line_now_and_then(
    tmp_path, documents, capsys, monkeypatch
):
    monkeypatch.setattr("allometry.cli.corpus._PLAIN_SECONDS", 0.0)
    build = ["corpus", "build", str(documents), "--tokenizer", "bytes", "-o", str(tmp_path / "c")]
    assert main([*build, "--part-characters", "40000"]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 2
    assert all(line.startswith("encoding: 0.") for line in lines)


def test_a_build_goes_on_from_the_parts_it_has(tmp_path, documents, monkeypatch):
    build_corpus([documents], tmp_path / "c", options=OPTIONS)
    before = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").glob("*.bin")}
    build_corpus([documents], tmp_path / "c", options=OPTIONS)
    assert before == {p.name: p.stat().st_mtime_ns for p in (tmp_path / "c").glob("*.bin")}


@pytest.mark.parametrize("harm", ["flip", "cut", "remove"])
def test_a_damaged_shard_is_found_and_named(tmp_path, documents, capsys, harm):
    folder = tmp_path / "c"
    manifest = build_corpus([documents], folder, options=OPTIONS)
    assert {row["status"] for row in check_corpus(folder)} == {"ok"}
    assert main(["corpus", "check", str(folder)]) == 0
    path = folder / manifest.train[2].file
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    if harm == "remove":
        path.unlink()
    else:
        path.write_bytes(content if harm == "flip" else content[:-2])
    capsys.readouterr()
    assert main(["corpus", "check", str(folder)]) == 1
    named, hint = capsys.readouterr().err.splitlines()
    assert path.name in named
    assert hint.startswith("hint: Remove manifest.json")
    if harm != "flip":  # seen without reading everything
        with pytest.raises(InputError, match=path.name):
            TokenRow(folder, manifest, "train")
    (folder / "manifest.json").unlink()
    path.unlink(missing_ok=True)
    build_corpus([documents], folder, options=OPTIONS)
    assert {row["status"] for row in check_corpus(folder)} == {"ok"}


def test_another_corpus_in_the_folder_is_refused(tmp_path, documents):
    build_corpus([documents], tmp_path / "c", options=OPTIONS)
    with pytest.raises(InputError, match="holds a corpus of other inputs or options"):
        build_corpus([documents], tmp_path / "c", options=replace(OPTIONS, part_characters=9))


def test_a_vocabulary_larger_than_the_dtype_is_refused(tmp_path, documents, capsys):
    words = "".join(f'"w{i}": {i + 1}, ' for i in range(70_000))
    tokenizer = tmp_path / "large.json"
    tokenizer.write_text(
        '{"version": "1.0", "added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true,'
        '"single_word": false, "lstrip": false, "rstrip": false, "normalized": false}],'
        '"pre_tokenizer": {"type": "Whitespace"}, "model": {"type": "WordLevel", "unk_token": '
        f'"<unk>", "vocab": {{{words}"<unk>": 70001, "<|endoftext|>": 0}}}}}}'
    )
    arguments = ["corpus", "build", str(documents), "--tokenizer", str(tokenizer)]
    out = ["-o", str(tmp_path / "c")]
    assert main([*arguments, "--dtype", "uint16", *out]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0] == "error: a vocabulary of 70002 does not fit uint16, which holds 65536"
    assert not (tmp_path / "c").exists()
    assert main([*arguments, *out]) == 0
    assert read_manifest(tmp_path / "c").dtype == "uint32"


def test_an_empty_split_is_refused(tmp_path):
    (tmp_path / "one.txt").write_text("one document")
    with pytest.raises(InputError, match="no document fell into the validation split"):
        build_corpus(
            [tmp_path / "one.txt"], tmp_path / "c", options=CorpusOptions(tokenizer="bytes")
        )


FULL_DISK = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from allometry.cli import main
sys.exit(main(sys.argv[2:]))
"""


def test_a_full_disk_is_one_line_and_the_build_goes_on_later(tmp_path, documents, contents):
    arguments = ["corpus", "build", str(documents), "--tokenizer", "bytes"]
    arguments += ["-o", str(tmp_path / "c")]
    command = [sys.executable, "-c", FULL_DISK, "50000", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 1, done.stderr
    error, hint = done.stderr.strip().splitlines()
    assert error.startswith("error: ")
    assert "train-00000.bin: cannot write: File too large" in error
    assert "goes on where it stopped" in hint
    assert main(arguments) == 0
    assert {row["status"] for row in check_corpus(tmp_path / "c")} == {"ok"}


PEAK = """
import resource, sys
from pathlib import Path
from allometry.harness.corpus import CorpusOptions, build_corpus
options = CorpusOptions(tokenizer="bytes", part_characters=1 << 20)
build_corpus([Path(sys.argv[1])], Path(sys.argv[2]), options=options)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_text(tmp_path):
    peaks = []
    for megabytes in (4, 32):
        path = tmp_path / f"{megabytes}.txt"
        line = "All work and no play makes a long text. " * 25 + "\n"
        document = line * 100 + "<|endoftext|>\n"
        with path.open("w") as file:
            for _ in range(megabytes * 10):
                file.write(document)
        command = [sys.executable, "-c", PEAK, str(path), str(tmp_path / f"c{megabytes}")]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
        peaks.append(int(done.stdout) / 1024)
    # 28 MB more text; both builds are past several parts of 1 MB, so a leak of a part would show.
    assert peaks[1] - peaks[0] < 8
