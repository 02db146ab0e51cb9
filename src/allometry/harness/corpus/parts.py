"""A part of a corpus: which pieces belong to it, and its shards, written by one process."""

import hashlib
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from allometry.errors import RunError
from allometry.harness.corpus.documents import Piece, in_validation
from allometry.harness.corpus.manifest import SPLITS, Shard
from allometry.harness.corpus.tokenizer import Encoder, byte_encoder, file_encoder
from allometry.harness.files import read_json, replacing, write_bytes, write_json

PARTS = "parts"
"""Folder of the records of finished parts, while a corpus is built."""


def clean(text: str) -> str:
    """Text without lone surrogates, which no encoding of text can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(frozen=True, kw_only=True, slots=True)
class PartJob:
    """What is the same for every part of a corpus.

    Attributes
    ----------
    folder : Path
        The corpus.
    tokenizer : Path or None
        Tokenizer file; None for bytes.
    dtype : str
        Of the shards.
    validation_fraction : float
        Share of groups held out.
    """

    folder: Path
    tokenizer: Path | None
    dtype: str
    validation_fraction: float


Batch = tuple[int, list[Piece]]
"""Number and pieces of a part."""


def batches(pieces: Iterator[Piece], characters: int) -> Iterator[Batch]:
    """Cut the stream of pieces into parts of at least so many characters, the last one less."""
    number, size = 0, 0
    batch: list[Piece] = []
    for piece in pieces:
        batch.append(piece)
        size += len(piece.text)
        if size >= characters:
            yield number, batch
            number, size, batch = number + 1, 0, []
    if batch:
        yield number, batch


def encode_part(job: PartJob, batch: Batch) -> dict[str, Any]:
    """Write a part's shards and then its record; or return the record of the same text.

    Returns
    -------
    dict
        `text_sha256`, `characters`, and the fields of a Shard for each split that has one.
    """
    number, pieces = batch
    record_path = job.folder / PARTS / f"{number:05d}.json"
    digest = _digest(pieces)
    if record_path.is_file() and (record := read_json(record_path))["text_sha256"] == digest:
        return dict(record)
    encoder = file_encoder(job.tokenizer) if job.tokenizer else byte_encoder()
    characters = sum(len(piece.text) for piece in pieces)
    record = {"text_sha256": digest, "characters": characters}
    for split in SPLITS:
        held_out, share = split == "validation", job.validation_fraction
        chosen = [p for p in pieces if in_validation(p.group, share) == held_out]
        if chosen:
            file = f"{split}-{number:05d}.bin"
            record[split] = asdict(_write_shard(job.folder, file, chosen, encoder, job.dtype))
    write_json(record_path, record)
    return record


def _digest(pieces: Sequence[Piece]) -> str:
    digest = hashlib.sha256()
    for piece in pieces:
        text = piece.text.encode("utf-8", "surrogatepass")
        head = f"{piece.group}\0{piece.starts:d}{piece.ends:d}{len(text)}\0"
        digest.update(head.encode() + text)
    return digest.hexdigest()


def _write_shard(
    folder: Path, file: str, pieces: Sequence[Piece], encoder: Encoder, dtype: str
) -> Shard:
    little = np.dtype(dtype).newbyteorder("<")
    tokens, text_bytes = 0, 0
    starts: list[int] = []
    digest = hashlib.sha256()
    with replacing(folder / file) as stream:
        for piece in pieces:
            if piece.starts:
                starts.append(tokens)
            text = clean(piece.text)
            end = [encoder.end_of_text] if piece.ends else []
            numbers = np.concatenate([encoder.encode(text), np.array(end, np.uint32)])
            content = numbers.astype(little).tobytes()
            stream.write(content)
            digest.update(content)
            tokens += len(numbers)
            text_bytes += len(text.encode())
    content = np.array(starts, dtype="<u8").tobytes()
    write_bytes((folder / file).with_suffix(".starts"), content)
    return Shard(
        file=file,
        sha256=digest.hexdigest(),
        starts_sha256=hashlib.sha256(content).hexdigest(),
        tokens=tokens,
        documents=len(starts),
        text_bytes=text_bytes,
    )


def encode_parts(job: PartJob, parts: Iterator[Batch], *, workers: int) -> Iterator[dict[str, Any]]:
    """Records of `encode_part` for every part, in order, made by so many processes."""
    # At most workers + 1 batches are in memory: that bounds it whatever the corpus.
    if workers <= 1:
        yield from (encode_part(job, batch) for batch in parts)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_die_with_parent) as pool:
        waiting: deque[Future[dict[str, Any]]] = deque()
        try:
            for batch in parts:
                waiting.append(pool.submit(encode_part, job, batch))
                if len(waiting) > workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            what = "a worker was killed; too little memory, perhaps"
            hint = "Give the same command again, with fewer --workers; it goes on where it stopped."
            raise RunError(what, where=str(job.folder), hint=hint) from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is None:
        raise RunError("a corpus worker has no parent process")

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
