"""Read a corpus while training: shards mapped into memory, seen as one long row of tokens."""

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import numpy as np

from allometry.errors import InputError
from allometry.harness.corpus.manifest import BUILD_AGAIN, ITEM_BYTES, Manifest, SplitName

Tokens = np.ndarray[tuple[int, ...], np.dtype[np.int64]]


class TokenRow:
    """The shards of one split, end to end; only what is read is loaded.

    Parameters
    ----------
    folder : Path
        The corpus.
    manifest : Manifest
        Its manifest.
    split : {"train", "validation"}
        Which tokens.

    Raises
    ------
    InputError
        If a shard is missing or has the wrong size; contents are what `check_corpus` checks.
    """

    def __init__(self, folder: Path, manifest: Manifest, split: SplitName) -> None:
        dtype = np.dtype(manifest.dtype).newbyteorder("<")
        maps = []
        for shard in manifest.shards(split):
            path = folder / shard.file
            size = shard.tokens * ITEM_BYTES[manifest.dtype]
            found = path.stat().st_size if path.is_file() else None
            if found != size:
                state = "missing" if found is None else f"has {found} bytes, should have {size}"
                raise InputError(f"damaged shard: {state}", where=str(path), hint=BUILD_AGAIN)
            if size:
                # A plain view: to slice a memmap costs more than to copy a window of it.
                maps.append(np.asarray(np.memmap(path, dtype=dtype, mode="r")))
        self._maps = maps
        self._ends = list(accumulate(len(tokens) for tokens in maps))

    def __len__(self) -> int:
        return self._ends[-1]

    def windows(self, starts: Sequence[int] | Tokens, length: int) -> Tokens:
        """Tokens of windows, shape (windows, length), int64, on from each of `starts`."""
        first, last = int(min(starts)), int(max(starts)) + length
        shard = bisect_right(self._ends, first)
        if last <= self._ends[shard]:
            # All in one shard, as nearly always: rows of a view whose rows overlap, one copy.
            tokens, begin = self._maps[shard], self._ends[shard] - len(self._maps[shard])
            shape, step = (len(tokens) - length + 1, length), tokens.itemsize
            view = np.ndarray(shape, tokens.dtype, tokens, strides=(step, step))
            rows: Tokens = view[np.asarray(starts) - begin].astype(np.int64)
            return rows
        rows = np.empty((len(starts), length), dtype=np.int64)
        for row, start in zip(rows, map(int, starts), strict=True):
            self._read_into(row, start)
        return rows

    def _read_into(self, row: Tokens, start: int) -> None:
        shard = bisect_right(self._ends, start)
        filled = 0
        while filled < len(row):
            tokens = self._maps[shard]
            offset = start + filled - (self._ends[shard] - len(tokens))
            part = tokens[offset : offset + len(row) - filled]
            row[filled : filled + len(part)] = part
            filled += len(part)
            shard += 1
