"""Text to token numbers: bytes, a trained byte-level BPE, or a given tokenizer.json."""

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from allometry.errors import InputError
from allometry.harness.corpus.documents import SEPARATOR

Tokens = np.ndarray[tuple[int], np.dtype[np.unsignedinteger[Any]]]

END_OF_TEXT_NAMES = (SEPARATOR, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")
"""Looked for, in this order, in a given tokenizer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Encoder:
    """A tokenizer as the corpus needs it.

    Attributes
    ----------
    kind : str
        ``bytes`` or ``file``.
    vocab_size : int
        Token numbers are below this.
    end_of_text : int
        Number that ends every document.
    sha256 : str
        Of the tokenizer file; of the rule's name for bytes.
    encode : callable
        From text to token numbers, without any special token.
    """

    kind: str
    vocab_size: int
    end_of_text: int
    sha256: str
    encode: Callable[[str], Tokens]


def byte_encoder() -> Encoder:
    """One token a byte of UTF-8; byte 0 ends a document and is dropped from the text."""

    def encode(text: str) -> Tokens:
        return np.frombuffer(text.replace("\0", "").encode("utf-8", "replace"), dtype=np.uint8)

    name = hashlib.sha256(b"utf-8 bytes, 0 ends a document").hexdigest()
    return Encoder(kind="bytes", vocab_size=256, end_of_text=0, sha256=name, encode=encode)


def file_encoder(path: Path) -> Encoder:
    """Tokenizer of a ``tokenizer.json``.

    Raises
    ------
    InputError
        If the file is missing, is no tokenizer, or has no token that ends a text.
    """
    if not path.is_file():
        raise InputError("no such tokenizer file", where=str(path))
    content = path.read_bytes()
    try:
        tokenizer = tokenizers.Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises bare Exception
        raise InputError(f"not a tokenizer.json: {error}", where=str(path)) from error
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    ends = [vocabulary[name] for name in END_OF_TEXT_NAMES if name in vocabulary]
    if not ends:
        what = f"no token that ends a text: none of {' '.join(END_OF_TEXT_NAMES)}"
        raise InputError(what, where=str(path), hint=f"Add {SEPARATOR} as a special token.")
    tokenizer.encode_special_tokens = True  # "</s>" inside a text is text, not the end of it

    def encode(text: str) -> Tokens:
        return np.asarray(tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.uint32)

    return Encoder(
        kind="file",
        vocab_size=max(vocabulary.values()) + 1,
        end_of_text=ends[0],
        sha256=hashlib.sha256(content).hexdigest(),
        encode=encode,
    )


def train_bpe(texts: Iterable[str], *, vocab_size: int) -> bytes:
    """Train a byte-level BPE and return its ``tokenizer.json``.

    Parameters
    ----------
    texts : iterable of str
        Read once. Memory grows with the number of distinct words, not with the text.
    vocab_size : int
        At least 257: all bytes and the end of text, which has number 0.
    """
    if vocab_size < 257:
        what = f"a byte-level BPE needs a vocabulary of at least 257, got {vocab_size}"
        raise InputError(what, hint="Use --tokenizer bytes for a vocabulary of 256.")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[SEPARATOR],
        initial_alphabet=sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return str(tokenizer.to_str(pretty=True)).encode()
