"""For every kind of file: copy a sound one into a folder, damage it, and say what was done."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shutil
import socket
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

import numpy
import torch
from PIL import Image
from safetensors.torch import save

from sharpcli.saved_state import seal_of
from tests.fuzz import damage
from tests.fuzz.material import Material

# Values of the right type that nothing can be made of.
WORDS: dict[tuple[str, str], list[Any]] = {
    ("model", "arguments"): [
        ["hidden=1000000000"],
        ["hidden=4", "hidden=5"],
        ["hidden=" + "4," * 2000],
        ["x"],
        ["hidden=" + "(" * 3000],
        ["hidden=1e400"],
        ["hidden=-1"],
        ["hidden=0"],
        ["activation=none"],
        ["hidden=None"],
        ["hidden=\\d"],
        ["width=3"],
        ["hidden=" + "9" * 4000],
        ["hidden=True"],
        ["input_shape=3"],
        ["hidden=(100000000,100000000)"],
        ["__class__=3"],
        ["hidden=4", "depth=1000000000"],
    ],
    ("model", "spec"): [
        "wrn28-10",
        "resnet152",
        "torchvision:resnet50",
        "torchvision:none",
        "torchvision:",
        "/tmp/x.py:f",
        "os:system",
        ":",
        "",
        "no",
        "MLP",
        "mlp ",
        "x" * 4000,
        "../mlp",
        "convnet",
        "f1",
        "densenet121",
        "__init__",
        "_dense",
    ],
    ("model", "output"): ["logits", "", "0"],
    ("model", "input_shape"): [[0], [10**9, 10**9], []],
    ("model", "num_classes"): [10**12, 1],
    ("data", "spec"): [
        "folder:/",
        "folder:/proc",
        "npz:/dev/zero",
        "npz:/dev/stdin",
        "npz:/",
        "npz:",
        "folder:",
        "none",
        "fashion_mini",
        "mnist",
        "npz:" + "x" * 3000,
        "cifar10",
        "folder:~nobody/x",
        "npz:~nosuchuser/x.npz",
        "torchvision:CIFAR10",
        "torchvision:x",
        "x:y",
    ],
    ("data", "arguments"): [["tokens=3"], ["tokens=True"], ["ignore_index=99999999999999999999"], ["x=1"], ["x"], ["root=/"]],
    ("data", "num_train"): [0, 2**62],
    ("", "loss"): [
        "ce:0.5",
        "mse",
        "bce",
        "x",
        "ce:",
        "ce:ignore_index=" + "9" * 30,
        "ce:class_axis=1",
        "ce:smoothing=nan",
        "bce:x",
    ],
    ("", "step"): [0, 2**62],
    ("", "name"): ["", "\x1b[31m", "[red]x[/]", "a\nb"],
    ("init", "path"): ["/dev/zero", "../..", "", "x" * 4000, "x.pt", "/", "."],
    ("init", "sha256"): [""],
    ("plan", "lr"): [0, 1e300],
    ("plan", "momentum"): [0, 0.999999999],
    ("final", "train_loss"): [-1e300, 0],
}


def _odd(random: Random) -> Any:
    return random.choice(damage.odd_values())()


def _saved(content: Any, place: Path, *, legacy: bool = False) -> None:
    try:
        torch.save(content, place, _use_new_zipfile_serialization=not legacy)
    except Exception:  # torch cannot write everything in its old form.
        torch.save(content, place)
    damage.with_marks(place)


def _bytes(place: Path, random: Random) -> str:
    """Damage a file in place, by its bytes or as an archive."""
    content = place.read_bytes()
    way = damage.in_zip if content.startswith(b"PK") and random.random() < 0.6 else damage.in_bytes
    made, words = way(content, random)
    place.write_bytes(made)
    return words


def _values(content: Any, random: Random) -> str:
    words = [damage.replace_one(content, random, _odd(random)) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    return "; ".join(words)


def checkpoint(material: Material, random: Random, folder: Path, *, legacy: bool) -> str:
    """Damage a checkpoint of our own: its bytes, its archive, or any value in it."""
    content, place = copy.deepcopy(material.content), folder / "x.pt"
    shutil.copy(material.run / "init.pt", folder / "init.pt")
    way = random.choice(("bytes", "metadata", "metadata", "words", "anything", "tensor", "names"))
    words = way
    if way == "words":
        (holder, key), choices = random.choice(list(WORDS.items()))
        place_of = content["metadata"][holder] if holder else content["metadata"]
        place_of[key] = random.choice(choices)
        words = f"{holder}.{key} is {str(place_of[key])[:60]}"
    elif way == "metadata":
        words = _values(content["metadata"], random)
    elif way == "anything":
        words = _values(content, random)
    elif way == "tensor":
        name = random.choice(list(content["state_dict"]))
        content["state_dict"][name] = damage.odd_tensors(random)
        words = f"{name} {content['state_dict'][name].layout} {tuple(content['state_dict'][name].shape)}"
    elif way == "names":
        content["state_dict"][random.choice((3, None, "", "\ud800", "x" * 10_000, "a\nb", ("a",)))] = torch.ones(2)
    _saved(content, place, legacy=legacy)
    return _bytes(place, random) if way == "bytes" else words


def foreign(material: Material, random: Random, folder: Path) -> str:
    """Damage a checkpoint of another program."""
    state, place = dict(material.content["state_dict"]), folder / "x.pt"
    content: Any = {
        "model": state,
        "epoch": 3,
        "args": {"lr": 0.1, "more": [1, 2]},
        "optimizer": {"state": {}, "param_groups": []},
    }
    way = random.choice(("bytes", "value", "tensor", "top", "shadow"))
    words = way
    if way == "value":
        words = _values(content, random)
    elif way == "tensor":
        state[random.choice(list(state))] = damage.odd_tensors(random)
    elif way == "top":
        content = _odd(random)
    elif way == "shadow":
        content["ema"] = random.choice(({"shadow": _odd(random)}, [_odd(random)], _odd(random)))
    _saved(content, place, legacy=random.random() < 0.3)
    return _bytes(place, random) if way == "bytes" else words


def safetensors(material: Material, random: Random, folder: Path) -> str:
    """Damage a safetensors file."""
    content = save({name: part.clone() for name, part in material.content["state_dict"].items()})
    place = folder / "x.safetensors"
    way = random.choice(("bytes", "length", "header", "header", "text", "twice"))
    length = struct.unpack("<Q", content[:8])[0]
    header, rest = content[8 : 8 + length], content[8 + length :]
    words = way
    if way == "bytes":
        made, words = damage.in_bytes(content, random)
        place.write_bytes(made)
        return words
    if way == "length":
        place.write_bytes(
            struct.pack("<Q", random.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))) + content[8:]
        )
        return words
    if way == "header":
        entries = json.loads(header)
        words = damage.replace_one(entries, random, random.choice([*damage.JSON_VALUES, [0, 10**12], [5, 2], "F8_E4M3", "C64"]))
        header = json.dumps(entries).encode()
    elif way == "text":
        header = random.choice((b"", b"{}", b"[]", b"null", b"{" * 100_000, b"\xff" * 50, header[:-1], header * 2))
    else:
        first = header[1:].split(b"}", 1)[0]
        header = header[:-1].rstrip(b" }") + b"}," + first + b"}}"
    place.write_bytes(struct.pack("<Q", len(header)) + header + rest)
    return words


def npz(material: Material, random: Random, folder: Path) -> str:
    """Damage arrays, or the file that they are in."""
    place, arrays = folder / "data.npz", dict(material.arrays)
    way = random.choice(("bytes", "bytes", "array", "array", "header", "packed", "missing"))
    key = random.choice(list(arrays))
    words = f"{way} {key}"
    if way == "missing":
        arrays.pop(key)
        arrays["more"] = numpy.ones(2)
    elif way == "array":
        count = len(arrays[key])
        arrays[key] = random.choice(
            (
                lambda: numpy.array([None, {}] * count, dtype=object)[:count],
                lambda: arrays[key][:0],
                lambda: numpy.ones(()),
                lambda: numpy.full((count, 5), numpy.nan),
                lambda: numpy.full(count, 10**12),
                lambda: numpy.full(count, -1),
                lambda: numpy.array(["a"] * count),
                lambda: numpy.ones(count, dtype=complex),
                lambda: numpy.ones((count, 0)),
                lambda: numpy.ones((count, *[1] * 30)),
                lambda: numpy.zeros(count, dtype="datetime64[s]"),
                lambda: numpy.zeros(count, dtype=[("a", "f4")]),
                lambda: numpy.full(count, 2**64 - 1, dtype=numpy.uint64),
                lambda: numpy.full(count, -100),
                lambda: numpy.ones((count, 5), dtype=numpy.float16),
                lambda: numpy.ones((count, 5), dtype=numpy.longdouble),
                lambda: arrays[key].astype(">f4"),
                lambda: numpy.full((count, 5), 1e39),
                lambda: numpy.ones(count, dtype=bool),
                lambda: arrays[key][:-1],
                lambda: numpy.arange(count * 2).reshape(count, 2),
                lambda: numpy.full(count, 2**31),
            )
        )()
    (numpy.savez_compressed if way == "packed" else numpy.savez)(place, **arrays)
    if way == "header":
        old = b"(20, 5), "
        odd = (b"(20,10**9)", b"(-1, 5), ", b"(20, '5')", b"(2000000000000, 5), ", b"(20, 6), ", b"((((((((", b"(20, 4), ")
        new = random.choice(odd)
        members = damage.members_of(place.read_bytes())
        members = [(name, inside.replace(old + b"}", new + b"}"), 0) for name, inside, _ in members]
        place.write_bytes(damage.archive_of(members))
        return f"header {new!r}"
    return _bytes(place, random) if way in ("bytes", "packed") else words


def images(material: Material, random: Random, folder: Path) -> str:
    """Damage one image, or what lies in the place of one or of a folder of them."""
    shutil.copytree(material.place / "images", folder / "images")
    place = random.choice(sorted((folder / "images").rglob("*.*")))
    way = random.choice(("bytes", "bytes", "node", "bomb", "text", "other"))
    if way == "bytes":
        return f"{place.name}, {_bytes(place, random)}"
    if way == "node":
        return _node(random.choice(sorted((folder / "images").rglob("*"))), random)
    if way == "bomb":
        wide = random.choice((2**14, 2**15, 2**16))
        header = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", wide, wide, 8, 2, 0, 0, 0))
        place.write_bytes(header + _chunk(b"IDAT", b"x\x9c") + _chunk(b"IEND", b""))
    elif way == "text":
        place.write_bytes(
            random.choice((b"", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"GIF89a", b"P6 9999999 9999999 255 "))
        )
    else:
        Image.new(random.choice(("1", "L", "P", "RGBA", "CMYK", "I;16", "F")), (random.choice((5, 1, 7)), 5)).save(
            place, "TIFF"
        )
    return f"{place.name}, {way}"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _node(place: Path, random: Random) -> str:
    """Put something in the place of a file or a folder that is neither, or is not the one that is meant."""
    shutil.rmtree(place) if place.is_dir() else place.unlink()
    kind = random.choice(("gone", "folder", "fifo", "socket", "loop", "nowhere", "up", "zero", "file"))
    if kind == "folder":
        place.mkdir()
    elif kind == "fifo":
        os.mkfifo(place)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(place.parent)  # A path of a socket has to be short.
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(place.name)
        finally:
            os.chdir(here)
    elif kind in ("loop", "nowhere", "up", "zero"):
        place.symlink_to({"loop": place, "nowhere": place.parent / "none", "up": place.parent, "zero": Path("/dev/zero")}[kind])
    elif kind == "file":
        place.write_bytes(b"hello")
    return f"{place.name} is {kind}"


def run_folder(material: Material, random: Random, folder: Path) -> str:
    """Damage one file of a run folder."""
    shutil.copytree(material.run, folder / "run")
    names = ("final.pt", "init.pt", "step-2.pt", "step-4.pt", "distances.jsonl", "settings.json", "step-x.pt")
    place = folder / "run" / random.choice(names)
    if not place.exists():
        shutil.copy(folder / "run" / "step-2.pt", place)
    if random.random() < 0.25:
        return _node(place, random)
    return f"{place.name}, {_inside(place, random)}"


def _inside(place: Path, random: Random) -> str:
    """Damage a file that holds JSON or what torch saves."""
    if place.suffix in (".json", ".jsonl"):
        text, words = damage.in_json(place.read_text(), random)
        place.write_text(text, errors="surrogatepass")
        return words
    if random.random() < 0.4:
        return _bytes(place, random)
    content = torch.load(place, weights_only=True)
    words = _values(content, random)
    _saved(content, place)
    return words


def resumable_run(material: Material, random: Random, folder: Path) -> str:
    """Damage one file that a run is gone on with, or that tells that it is complete."""
    whole = random.random() < 0.3
    shutil.copytree(material.run if whole else material.resumable, folder / "sgd")
    place = folder / "sgd" / random.choice(("final.pt", "tail.pt") if whole else ("last.pt",) * 6 + ("final.pt", "init.pt"))
    if random.random() < 0.15:
        return _node(place, random)
    return f"{place.name}, {_inside(place, random)}"


def search(material: Material, random: Random, folder: Path, *, sealed: bool = False, source: Path | None = None) -> str:
    """Damage the folder of a search for eigenvalues."""
    shutil.copytree(source or material.place / "search", folder / "search")
    place = random.choice(sorted((folder / "search").iterdir()))
    way = "inside" if sealed else random.choice(("bytes", "bytes", "node", "inside", "inside", "inside"))
    if way == "node":
        return _node(place, random)
    if way == "bytes":
        return f"{place.name}, {_bytes(place, random)}"
    place = folder / "search" / "search.pt"
    content = torch.load(place, weights_only=True)
    words = _values(content, random)
    if sealed:
        with contextlib.suppress(Exception):  # Of what was damaged there may be no hash.
            content["seal"] = seal_of(content)
    _saved(content, place)
    return words


def surface(material: Material, random: Random, folder: Path, *, source: Path | None = None) -> str:
    """Damage the file that keeps the points of a surface."""
    place = folder / "surface.pt"
    shutil.copy(source or material.place / "surface.pt", place)
    return _node(place, random) if random.random() < 0.2 else _inside(place, random)
