"""Build a corpus folder from files: streaming, in parallel, and again from where it stopped.

Documents come in one stream and are cut into parts of a fixed number of characters. A part is
encoded by one process, which writes its shards and then a small record; a second build skips parts
that have a record for the same text. So neither the number of workers nor a kill changes a byte.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from allometry.errors import InputError
from allometry.files import check_folder
from allometry.harness.corpus.documents import in_validation, input_files, read_pieces
from allometry.harness.corpus.manifest import (
    ITEM_BYTES,
    MANIFEST,
    SPLITS,
    Manifest,
    Shard,
    read_manifest,
    write_manifest,
)
from allometry.harness.corpus.parts import PARTS, PartJob, batches, clean, encode_parts
from allometry.harness.corpus.tokenizer import Encoder, byte_encoder, file_encoder, train_bpe
from allometry.harness.files import (
    file_sha256,
    no_space_is_one_line,
    read_json,
    remove_temporary_files,
    write_bytes,
    write_json,
)

PLAN = "build.json"
TOKENIZER = "tokenizer.json"
PART_CHARACTERS = 16 << 20
TOKENIZER_CHARACTERS = 256 << 20
"""Text of the train split from which a BPE is trained, at most."""

Report = Callable[[str, int], None]
"""Called with what is going on and the characters done so far."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CorpusOptions:
    """How to build a corpus; everything here changes its contents.

    Attributes
    ----------
    tokenizer : str
        ``bpe`` (trained on the train split), ``bytes``, or the path of a tokenizer.json.
    vocab_size : int
        Of a trained BPE.
    validation_fraction : float
        Share of groups held out, above 0 and below 1.
    split_by : str or None
        Field that groups documents, so that no group is in both splits.
    text_field : str
        Field (JSONL) or column (Parquet) of the text.
    dtype : str
        ``uint16``, ``uint32``, or ``auto``: the smallest that holds the vocabulary.
    licence, source : str
        Of the text; written into the manifest.
    part_characters : int
        Text a shard is made from.
    """

    tokenizer: str = "bpe"
    vocab_size: int = 4096
    validation_fraction: float = 0.05
    split_by: str | None = None
    text_field: str = "text"
    dtype: str = "auto"
    licence: str = ""
    source: str = ""
    part_characters: int = PART_CHARACTERS

    def __post_init__(self) -> None:
        if not 0 < self.validation_fraction < 1:
            what = f"validation_fraction must be between 0 and 1, got {self.validation_fraction}"
            raise InputError(what)
        if self.dtype not in ("auto", *ITEM_BYTES):
            raise InputError(f"dtype must be auto, uint16 or uint32, got {self.dtype!r}")
        if self.part_characters < 1:
            raise InputError(f"part_characters must be positive, got {self.part_characters}")


def build_corpus(
    inputs: Sequence[Path],
    folder: Path,
    *,
    options: CorpusOptions | None = None,
    workers: int = 1,
    report: Report | None = None,
) -> Manifest:
    """Encode files into a corpus folder; the same call finishes a build that was stopped.

    Parameters
    ----------
    inputs : sequence of Path
        Files or folders of text, JSONL or Parquet.
    folder : Path
        Where shards and manifest go.
    options : CorpusOptions, optional
        Tokenizer, split and provenance.
    workers : int
        Processes that encode. The result does not depend on it.
    report : callable, optional
        Told of progress; see `Report`.

    Raises
    ------
    InputError
        If an input cannot be read, the vocabulary does not fit the dtype, a split would be empty,
        or the folder holds another corpus.
    RunError
        If the disk is full.
    """
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    options = options or CorpusOptions()
    report = report or (lambda stage, characters: None)
    files = input_files(inputs)
    if not files:
        raise InputError("no input: name a text, JSONL or Parquet file or a folder of them")
    check_folder(folder)
    with no_space_is_one_line(folder):
        (folder / PARTS).mkdir(parents=True, exist_ok=True)
    _claim(folder, _plan(files, options))
    remove_temporary_files(folder)
    remove_temporary_files(folder / PARTS)
    if not (folder / MANIFEST).is_file():
        try:
            _encode_everything(files, folder, options, workers, report)
        except InputError:  # not to be finished: leave the folder to other options
            _clear(folder)
            raise
    for record in (folder / PARTS).iterdir():
        record.unlink()
    (folder / PARTS).rmdir()
    return read_manifest(folder)


def _encode_everything(
    files: Sequence[Path], folder: Path, options: CorpusOptions, workers: int, report: Report
) -> None:
    encoder = _encoder(files, folder, options, report)
    dtype = _dtype(encoder, options.dtype)
    job = PartJob(
        folder=folder,
        tokenizer=None if options.tokenizer == "bytes" else folder / TOKENIZER,
        dtype=dtype,
        validation_fraction=options.validation_fraction,
    )
    parts = batches(read_pieces(files, **_fields(options)), options.part_characters)
    records = []
    done = 0
    for record in encode_parts(job, parts, workers=workers):
        records.append(record)
        done += record["characters"]
        report("encoding", done)
    shards = {name: tuple(Shard(**r[name]) for r in records if name in r) for name in SPLITS}
    for name in SPLITS:
        if not shards[name]:
            what = f"no document fell into the {name} split at a fraction of "
            what += f"{options.validation_fraction}"
            hint = "Give more documents, another --validation-fraction, or split long files: a "
            hint += "line of <|endoftext|> ends a document."
            raise InputError(what, where=str(folder), hint=hint)
    manifest = Manifest(
        tokenizer="bytes" if encoder.kind == "bytes" else TOKENIZER,
        tokenizer_sha256=encoder.sha256,
        vocab_size=encoder.vocab_size,
        end_of_text=encoder.end_of_text,
        dtype=dtype,
        validation_fraction=options.validation_fraction,
        split_by=options.split_by,
        licence=options.licence,
        source=options.source,
        inputs=tuple({"name": file.name, "bytes": file.stat().st_size} for file in files),
        train=shards["train"],
        validation=shards["validation"],
    )
    write_manifest(folder, manifest)


def _plan(files: Sequence[Path], options: CorpusOptions) -> dict[str, Any]:
    inputs = [{"name": file.name, "bytes": file.stat().st_size} for file in files]
    plan = asdict(options)
    if options.tokenizer not in ("bpe", "bytes"):
        path = Path(options.tokenizer)
        plan["tokenizer"] = file_sha256(path) if path.is_file() else "missing"
    return {"inputs": inputs, "options": plan}


def _claim(folder: Path, plan: dict[str, Any]) -> None:
    path = folder / PLAN
    if path.is_file():
        if read_json(path) != plan:
            what = "holds a corpus of other inputs or options"
            raise InputError(what, where=str(folder), hint="Choose another folder, or remove it.")
    elif (folder / MANIFEST).is_file():
        raise InputError("holds a corpus already", where=str(folder), hint="Choose another folder.")
    else:
        write_json(path, plan)


def _clear(folder: Path) -> None:
    for split in SPLITS:
        for path in (*folder.glob(f"{split}-*.bin"), *folder.glob(f"{split}-*.starts")):
            path.unlink()
    for path in (*(folder / PARTS).iterdir(), folder / TOKENIZER, folder / PLAN):
        path.unlink(missing_ok=True)
    (folder / PARTS).rmdir()
    with contextlib.suppress(OSError):  # it holds something of its owner's
        folder.rmdir()


def _fields(options: CorpusOptions) -> dict[str, Any]:
    return {"text_field": options.text_field, "split_by": options.split_by}


def _encoder(
    files: Sequence[Path], folder: Path, options: CorpusOptions, report: Report
) -> Encoder:
    if options.tokenizer == "bytes":
        return byte_encoder()
    path = folder / TOKENIZER
    if not path.is_file():
        if options.tokenizer == "bpe":
            texts = _train_texts(files, options, report)
            write_bytes(path, train_bpe(texts, vocab_size=options.vocab_size))
        else:
            file_encoder(Path(options.tokenizer))  # complain before copying
            write_bytes(path, Path(options.tokenizer).read_bytes())
    return file_encoder(path)


def _train_texts(files: Sequence[Path], options: CorpusOptions, report: Report) -> Iterator[str]:
    done = 0
    for piece in read_pieces(files, **_fields(options)):
        if in_validation(piece.group, options.validation_fraction):
            continue
        yield clean(piece.text)
        done += len(piece.text)
        report("training the tokenizer", done)
        if done >= TOKENIZER_CHARACTERS:
            return


def _dtype(encoder: Encoder, wanted: str) -> str:
    needed = "uint16" if encoder.vocab_size <= 1 << 16 else "uint32"
    if wanted == "uint16" and needed == "uint32":
        what = f"a vocabulary of {encoder.vocab_size} does not fit uint16, which holds 65536"
        raise InputError(what, hint="Use --dtype uint32 or auto.")
    return needed if wanted == "auto" else wanted
