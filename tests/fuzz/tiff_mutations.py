"""Mutations that know TIFF: entries of directories, offsets, tile tables, loops of directories, descriptions."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from tests.fuzz.mutations import ANY_BYTES, NUMBERS, apply, pick

_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_TAGS = (254, 256, 257, 258, 259, 262, 270, 273, 277, 278, 279, 282, 284, 296, 305, 317, 322, 323, 324, 325, 330, 347,
         338, 339, 530, 700, 32997, 34675, 65420, 65426)  # fmt: skip
_SUB_DIRECTORIES = 330
_WORDS = (b"nan", b"-1", b"1e999", b"", b"99999999999999999999", b"<!ENTITY a 'b'>", b"&a;", b"\0", b"\xff", b"|", b"=",
          b"Hamamatsu", b"<OME", b"MPP = ", b"Aperio")  # fmt: skip


@dataclass(frozen=True)
class _Field:
    """A number in the file: position and struct format."""

    position: int
    form: str

    def write(self, data: bytearray, value: int) -> None:
        length = struct.calcsize(self.form)
        if self.position + length <= len(data):
            struct.pack_into(self.form, data, self.position, value & (256**length - 1))

    def read(self, data: bytes | bytearray) -> int:
        inside = self.position + struct.calcsize(self.form) <= len(data)
        return int(struct.unpack_from(self.form, data, self.position)[0]) if inside else 0


@dataclass(frozen=True)
class _Layout:
    """Where a valid TIFF keeps its numbers."""

    tags: tuple[_Field, ...]
    types: tuple[_Field, ...]
    counts: tuple[_Field, ...]
    values: tuple[_Field, ...]
    links: tuple[_Field, ...]
    """Offsets of directories."""
    tables: tuple[tuple[_Field, ...], ...]
    """Values of the entries that keep theirs elsewhere: tile offsets and byte counts, mostly."""
    texts: tuple[tuple[int, int], ...]
    """Start and length."""


def mutate_tiff(content: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations of a valid TIFF, of its structure rather than of its pixels."""
    layout = _layout(content)
    own = tuple(partial(mutation, layout) for mutation in _OWN)
    return apply((*own, *own, *ANY_BYTES), content, rng)


def _layout(content: bytes) -> _Layout:
    order = "<" if content[:2] == b"II" else ">"
    is_big = struct.unpack(order + "H", content[2:4])[0] == 43
    offset, entries, head, entry_bytes = ("Q", "Q", 8, 20) if is_big else ("I", "H", 2, 12)
    width = struct.calcsize(offset)
    links = [_Field(8 if is_big else 4, order + offset)]
    found: dict[str, list] = {key: [] for key in ("tags", "types", "counts", "values", "tables", "texts")}
    seen = set[int]()
    for link in links:  # grows on the way
        start = link.read(content)
        if not start or start in seen:
            continue
        seen.add(start)
        number = _Field(start, order + entries).read(content)
        for position in range(start + head, start + head + number * entry_bytes, entry_bytes):
            tag, kind = _Field(position, order + "H"), _Field(position + 2, order + "H")
            count, value = _Field(position + 4, order + offset), _Field(position + 4 + width, order + offset)
            for key, field in zip(("tags", "types", "counts", "values"), (tag, kind, count, value), strict=True):
                found[key].append(field)
            size = _TYPE_BYTES[kind.read(content)]
            length = size * count.read(content)
            data_start = value.read(content) if length > width else value.position
            if kind.read(content) == 2:
                found["texts"].append((data_start, length))
            elif length > width and size in (2, 4, 8):
                form = order + {2: "H", 4: "I", 8: "Q"}[size]
                table = [_Field(data_start + i * size, form) for i in range(count.read(content))]
                found["tables"].append(tuple(table))
                if tag.read(content) == _SUB_DIRECTORIES:
                    links += table
        links.append(_Field(start + head + number * entry_bytes, order + offset))
    return _Layout(links=tuple(links), **{key: tuple(value) for key, value in found.items()})


def _number(data: bytearray, rng: np.random.Generator) -> int:
    own = (len(data), len(data) - 1, int(rng.integers(len(data) + 1)), int(rng.integers(2**16)))
    return pick(rng, (*NUMBERS, *own))


def _wrong_value(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    pick(rng, layout.values).write(data, _number(data, rng))


def _near_value(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    """Twice, half or one off: plausible enough to come past the first checks."""
    field = pick(rng, layout.values)
    value = field.read(data)
    field.write(data, pick(rng, (value + 1, value - 1, value * 2, value // 2, value << 8, value ^ 1)))


def _wrong_count(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    pick(rng, layout.counts).write(data, _number(data, rng))


def _wrong_type(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    pick(rng, layout.types).write(data, int(rng.integers(20)))


def _wrong_tag(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    pick(rng, layout.tags).write(data, pick(rng, _TAGS))


def _swap(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    """Two values, or two tables' offsets."""
    one, other = pick(rng, layout.values), pick(rng, layout.values)
    first, second = one.read(data), other.read(data)
    one.write(data, second)
    other.write(data, first)


def _wrong_link(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    """A directory follows itself or one before it, or lies anywhere."""
    targets = [link.read(data) for link in layout.links]
    pick(rng, layout.links).write(data, pick(rng, [*targets, _number(data, rng)]))


def _wrong_table(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    """One or all numbers of a tile table."""
    if not layout.tables:
        return
    table, value = pick(rng, layout.tables), _number(data, rng)
    for field in table if rng.random() < 0.3 else [pick(rng, table)]:
        field.write(data, value)


def _wrong_text(layout: _Layout, data: bytearray, rng: np.random.Generator) -> None:
    """A word in a description: metadata is parsed as well."""
    start, length = pick(rng, layout.texts) if layout.texts else (0, 1)
    word = pick(rng, _WORDS)[:length]
    at = start + int(rng.integers(max(1, length - len(word))))
    if at + len(word) <= len(data):
        data[at : at + len(word)] = word


_Structural = Callable[[_Layout, bytearray, np.random.Generator], None]
_OWN: tuple[_Structural, ...] = (
    _wrong_value,
    _wrong_value,
    _near_value,
    _near_value,
    _wrong_count,
    _wrong_type,
    _wrong_tag,
    _swap,
    _wrong_link,
    _wrong_table,
    _wrong_text,
)
