"""Which tokens a step sees: windows in an order that the seed fixes, found without any state."""

import hashlib
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from allometry.errors import InputError
from allometry.harness.corpus import TokenRow

Integers = np.ndarray[tuple[int], np.dtype[np.uint64]]
Positions = np.ndarray[tuple[int], np.dtype[np.int64]]

_BLOCK = 1 << 14
_ROUNDS = 6
_MIX = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio: the constant of splitmix64


class TrainingWindows:
    """Training windows: each once an epoch, in an order that depends on seed and epoch only.

    Window i holds tokens ``i T`` to ``i T + T`` inclusive: T inputs and the T tokens that follow
    them. Nothing is kept between calls, so a resumed run needs only its step number.

    Parameters
    ----------
    tokens : TokenRow
        The train split.
    context_length : int
        T, tokens a window.
    seed : int
        Of the order.
    """

    def __init__(self, tokens: TokenRow, context_length: int, seed: int) -> None:
        self._tokens, self._length, self._seed = tokens, context_length, seed
        self.n_windows = (len(tokens) - 1) // context_length
        if self.n_windows < 1:
            what = f"the train split has {len(tokens)} tokens, a window needs {context_length + 1}"
            raise InputError(what, hint="Use a smaller context length or a larger corpus.")

    def batch(self, first: int, count: int, *, every: int = 1) -> Tensor:
        """Windows number `first`, ``first + every``, ... of the whole run.

        Returns
        -------
        Tensor, shape (count, T + 1), int64
        """
        order = np.empty(count, dtype=np.int64)
        done = 0
        while done < count:
            epoch, place = divmod(first + every * done, self.n_windows)
            block, within = divmod(place, _BLOCK)
            found = _shuffled_block(self.n_windows, self._seed, epoch, block)[within::every]
            found = found[: count - done]  # the rest is of another block or epoch
            order[done : done + len(found)] = found
            done += len(found)
        return torch.from_numpy(self._tokens.windows(order * self._length, self._length + 1))


class ValidationWindows:
    """The fixed validation set: windows spread evenly over the validation split, in order.

    Parameters
    ----------
    tokens : TokenRow
        The validation split.
    context_length : int
        T, tokens a window.
    most_tokens : int
        Tokens to take, at most; 0 means every whole window.
    """

    def __init__(self, tokens: TokenRow, context_length: int, most_tokens: int) -> None:
        self._tokens, self._length = tokens, context_length
        whole = (len(tokens) - 1) // context_length
        if whole < 1:
            what = f"the validation split has {len(tokens)} tokens, a window needs "
            hint = "Build the corpus with a larger validation_fraction."
            raise InputError(what + f"{context_length + 1}", hint=hint)
        count = min(whole, max(1, most_tokens // context_length)) if most_tokens else whole
        self._starts = (np.arange(count) * whole // count) * context_length

    def __len__(self) -> int:
        return len(self._starts)

    def batch(self, first: int, count: int) -> Tensor:
        """Up to `count` windows from `first` on, shape (<= count, T + 1), int64."""
        starts = self._starts[first : first + count]
        return torch.from_numpy(self._tokens.windows(starts, self._length + 1))


@lru_cache(maxsize=4)  # a step needs one block or two; by the block it costs nothing
def _shuffled_block(n: int, seed: int, epoch: int, block: int) -> Positions:
    places = np.arange(block * _BLOCK, min(n, (block + 1) * _BLOCK), dtype=np.uint64)
    return shuffled(places, n, (seed, epoch)).astype(np.int64)


def shuffled(places: Integers, n: int, key: tuple[int, int]) -> Integers:
    """Where a permutation of 0 ... n - 1 sends `places`; no memory for the permutation.

    A Feistel network on the next even number of bits is a permutation of 2^bits numbers; numbers
    that leave the range are sent on until they return ("cycle walking"), which keeps it one of n.

    Parameters
    ----------
    places : uint64 array
        Numbers below `n`.
    n : int
        Size of the permutation.
    key : (int, int)
        Chooses the permutation.
    """
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    mask = np.uint64((1 << int(half)) - 1)
    digest = hashlib.sha256(f"{key[0]}:{key[1]}".encode()).digest()
    round_keys = np.concatenate([np.frombuffer(digest, dtype="<u8")] * 2)[:_ROUNDS]
    result = places.copy()
    away = np.ones(len(places), dtype=bool)
    while away.any():
        left, right = result[away] >> half, result[away] & mask
        for number, round_key in enumerate(round_keys):
            mixed = _mix(right ^ (round_key + np.uint64(number)))
            left, right = right, (left ^ mixed) & mask
        result[away] = (left << half) | right
        away = result >= n
    return result


def _mix(x: Integers) -> Integers:
    # The finaliser of splitmix64 (Steele et al. 2014); uint64 arrays wrap around by design.
    x = x * _MIX
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
