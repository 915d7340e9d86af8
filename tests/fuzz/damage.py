"""Ways to damage a file: as bytes, as a zip archive, and as values in the places of other values."""

from __future__ import annotations

import io
import json
import math
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch

DEEP = 10_000
_BOMB = 64 * 2**20  # Bytes that a small deflated member unpacks to.
_MARKS = {"@deep-list@": "deep", "@many-lists@": "many", "@itself@": "itself"}  # Replaced in the pickle by `with_marks`.


def odd_values() -> list[Callable[[], Any]]:
    """Return makers of values of every wrong type and size."""
    return [
        lambda: None, lambda: True, lambda: 0, lambda: -1, lambda: 3, lambda: 10**30, lambda: -(10**30), lambda: 10**5000,
        lambda: 1e308, lambda: -0.5, lambda: math.nan, lambda: math.inf, lambda: "", lambda: "x", lambda: "a\nb\x00",
        lambda: "\ud800", lambda: "x" * 100_000, lambda: b"\xff\x00", lambda: [], lambda: [1, "a", None], lambda: (),
        lambda: {}, lambda: {1: 2}, lambda: {"a": {"b": [1]}}, lambda: {"path": 3, "sha256": None}, lambda: "../../x",
        lambda: torch.tensor(3), lambda: torch.ones(2, 2), lambda: torch.tensor([math.nan]), lambda: torch.Size([2]),
        lambda: torch.float32, lambda: 1j, lambda: "/dev/zero", lambda: ["hidden=1000000000"], lambda: ["hidden=" + "9," * 40],
        lambda: "npz:/dev/zero", lambda: "folder:/", lambda: "wrn28-10", lambda: "torchvision:resnet50", lambda: "ce:0.5",
        lambda: "mse", lambda: [2**62, 2**62], lambda: "@deep-list@", lambda: "@many-lists@", lambda: "@itself@",
    ]  # fmt: skip


JSON_VALUES: list[Any] = [
    None, True, 0, -1, 10**30, 1.5, math.nan, math.inf, "", "x", "\ud800", [], [1, "a"], {}, {"a": 1}, "x" * 10_000,
]  # fmt: skip


def odd_tensors(random: Random) -> Any:
    """Return what may stand in the place of a weight and is none that can be used."""
    makers: list[Callable[[], Any]] = [
        lambda: torch.ones(1).expand(10**12), lambda: torch.ones(1).expand(10**5, 10**5), lambda: torch.empty(0),
        lambda: torch.eye(3).to_sparse(), lambda: torch.ones(3, device="meta"), lambda: torch.ones(4, dtype=torch.complex64),
        lambda: torch.ones(4, dtype=torch.int64), lambda: torch.ones(4, dtype=torch.bool), lambda: torch.full((4,), math.nan),
        lambda: torch.ones(4).to(torch.float8_e4m3fn), lambda: torch.ones(()), lambda: torch.ones(1, 1, 1, 1, 4),
        lambda: torch.nn.Parameter(torch.ones(4)), lambda: torch.quantize_per_tensor(torch.ones(4), 0.1, 0, torch.quint8),
        lambda: torch.ones(8)[::2], lambda: torch.full((4,), 1e38), lambda: torch.ones(4, dtype=torch.float64),
        lambda: torch.eye(3).to_sparse_csr(), lambda: torch.ones(0, 10**9), lambda: torch.ones(3, dtype=torch.uint16),
    ]  # fmt: skip
    return random.choice(makers)()


def in_bytes(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage a file without looking at what it is."""
    data, size = bytearray(content), len(content)
    kind = random.choice(("flip", "flips", "cut", "zeros", "noise", "insert", "repeat", "empty", "cut front"))
    start = random.randrange(size)
    length = min(random.choice((1, 4, 16, 200)), size - start)
    if kind == "flip":
        data[start] ^= 1 << random.randrange(8)
    elif kind == "flips":
        for _ in range(random.randrange(2, 20)):
            data[random.randrange(size)] = random.randrange(256)
    elif kind == "cut":
        del data[start:]
    elif kind == "cut front":
        del data[:start]
    elif kind == "zeros":
        data[start : start + length] = bytes(length)
    elif kind == "noise":
        data[start : start + length] = random.randbytes(length)
    elif kind == "insert":
        data[start:start] = random.randbytes(length)
    elif kind == "repeat":
        data[start:start] = data[start : start + length]
    else:
        data.clear()
    return bytes(data), f"{kind} at {start} of {size}"


@cache
def _bomb_sum() -> int:
    return zlib.crc32(bytes(_BOMB))


@cache
def _bomb() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x", "w") as member:
        for _ in range(_BOMB // 2**20):
            member.write(bytes(2**20))
    with zipfile.ZipFile(io.BytesIO(buffer.getvalue())) as archive:
        entry = archive.infolist()[0]
        start = entry.header_offset + 30 + len("x")
        return buffer.getvalue()[start : start + entry.compress_size]


def in_zip(content: bytes, random: Random) -> tuple[bytes, str]:
    """Damage a zip archive as one: its members, or what its directory says of them."""
    if random.random() < 0.5:
        return _in_directory(content, random)
    members = [(name, inside) for name, inside, _ in members_of(content)]
    place = random.randrange(len(members))
    name = members[place][0]
    kind = random.choice(
        ("remove", "rename", "twice", "deflate", "deflate all", "bz2", "lzma", "swap", "damage", "add", "order", "bomb", "none")
    )
    how = dict.fromkeys(range(len(members)), zipfile.ZIP_STORED)
    if kind in _WAYS:
        how[place] = _WAYS[kind]
    elif kind == "deflate all":
        how = dict.fromkeys(how, zipfile.ZIP_DEFLATED)
    else:
        _in_members(members, place, kind, random)
    made = archive_of([(*member, how.get(number, 0)) for number, member in enumerate(members)])
    if kind == "bomb":
        made = _with_bomb(members, place)
    return made, f"zip, {kind} '{name}'"


_WAYS = {"deflate": zipfile.ZIP_DEFLATED, "bz2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}


def _in_members(members: list[tuple[str, bytes]], place: int, kind: str, random: Random) -> None:
    """Damage the list of members in place."""
    name, inside = members[place]
    if kind == "remove":
        del members[place]
    elif kind == "rename":
        members[place] = (random.choice(("x", "../x", "/x", name.upper(), f"{name}/", "a" * 3000, "\u00e9", "")), inside)
    elif kind == "twice":
        members.append((name, random.choice((inside, b"", inside[::-1]))))
    elif kind == "swap":
        other = random.randrange(len(members))
        members[place], members[other] = (name, members[other][1]), (members[other][0], inside)
    elif kind == "damage":
        members[place] = (name, in_bytes(inside or b"x", random)[0])
    elif kind == "add":
        members.append((random.choice(("x", "data.pkl", f"{name}x", "archive/data/0", "archive/")), b"x"))
    elif kind == "order":
        random.shuffle(members)
    elif kind == "none":
        members.clear()


def members_of(content: bytes) -> list[tuple[str, bytes, int]]:
    """Return names, contents and ways of storing of the members of an archive."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return [(entry.filename, archive.read(entry), 0) for entry in archive.infolist()]


def archive_of(members: list[tuple[str, bytes, int]]) -> bytes:
    """Return an archive of such members."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Of names that are there twice, as is meant.
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, inside, how in members:
                archive.writestr(zipfile.ZipInfo(name), inside, how)
    return buffer.getvalue()


def _with_bomb(members: list[tuple[str, bytes]], place: int) -> bytes:
    """Replace a member by one that unpacks to far more than the file holds; its sizes and its sum are true."""
    parts, directory = [], []
    offset = 0
    for number, (name, inside) in enumerate(members):
        bomb = number == place
        packed = _bomb() if bomb else inside
        total = _bomb_sum() if bomb else zlib.crc32(inside)
        fields = (8 if bomb else 0, 0, 0x21, total, len(packed), _BOMB if bomb else len(inside))
        label = name.encode()
        parts.append(struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, *fields, len(label), 0) + label + packed)
        about = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, *fields, len(label), 0, 0, 0, 0, 0, offset)
        directory.append(about + label)
        offset += len(parts[-1])
    listed = b"".join(directory)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, len(members), len(members), len(listed), offset, 0)
    return b"".join(parts) + listed + end


_CENTRAL = {  # Offset in an entry of the central directory, and how many bytes.
    "version": (6, 2), "flags": (8, 2), "method": (10, 2), "crc": (16, 4), "packed size": (20, 4), "size": (24, 4),
    "name length": (28, 2), "extra length": (30, 2), "comment length": (32, 2), "offset": (42, 4), "name": (46, 4),
}  # fmt: skip
_LOCAL = {
    "flags": (6, 2), "method": (8, 2), "crc": (14, 4), "packed size": (18, 4), "size": (22, 4), "name length": (26, 2),
    "extra length": (28, 2),
}  # fmt: skip
_END = {"disk": (4, 2), "entries": (8, 2), "all entries": (10, 2), "length": (12, 4), "start": (16, 4), "comment": (20, 2)}


def _in_directory(content: bytes, random: Random) -> tuple[bytes, str]:
    """Let the directory of an archive, its end or the header of a member say something else."""
    data = bytearray(content)
    where, mark, fields = random.choice(
        (("directory", b"PK\1\2", _CENTRAL), ("header", b"PK\3\4", _LOCAL), ("end", b"PK\5\6", _END))
    )
    places = []
    found = data.find(mark)
    while found >= 0:
        places.append(found)
        found = data.find(mark, found + 4)
    field = random.choice(list(fields))
    offset, width = fields[field]
    start = random.choice(places) + offset
    old = int.from_bytes(data[start : start + width], "little")
    top = 256**width - 1
    new = random.choice((0, 1, old + 1, old - 1, old * 2, top, top // 2, random.randrange(top))) & top
    data[start : start + width] = new.to_bytes(width, "little")
    return bytes(data), f"zip, {field} in the {where} is {new} in place of {old}"


def with_marks(place: Path) -> None:
    """Put what pickle cannot write, such as lists 10,000 deep, in the place of marks in a file of torch.save."""
    content = place.read_bytes()
    for mark, what in _MARKS.items():
        text = b"X" + struct.pack("<I", len(mark)) + mark.encode()
        if text not in content:
            continue
        made = _made(what)
        if content.startswith(b"PK"):
            content = archive_of([(name, inside.replace(text, made), how) for name, inside, how in members_of(content)])
        else:
            content = content.replace(text, made)
    place.write_bytes(content)


def _made(what: str) -> bytes:
    """Return the code of a pickle that makes a value."""
    if what == "deep":
        return b"]" * DEEP + b"a" * (DEEP - 1)
    numbers = [struct.pack("<I", 2**20 + k) for k in range(60)]
    if what == "itself":
        return b"]r" + numbers[0] + b"j" + numbers[0] + b"a"
    pairs = zip(numbers, numbers[1:], strict=False)
    return b"]r" + numbers[0] + b"".join(b"j" + before + b"\x86r" + after for before, after in pairs)


def paths_in(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the places of all values in dictionaries and lists within each other."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in items:
        found += paths_in(part, (*path, key))
    return found


def replace_one(value: Any, random: Random, new: Any) -> str:
    """Replace, remove or rename one value in dictionaries and lists within each other, in place."""
    path = random.choice(paths_in(value))
    holder = value
    for key in path[:-1]:
        holder = holder[key]
    kind = random.choice(("replace", "replace", "replace", "remove", "rename")) if isinstance(holder, dict) else "replace"
    if kind == "replace":
        holder[path[-1]] = new
    else:
        old = holder.pop(path[-1])
        if kind == "rename":
            holder[random.choice(("x", 3, "", None))] = old
    return f"{kind} {'.'.join(map(str, path))} by {type(new).__name__} {repr(new)[:40] if not _is_huge(new) else 'huge'}"


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > 10**100


def in_json(text: str, random: Random) -> tuple[str, str]:
    """Damage text of JSON, one document or one a line."""
    lines = text.splitlines()
    number = random.randrange(len(lines))
    kind = random.choice(("cut", "value", "text", "deep", "line", "number"))
    if kind == "cut":
        return text[: random.randrange(len(text))], "JSON, cut"
    if kind == "value":
        try:
            value = json.loads(lines[number])
            words = replace_one(value, random, random.choice(JSON_VALUES))
            lines[number] = json.dumps(value)
        except (ValueError, IndexError, TypeError):
            words, lines[number] = "a value", json.dumps(random.choice(JSON_VALUES))
    else:
        odd = {"text": "hello", "deep": "[" * 100_000, "line": "", "number": "9" * 5000}
        words, lines[number] = kind, odd[kind]
    return "\n".join(lines) + "\n", f"JSON, {words}"
