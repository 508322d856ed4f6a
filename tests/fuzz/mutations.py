"""Mutations of any bytes: flipped bits, overwritten, moved and lost runs. TIFF and text have their own besides."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

Mutation = Callable[[bytearray, np.random.Generator], None]
"""Changes the bytes in place."""

T = TypeVar("T")

NUMBERS = (0, 1, 2, 3, 7, 255, 256, 65535, 65536, 10**6, 2**31 - 1, 2**31, 2**32 - 1, 10**10, 2**63 - 1, 2**64 - 1)
"""Where readers go wrong: the ends of the integer types, and sizes that no memory holds."""


def pick(rng: np.random.Generator, items: Sequence[T]) -> T:
    """One of `items`, none of them turned into a numpy type."""
    return items[int(rng.integers(len(items)))]


def place(rng: np.random.Generator, data: bytearray) -> int:
    """A random position in `data`; near its start as often as anywhere."""
    return int(rng.integers(max(1, min(len(data), int(pick(rng, (16, 512, len(data))))))))


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    """Up to 16 single bits."""
    for _ in range(int(rng.integers(1, 17)) if data else 0):
        data[place(rng, data)] ^= 1 << int(rng.integers(8))


def overwrite(data: bytearray, rng: np.random.Generator) -> None:
    """A run of up to 64 bytes by zeros, ones or noise."""
    start, length = place(rng, data), int(rng.integers(1, 65))
    run = pick(rng, (bytes(length), b"\xff" * length, rng.bytes(length)))
    end = min(start + length, len(data))
    data[start:end] = run[: end - start]


def truncate(data: bytearray, rng: np.random.Generator) -> None:
    """All after a random position."""
    del data[int(rng.integers(len(data) + 1)) :]


def cut_out(data: bytearray, rng: np.random.Generator) -> None:
    """A run of up to 64 bytes is lost, what follows moves up."""
    start = place(rng, data)
    del data[start : start + int(rng.integers(1, 65))]


def repeat(data: bytearray, rng: np.random.Generator) -> None:
    """A run of up to 64 bytes comes up to 20 times."""
    start = place(rng, data)
    run = data[start : start + int(rng.integers(1, 65))]
    data[start:start] = run * int(rng.integers(1, 20))


ANY_BYTES: tuple[Mutation, ...] = (flip_bits, overwrite, truncate, cut_out, repeat)


def mutate_bytes(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations that know nothing of the format."""
    return apply(ANY_BYTES, content, rng)


def apply(mutations: Sequence[Mutation], content: bytes, rng: np.random.Generator) -> bytes:
    """One to three of `mutations`, one after the other."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        pick(rng, mutations)(data, rng)
    return bytes(data)
