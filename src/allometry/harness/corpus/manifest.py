"""What a corpus folder holds: shards of tokens, their hashes, and where the text came from."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from allometry.errors import InputError
from allometry.harness.files import file_sha256, read_json, write_json

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
SPLITS = ("train", "validation")
ITEM_BYTES = {"uint16": 2, "uint32": 4}

BUILD_AGAIN = (
    "Remove manifest.json and what is damaged; then the same allometry corpus build again."
)

SplitName = Literal["train", "validation"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Shard:
    """One file of tokens and the file of its document starts.

    Attributes
    ----------
    file : str
        Raw little-endian tokens, end of text after each document.
    sha256, starts_sha256 : str
        Of `file`, and of the file with the same name and suffix ``.starts``: little-endian uint64
        numbers of the tokens at which a document starts.
    tokens, documents, text_bytes : int
        Tokens with ends of text; documents that start here; UTF-8 bytes of their text.
    """

    file: str
    sha256: str
    starts_sha256: str
    tokens: int
    documents: int
    text_bytes: int

    @property
    def starts_file(self) -> str:
        """File of the document starts."""
        return str(Path(self.file).with_suffix(".starts"))


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Contents of ``manifest.json``.

    Attributes
    ----------
    tokenizer : str
        ``bytes``, or the name of the tokenizer file in the folder.
    tokenizer_sha256, vocab_size, end_of_text
        As in `Encoder`.
    dtype : str
        ``uint16`` or ``uint32``, little-endian.
    validation_fraction : float
        Share of the groups held out, chosen by the hash of the group's name.
    split_by : str or None
        Field that groups documents; None splits document by document.
    licence, source : str
        Of the text, as whoever built the corpus stated it.
    inputs : tuple of mapping
        Name and bytes of each input file.
    train, validation : tuple of Shard
        In order.
    """

    tokenizer: str
    tokenizer_sha256: str
    vocab_size: int
    end_of_text: int
    dtype: str
    validation_fraction: float
    split_by: str | None
    licence: str
    source: str
    inputs: tuple[Mapping[str, Any], ...]
    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    schema_version: int = SCHEMA_VERSION

    def shards(self, split: SplitName) -> tuple[Shard, ...]:
        """Shards of a split, in order."""
        return self.train if split == "train" else self.validation

    def tokens(self, split: SplitName) -> int:
        """Tokens of a split."""
        return sum(shard.tokens for shard in self.shards(split))


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``manifest.json`` with the totals of each split in front of its shards."""
    document = asdict(manifest)
    for split in SPLITS:
        shards = document.pop(split)
        totals = {key: sum(s[key] for s in shards) for key in ("tokens", "documents", "text_bytes")}
        document[split] = totals | {"shards": list(shards)}
    write_json(folder / MANIFEST, {"schema_version": document.pop("schema_version"), **document})


def read_manifest(folder: Path) -> Manifest:
    """Read a corpus folder's manifest.

    Raises
    ------
    InputError
        If the folder is no corpus, the build did not finish, or the manifest is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        what = "no corpus here" if folder.is_dir() else "no such folder"
        if (folder / "build.json").is_file():
            what = "this corpus is not finished"
        hint = "Make it with allometry corpus build; the same command finishes a stopped build."
        raise InputError(what, where=str(folder), hint=hint)
    document = read_json(path)
    try:
        if document["schema_version"] != SCHEMA_VERSION:
            what = (
                f"schema version {document['schema_version']}, this version reads {SCHEMA_VERSION}"
            )
            raise InputError(what, where=str(path), hint="Build the corpus again.")
        fields = dict(document)
        for split in SPLITS:
            fields[split] = tuple(Shard(**shard) for shard in document[split]["shards"])
        fields["inputs"] = tuple(document["inputs"])
        return Manifest(**fields)
    except (KeyError, TypeError) as error:
        what = f"damaged manifest: {type(error).__name__} {error}"
        raise InputError(what, where=str(path), hint=BUILD_AGAIN) from error


def manifest_sha256(folder: Path) -> str:
    """SHA-256 of the manifest, which names a corpus: it holds the hash of every shard."""
    return file_sha256(folder / MANIFEST)


def check_corpus(folder: Path) -> list[dict[str, Any]]:
    """Read every byte of a corpus and compare it with its manifest.

    Returns
    -------
    list of dict
        One row a file: `file`, `split`, `tokens`, and `status`, which is ``ok``, ``missing``, a
        wrong size or a wrong sha256.
    """
    manifest = read_manifest(folder)
    rows: list[dict[str, Any]] = []
    for split in SPLITS:
        for shard in manifest.shards("train" if split == "train" else "validation"):
            size = shard.tokens * ITEM_BYTES[manifest.dtype]
            state = _state(folder / shard.file, size, shard.sha256)
            rows.append(
                {"file": shard.file, "split": split, "tokens": shard.tokens, "status": state}
            )
            state = _state(folder / shard.starts_file, 8 * shard.documents, shard.starts_sha256)
            row = {"file": shard.starts_file, "split": split, "tokens": None, "status": state}
            rows.append(row)
    if manifest.tokenizer != "bytes":
        path = folder / manifest.tokenizer
        size = path.stat().st_size if path.exists() else 0
        state = _state(path, size, manifest.tokenizer_sha256)
        rows.append({"file": manifest.tokenizer, "split": None, "tokens": None, "status": state})
    return rows


def _state(path: Path, size: int, sha256: str) -> str:
    if not path.is_file():
        return "missing"
    if path.stat().st_size != size:
        return f"has {path.stat().st_size} bytes, should have {size}"
    return "ok" if file_sha256(path) == sha256 else "damaged: sha256 differs"
