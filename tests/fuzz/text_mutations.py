"""Mutations that know text: JSON trees, polygons, tokens of XML and CSV, encodings, depth."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.mutations import ANY_BYTES, NUMBERS, apply, pick

_TOKEN = re.compile(rb"[A-Za-z_]+|-?\d+\.?\d*|\s+|.", re.DOTALL)
_WORDS = (b"NaN", b"-Infinity", b"1e999", b"1e308", b"-1e308", b"-0", b"-1", b"0", b"", b"1.5", b"null", b"true", b"\0",
          b"9" * 30, b"9" * 5000, b"9223372036854775807", b"[" * 50_000, b'{"a":' * 5000, b"<a>" * 20_000, b"]]>", b"<",
          b'"', b"'", b"&amp;", b"&#0;", b"&#x10FFFF;", b"&x;", b"<!DOCTYPE a [<!ENTITY b 'c'>]>", b"\xff\xfe",
          b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xc3\x28", b"\r\n", b",", b" ", b"x" * 10_000)  # fmt: skip
_NUMBER = re.compile(rb"(?<![\w.#])-?\d+(?:\.\d+)?(?![\w.])")
_VALUE = re.compile(rb'(?<=[A-Za-z]=")[^"]*(?=")')
_LEAF = re.compile(rb"<\w+ [^<>]*/>")
_PLAIN = (b"NaN", b"Infinity", b"1e999", b"1e308", b"-1e308", b"1e-320", b"-0", b"-1", b"0", b"2", b"3", b"1.5", b"",
          b"Normal", b"gs", b"Tubule", b"true", b"null", b"9" * 30, b"9" * 5000,
          *(str(number).encode() for number in NUMBERS))  # fmt: skip
_ENCODINGS = ("utf-16", "utf-32", "utf-8-sig", "latin-1", "utf-7", "cp037")
_DECLARED = (b"UTF-16", b"nonsense", b"utf-7", b"cp037", b"ascii", b"iso-8859-1", b"utf_8_sig", b"idna", b"hex")
_FLOATS = (float("nan"), float("inf"), -float("inf"), 1e308, -1e308, 5e-324, 1e-9, -0.0, 0.5)
_TEXTS = ("", "\0", "\ud800", "\n", "Normal", "gs", "Tubule", "Polygon", "Point", "circle", "x" * 10_000, "é", "../..")


def mutate_text(content: bytes, path: Path, rng: np.random.Generator) -> bytes:
    """One to three mutations of a text file; in three of four cases of its values, so that it can still be parsed."""
    if rng.random() < 0.25:
        return apply((_token, _swap_tokens, _encoding, _lines, *ANY_BYTES), content, rng)
    if path.suffix in (".json", ".geojson"):
        try:
            return _mutate_json(content, rng)
        except (RecursionError, ValueError):  # a swap of a tree with a part of it made a circle
            return b"[" * 1000
    return apply(_XML_VALUES if path.suffix == ".xml" else (_plain_number, _swap_numbers, _lines), content, rng)


def _mutate_json(content: bytes, rng: np.random.Generator) -> bytes:
    root = [json.loads(content)]
    for _ in range(int(rng.integers(1, 4))):
        holders = list(_holders(root))
        holder, key = pick(rng, holders)
        other, other_key = pick(rng, holders)
        match int(rng.integers(10)):
            case 0 | 1:
                holder[key] = _strange(rng)
            case 2:
                del holder[key]
            case 3:
                holder[key], other[other_key] = other[other_key], holder[key]
            case 4:
                holder[key] = [holder[key]]
            case 5 if isinstance(holder, list):
                holder.insert(0, holder[key])
            case _:
                rings = [ring for h, k in holders if _is_ring(ring := h[k])]
                if rings:
                    _bend(pick(rng, rings), rng)
        if not root:
            root = [None]
    return json.dumps(root[0]).encode()


def _holders(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every place in a tree, as the list or table and the index or key."""
    places = [(node, key) for key in (range(len(node)) if isinstance(node, list) else list(node))]
    for holder, key in places:
        yield holder, key
        if isinstance(holder[key], list | dict):
            yield from _holders(holder[key])


def _strange(rng: np.random.Generator) -> Any:
    deep: list[Any] = []
    for _ in range(int(pick(rng, (3, 200, 800, 950)))):
        deep = [deep]
    values: tuple[Any, ...] = (
        None,
        True,
        False,
        [],
        {},
        [[]],
        {"type": "Polygon"},
        deep,
        *_TEXTS,
        *_FLOATS,
        *NUMBERS,
        -1,
        -(2**63),
    )
    return pick(rng, (*values, *_FLOATS, 10**400))


def _is_ring(node: Any) -> bool:
    return isinstance(node, list) and len(node) > 2 and all(isinstance(point, list) for point in node)


def _bend(ring: list[Any], rng: np.random.Generator) -> None:
    """A ring that crosses itself, collapses, doubles back or leaves the plane."""
    match int(rng.integers(6)):
        case 0:
            rng.shuffle(ring)
        case 1:
            ring[:] = [ring[0]] * len(ring)
        case 2:
            ring[:] = [[x, 0] for x in range(len(ring))]
        case 3:
            ring += ring[::-1]
        case 4:
            ring[:] = ring * int(rng.integers(2, 50))
        case _:
            ring[int(rng.integers(len(ring)))] = [pick(rng, _FLOATS), pick(rng, _FLOATS)]


def _token(data: bytearray, rng: np.random.Generator) -> None:
    """A token by a strange one, numbers more often than others."""
    tokens = list(_TOKEN.finditer(bytes(data)))
    numbers = [token for token in tokens if token[0][:1].isdigit()]
    if tokens:
        token = pick(rng, numbers if numbers and rng.random() < 0.5 else tokens)
        word = pick(rng, (*_WORDS, *(str(number).encode() for number in NUMBERS)))
        data[token.start() : token.end()] = word


def _swap_tokens(data: bytearray, rng: np.random.Generator) -> None:
    """Up to 8 pairs of words or numbers: wrong names, crossing outlines."""
    tokens = [token[0] for token in _TOKEN.finditer(bytes(data))]
    places = [i for i, token in enumerate(tokens) if token[:1].isalnum()]
    for _ in range(int(rng.integers(1, 9)) if places else 0):
        one, other = pick(rng, places), pick(rng, places)
        tokens[one], tokens[other] = tokens[other], tokens[one]
    data[:] = b"".join(tokens)


def _plain_number(data: bytearray, rng: np.random.Generator) -> None:
    """A number by another."""
    _replace(data, rng, _NUMBER, pick(rng, _PLAIN))


def _swap_numbers(data: bytearray, rng: np.random.Generator) -> None:
    """A number by one from elsewhere in the file: outlines that cross, runs that overlap."""
    found = _NUMBER.findall(data)
    if found:
        _replace(data, rng, _NUMBER, bytes(pick(rng, found)))


def _attribute(data: bytearray, rng: np.random.Generator) -> None:
    """An attribute's value by a strange one or by that of another."""
    found = _VALUE.findall(data)
    if found:
        _replace(data, rng, _VALUE, pick(rng, (*_PLAIN, bytes(pick(rng, found)), bytes(pick(rng, found)))))


def _element(data: bytearray, rng: np.random.Generator) -> None:
    """A leaf of the tree is lost or comes many times, maybe elsewhere."""
    leaves = list(_LEAF.finditer(bytes(data)))
    if leaves:
        leaf, other = pick(rng, leaves), pick(rng, leaves)
        data[other.start() : other.end()] = leaf[0] * int(pick(rng, (0, 2, 50)))


def _replace(data: bytearray, rng: np.random.Generator, what: re.Pattern[bytes], word: bytes) -> None:
    places = list(what.finditer(bytes(data)))
    if places:
        start, end = pick(rng, places).span()
        data[start:end] = word


_XML_VALUES = (_attribute, _attribute, _element, _plain_number, _swap_numbers)


def _encoding(data: bytearray, rng: np.random.Generator) -> None:
    """Another encoding, or another one declared."""
    if rng.random() < 0.5:
        data[:] = re.sub(rb"(<\?xml [^>]*?)(encoding=\S+)?\?>", rb'\1 encoding="%s"?>' % pick(rng, _DECLARED), data)
    else:
        data[:] = data.decode("utf-8", "replace").encode(pick(rng, _ENCODINGS), "replace")


def _lines(data: bytearray, rng: np.random.Generator) -> None:
    """Lines of a table come twice, or in another order."""
    lines = data.split(b"\n")
    lines.insert(int(rng.integers(len(lines) + 1)), pick(rng, lines))
    if rng.random() < 0.5:
        lines.reverse()
    data[:] = b"\n".join(lines)
