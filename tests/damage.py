"""Damage: bytes, JSON, tables and arrays with a few changes each, as a random generator chooses them."""

import copy
import io
import json
import math
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_EXTREMES = [0, 1, 2, 3, 127, 255, *(2**n + d for n in (15, 16, 31, 32, 36, 63) for d in (-1, 0)), 2**64 - 1]
_NAME = re.compile(rb"OggS|[A-Za-z]{3}[A-Za-z0-9 ]")


def choose(rng: np.random.Generator, choices: Any) -> Any:
    """One of several."""
    return choices[rng.integers(len(choices))]


def _place(rng, content):
    """Where something is changed: headers more often than what follows."""
    return int(rng.integers(min(choose(rng, (64, 1024, len(content))), len(content)) + 1))


def _span(rng, content):
    """Some bytes, or something like a chunk: from a name to a name."""
    if rng.integers(2) and len(names := [match.start() for match in _NAME.finditer(content, 0, 20_000)]) > 1:
        first = int(rng.integers(min(len(names) - 1, choose(rng, (8, len(names))))))
        return slice(names[first], names[first + 1])
    start = _place(rng, content)
    return slice(start, start + int(choose(rng, (1, 4, 32, 1000)) * rng.random()) + 1)


def _flip(rng, content, other):
    for _ in range(rng.integers(1, 9)):
        if (at := _place(rng, content)) < len(content):
            content[at] ^= 1 << int(rng.integers(8))


def _overwrite(rng, content, other):
    span = _span(rng, content)
    n = len(content[span])
    content[span] = choose(rng, (bytes(n), b"\xff" * n, rng.bytes(n)))


def _set_number(rng, content, other):
    at, n = _place(rng, content), int(choose(rng, (2, 4, 8)))
    number = choose(rng, (*_EXTREMES, len(content), len(content) - at, 8000, 767_999)) % 256**n
    content[at : at + n] = int(number).to_bytes(n, choose(rng, ("little", "big")))


def _cut(rng, content, other):
    del content[int(rng.integers(len(content) + 1)) :]


def _extend(rng, content, other):
    content += choose(
        rng, (rng.bytes(int(rng.integers(1, 2000))), bytes(1000), bytes(content), b"TAG".ljust(128, b"\0"))
    )


def _delete(rng, content, other):
    del content[_span(rng, content)]


def _duplicate(rng, content, other):
    span = _span(rng, content)
    content[span.stop : span.stop] = content[span]


def _move(rng, content, other):
    part = content[span := _span(rng, content)]
    del content[span]
    at = _span(rng, content).start
    content[at:at] = part


def _insert_chunk(rng, content, other):
    length = int(rng.integers(40))
    size = struct.pack(choose(rng, ("<I", ">I")), length if rng.integers(2) else choose(rng, _EXTREMES) % 2**32)
    at = _span(rng, content).start
    content[at:at] = choose(rng, (b"fmt ", b"data", b"junk", b"LIST", b"\0\0\0\0")) + size + rng.bytes(length)


def _splice(rng, content, other):
    content[_place(rng, content) :] = other[_place(rng, other) :]


def _join(rng, content, other):
    content += other


_CHANGES = (
    *(_flip, _overwrite, _set_number, _cut, _extend, _delete, _duplicate, _move, _insert_chunk),
    *(_splice, _join, _flip, _set_number),
)


def damaged(rng: np.random.Generator, content: bytes, other: bytes) -> bytes:
    """The bytes with one to four changes; some come from other bytes."""
    changed = bytearray(content)
    for _ in range(min(rng.geometric(0.5), 4)):
        choose(rng, _CHANGES)(rng, changed, other)
    return bytes(changed)


_BITS_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def with_ogg_checksums(content: bytes, serial: int | None = None) -> bytes:
    """Ogg pages with the checksums that they should have, without which nothing in them is read; RFC 3533, section 6.

    The checksum is that of zlib, from the other end of each byte.
    """
    result, at = bytearray(content), 0
    while result[at : at + 4] == b"OggS" and len(result) >= at + 27:
        end = at + 27 + result[at + 26] + sum(result[at + 27 : at + 27 + result[at + 26]])
        if serial is not None:
            result[at + 14 : at + 18] = struct.pack("<I", serial)
        result[at + 22 : at + 26] = bytes(4)
        reversed_sum = zlib.crc32(result[at:end].translate(_BITS_REVERSED), 2**32 - 1) ^ (2**32 - 1)
        result[at + 22 : at + 26] = struct.pack("<I", int(f"{reversed_sum:032b}"[::-1], 2))
        at = end
    return bytes(result)


# ---- JSON

_DEEP = {f"@{depth}{inner}": depth for depth in (50, 480, 950, 990, 100_000) for inner in "[{"}
_VALUES = (
    *(None, True, False, 0, -1, 1, 3, 0.5, 16000.5, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf),
    *(2**31, 2**63, -(2**63), 2**64, 10**400, "", "1", "yes", "x" * 100_000, "\0\x1b[31m\n", "\ud800", "e\u0301"),
    *([], {}, [[]], [1], ["a", "a"], [None], {"a": 1}, {"": []}),
)


def _spots(tree: Any) -> Iterator[tuple[Any, Any]]:
    """What holds a value, and at which key or index, of all values in a tree."""
    for key in [*tree] if isinstance(tree, dict) else range(len(tree)):
        yield tree, key
        if isinstance(tree[key], dict | list):
            yield from _spots(tree[key])


def damaged_tree(rng: np.random.Generator, tree: Any) -> Any:
    """A tree of JSON values with one to three changes."""
    root = [copy.deepcopy(tree)]
    for _ in range(rng.integers(1, 4)):
        if not (spots := [*_spots(root)]):
            break
        holder, key = choose(rng, spots)
        other_holder, other_key = choose(rng, spots)
        how = rng.integers(6)
        if how == 0:
            del holder[key]
        elif how == 1:
            holder[key] = copy.deepcopy(other_holder[other_key])
        elif how == 2 and isinstance(holder, dict):
            name = choose(rng, ("", "x" * 1000, "\n", "\ud800", str(other_key)))
            holder[name] = holder.pop(key)
        else:
            holder[key] = copy.deepcopy(choose(rng, _VALUES if rng.random() < 0.97 else [*_DEEP]))
    return root[0] if root else None


def damaged_json(rng: np.random.Generator, tree: Any, other: dict[str, Any]) -> bytes:
    """JSON text of a damaged tree; in some the text is damaged, too, or a key stands there twice."""
    text = json.dumps(damaged_tree(rng, tree), ensure_ascii=bool(rng.integers(2)))
    for mark, depth in _DEEP.items():
        nested = "[" * depth + "]" * depth if mark.endswith("[") else '{"a":' * depth + "1" + "}" * depth
        text = text.replace(f'"{mark}"', nested)
    if rng.random() < 0.1:
        key, value = json.dumps(choose(rng, [*other])), json.dumps(choose(rng, [*other.values(), None, 0, "", {}]))
        text = text.replace("{", f"{{{key}: {value}, ", 1)
    content = text.encode("utf-8", "surrogatepass")
    return damaged(rng, content, json.dumps(other).encode()) if rng.random() < 0.2 else content


# ---- tables

_CELLS = (
    *("", " ", "a,b", '"', "\0", "a\0", "a.wav", "./a.wav", "../a.wav", "/", ".", "x" * 300, "y" * 200_000, "=1+1"),
    *("0", "-1", "1e308", "1e-320", "nan", "inf", str(2**70), "1" * 5000, "0x10", "1_000", "1,5", "\u0663", "\u00b2"),
    *(
        "train",
        "TEST ",
        "path",
        "a|b||a",
        "|",
        "e\u0301",
        "\u00e9",
        "\ud800",
        "\udcff",
        "\x1b[31m",
        "a\nb",
        "\r",
        "\u2028",
    ),
)


def damaged_table(rng: np.random.Generator, rows: list[list[str]]) -> bytes:
    """A CSV file of a table with one to four changes, in some other spelling or encoding, or with damaged bytes."""
    rows = [[*row] for row in rows]
    for _ in range(min(rng.geometric(0.5), 4)):
        row, column = rng.integers(len(rows)), rng.integers(len(rows[0]) or 1)
        how = rng.integers(9)
        if how == 0 and len(rows) > 1:
            del rows[row]
        elif how == 1:
            rows.insert(row, [*choose(rng, rows)])
        elif how == 2:
            rows[row] = rows[row][:column] if rng.integers(2) else [*rows[row], "x"]
        elif how == 3:
            order = rng.permutation(len(rows[0]))
            rows = [[line[i] for i in order if i < len(line)] for line in rows]
        elif how == 4 and rows[0]:
            rows[0][column] = choose(rng, (*rows[0], *_CELLS))
        else:
            line = rows[row]
            line[column:] = [choose(rng, _CELLS), *line[column + 1 :]]
    mark = '"' if rng.random() < 0.9 else choose(rng, ("'", ""))
    cells = [[mark + cell.replace('"', '""') + mark if rng.integers(2) else cell for cell in row] for row in rows]
    delimiter = "," if rng.random() < 0.9 else choose(rng, (";", "\t", ", "))
    text = choose(rng, ("\n", "\n", "\r\n", "\r")).join(delimiter.join(row) for row in cells)
    encoding = "utf-8" if rng.random() < 0.8 else choose(rng, ("utf-8-sig", "utf-16", "latin-1", "cp1252"))
    content = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
    return damaged(rng, content, content) if rng.random() < 0.2 else content


# ---- arrays

_TYPES = (
    "f2",
    "f4",
    "f8",
    "g",
    ">f4",
    "i1",
    "i8",
    "u8",
    "?",
    "c8",
    "U3",
    ">U3",
    "S5",
    "M8[s]",
    "O",
    [("a", "f4")],
    "V3",
)
_NUMBERS = (math.nan, math.inf, -math.inf, -1, -2, 0, 1, 0.5, 1e300, 1e-300, 2**31, 2**62, 2**63, 2**64 - 1)


class _Bomb:
    """What ends the process if it is unpickled."""

    def __reduce__(self):
        return os.abort, ()


def _of_another_type(rng, array):
    dtype = choose(rng, _TYPES)
    if dtype == "O":
        return np.full(array.shape, _Bomb(), dtype=object)
    try:
        return array.astype(dtype)
    except Exception:  # of many kinds: texts are no numbers, numbers no dates
        return np.zeros(array.shape, dtype)


def _of_another_shape(rng, array):
    longer = np.concatenate([array, array]) if array.ndim else array
    last = array[..., -1:] if array.ndim else array
    return choose(rng, (array[None], array[..., None], array[:0], array.T, array.ravel()[:1], last, longer, array[:-1]))


def _with_another_value(rng, array):
    if array.dtype.kind == "U":
        return np.frombuffer(rng.bytes(array.nbytes), array.dtype).reshape(array.shape)  # of no characters
    number = choose(rng, _NUMBERS)
    changed = array.astype("g" if rng.random() < 0.1 else "u8" if isinstance(number, int) and number > 2**60 else "f8")
    if changed.size and (changed.dtype.kind == "f" or 0 <= number < math.inf):
        changed.flat[rng.integers(changed.size)] = int(number) if changed.dtype.kind == "u" else number
    return changed if rng.integers(3) or not np.isfinite(number) else changed.astype(array.dtype)


def _with_another_text(rng, array):
    texts = array.astype("U300")
    if texts.size:
        texts.flat[rng.integers(texts.size)] = choose(
            rng, ("", "layer1", "labels", "\ud800", "a\0b", "x" * 300, "a#b", "\n")
        )
    return texts


def _member(array):
    """An array as it stands in the zip file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=True)
    return file.getvalue()


def _damaged_member(rng, name, content):
    """A member of another kind, with other bytes, or whose header tells of another shape."""
    how = rng.integers(3)
    if how == 0:
        return name.removesuffix(".npy") + choose(rng, ("", ".txt", ".npz", ".NPY")), content
    if how == 1:
        return name, damaged(rng, content, content)
    length = choose(rng, (b"-1", b"0", b"9" * 9, b"9" * 18))
    return name, re.sub(rb"\(\d+,", b"(" + length + b",", content, count=1)


def _changed(rng, name, array):
    changes = [_of_another_type, _of_another_shape, _with_another_value, _with_another_value]
    if array.dtype.kind == "U":
        changes[3] = _with_another_text
    return name, choose(rng, changes)(rng, array)


def damaged_arrays(rng: np.random.Generator, arrays: dict[str, np.ndarray]) -> bytes:
    """An .npz file of arrays with one to three changes, or with damaged bytes."""
    members = [*arrays.items()]
    for _ in range(min(rng.geometric(0.6), 3)):
        at, how = int(rng.integers(len(members))), rng.integers(10)
        name, array = members[at]
        if how == 0:
            del members[at]
        elif how == 1:
            members.append((choose(rng, (name, "extra", "layer9", "../x", "groups", "times", "notes")), array))
        elif how == 2:
            members[at] = choose(rng, members)[0], array
        elif array.dtype.kind in "UiufbM":
            members[at] = _changed(rng, name, array)
    contents = [(f"{name}.npy", _member(array)) for name, array in members]
    if rng.random() < 0.2:
        at = int(rng.integers(len(contents)))
        contents[at] = _damaged_member(rng, *contents[at])
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", choose(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, content in contents:
            archive.writestr(zipfile.ZipInfo(name), content, archive.compression)
    content = file.getvalue()
    return damaged(rng, content, content) if rng.random() < 0.1 else content
