"""Images of every depth and kind that PIL knows: read at the scale that they are stored at, or refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from sharpcli.datasets.decoding import decode
from sharpcli.datasets.resolve import resolve
from sharpcli.errors import InputError

GREY = np.array([[0, 1000, 30000], [40000, 65534, 65535]], dtype=np.uint16)
BYTES = np.array([[0, 1, 127], [128, 254, 255]], dtype=np.uint8)


def write_png(path: Path, pixels: NDArray[np.uint16], colour: int) -> None:
    """A PNG of 16 bits a channel, which PIL itself cannot write in colour: colour is 0 grey, 2 RGB, 4 grey + alpha, 6 RGBA."""
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    parts = (struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def write_deep(path: Path, kind: str) -> None:
    if kind == "png":
        write_png(path, GREY, 0)
    elif kind == "tif":
        Image.fromarray(GREY).save(path)
    else:
        path.write_bytes(b"P5\n3 2\n65535\n" + GREY.astype(">u2").tobytes())


@pytest.mark.parametrize("kind", ["png", "tif", "pgm"])
def test_two_bytes_a_pixel_are_read_whole(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{kind}"
    write_deep(path, kind)
    pixels, done = decode(str(path), size=None, grayscale=True)
    assert (pixels.dtype, done) == (np.uint16, "")
    assert np.array_equal(pixels, GREY[None])
    three, done = decode(str(path), size=None, grayscale=False)
    assert np.array_equal(three, np.stack([GREY] * 3))
    assert done == "grey three times"
    halved, _ = decode(str(path), size=1, grayscale=True)
    assert abs(int(halved[0, 0, 0]) - GREY.mean()) < 0.12 * 65535  # The mean, but for PIL's filter.


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "LA", "RGBA", "PA"])
def test_bytes_are_read_whole(mode: str, tmp_path: Path) -> None:
    path = tmp_path / ("a.tif" if mode == "PA" else "a.png")
    values = np.where(BYTES > 127, 255, 0).astype(np.uint8) if mode == "1" else BYTES
    Image.fromarray(values).convert("L" if mode == "PA" else mode).save(path)
    pixels, done = decode(str(path), size=None, grayscale=False)
    assert pixels.dtype == np.uint8
    assert np.array_equal(pixels, np.stack([values] * 3))
    assert done == ("" if mode in ("P", "RGB", "RGBA") else "grey three times")


def test_few_bits_have_a_full_scale_too(tmp_path: Path) -> None:
    (tmp_path / "a.pgm").write_bytes(b"P5\n2 1\n15\n" + bytes([1, 15]))
    assert decode(str(tmp_path / "a.pgm"), size=None, grayscale=True)[0].tolist() == [[[17, 255]]]
    (tmp_path / "b.pgm").write_bytes(b"P5\n2 1\n1023\n" + np.array([0, 1023], dtype=">u2").tobytes())
    assert decode(str(tmp_path / "b.pgm"), size=None, grayscale=True)[0].tolist() == [[[0, 65535]]]


def refused(path: Path, message: str) -> None:
    for grayscale in (False, True):
        with pytest.raises(InputError, match=message) as caught:
            decode(str(path), size=None, grayscale=grayscale)
        assert caught.value.hint


@pytest.mark.parametrize("colour", [2, 4, 6])
def test_two_bytes_a_colour_are_refused_for_only_one_would_be_read(colour: int, tmp_path: Path) -> None:
    channels = {2: 3, 4: 2, 6: 4}[colour]
    write_png(tmp_path / "a.png", np.stack([GREY | 0xFF00] * channels, -1), colour)
    refused(tmp_path / "a.png", "16 bits a colour")
    (tmp_path / "a.ppm").write_bytes(b"P6\n3 2\n65535\n" + np.stack([GREY] * 3, -1).astype(">u2").tobytes())
    refused(tmp_path / "a.ppm", "16 bits a colour")


def test_numbers_of_no_known_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(BYTES.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray(BYTES.astype(np.int32) * 100_000).save(tmp_path / "int.tif")
    Image.fromarray(np.stack([BYTES] * 3, -1)).convert("LAB").save(tmp_path / "lab.tif")
    for name, mode in (("float", "F"), ("int", "I"), ("lab", "LAB")):
        refused(tmp_path / f"{name}.tif", f"kind {mode}; the largest possible pixel value is not known")


def test_what_is_behind_transparent_pixels_is_asked(tmp_path: Path) -> None:
    for mode in ("LA", "RGBA"):
        clear = Image.fromarray(BYTES).convert(mode)
        clear.putalpha(Image.fromarray(np.full_like(BYTES, 254)))
        clear.save(tmp_path / f"{mode}.png")
        refused(tmp_path / f"{mode}.png", "transparent pixels")
    Image.fromarray(BYTES).convert("P").save(tmp_path / "P.png", transparency=0)
    refused(tmp_path / "P.png", "transparent pixels")
    Image.fromarray(BYTES).save(tmp_path / "L.png", transparency=255)
    refused(tmp_path / "L.png", "transparent pixels")


def test_several_images_in_one_file_are_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(BYTES), Image.fromarray(BYTES[::-1].copy())]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    refused(tmp_path / "a.tif", "holds 2 images")


def test_other_colours_are_made_rgb_and_that_is_said(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8, 4), [0, 255, 255, 0], dtype=np.uint8), mode=None).convert("CMYK").save(tmp_path / "a.jpg")
    pixels, done = decode(str(tmp_path / "a.jpg"), size=None, grayscale=False)
    assert done == "CMYK made RGB"
    assert pixels.shape == (3, 8, 8)


def write_folder(root: Path, kinds: dict[str, str]) -> None:
    for part, kind in kinds.items():
        for name in ("cat", "dog"):
            (root / part / name).mkdir(parents=True)
            path = root / part / name / "0.png"
            write_deep(path, "png") if kind == "deep" else Image.fromarray(BYTES).save(path)


def test_a_folder_of_deep_images_is_read_at_its_scale(tmp_path: Path) -> None:
    write_folder(tmp_path, {"train": "deep", "test": "deep"})
    raw = resolve(f"folder:{tmp_path}", root="unused", arguments=("grayscale=True", "raw=True"))
    torch.testing.assert_close(raw.train.inputs[:][0, 0], torch.from_numpy(GREY / 65535).float())
    assert raw.preprocessing == "pixels / 65535"
    data = resolve(f"folder:{tmp_path}", root="unused", arguments=("grayscale=True",))
    mean, deviation = (GREY / 65535).mean(), (GREY / 65535).std()
    torch.testing.assert_close(data.train.inputs[:][0, 0], torch.from_numpy((GREY / 65535 - mean) / deviation).float())
    assert data.preprocessing == f"(pixels / 65535 − {mean:.4g}) / {deviation:.4g} by the training images' own statistics"


@pytest.mark.parametrize("kinds", [("deep", "bytes"), ("bytes", "deep")])
def test_a_folder_of_two_depths_is_refused(kinds: tuple[str, str], tmp_path: Path) -> None:
    write_folder(tmp_path, dict(zip(("train", "test"), kinds, strict=True)))
    with pytest.raises(InputError, match="bits a pixel, others have"):
        resolve(f"folder:{tmp_path}", root="unused")
    write_folder(tmp_path / "mixed", {"train": kinds[0], "test": kinds[0]})
    path = tmp_path / "mixed" / "train" / "dog" / "0.png"
    write_deep(path, "png") if kinds[1] == "deep" else Image.fromarray(BYTES).save(path)
    with pytest.raises(InputError, match="bits a pixel, others have"):
        resolve(f"folder:{tmp_path / 'mixed'}", root="unused")


def test_every_data_set_says_what_it_does(files: ModuleType, tmp_path: Path) -> None:
    assert resolve("fashion-mini", root="").preprocessing == "(pixels / 255 − 0.2863) / 0.354"
    files.write_images(tmp_path)
    raw = resolve(f"folder:{tmp_path}", root="unused", arguments=("raw=True",))
    assert raw.preprocessing == "pixels / 255"
    assert float(raw.train.inputs[:].min()) >= 0
    assert float(raw.train.inputs[:].max()) <= 1
    standardised = resolve(f"folder:{tmp_path}", root="unused")
    assert standardised.preprocessing.endswith("by the training images' own statistics")


def write_tif(path: Path, pixels: NDArray[np.generic], photometric: int, order: str) -> None:
    """A grey TIFF without compression; with a photometric interpretation of 0, the number 0 is white."""
    data = pixels.tobytes()
    height, width = pixels.shape
    tags = [(256, width), (257, height), (258, 8 * pixels.itemsize), (259, 1), (262, photometric), (273, 122), (277, 1)]
    tags += [(278, height), (279, len(data))]
    entries = b"".join(struct.pack(order + "HHII", tag, 4, 1, value) for tag, value in tags)
    start = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(order + "IH", 8, len(tags))
    path.write_bytes(start + entries + b"\0" * 4 + data)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("photometric", [0, 1])
def test_white_is_zero_is_heeded_at_every_depth(photometric: int, order: str, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    for pixels, most in ((GREY.astype(order + "u2"), 65535), (BYTES, 255)):
        write_tif(path, pixels, photometric, order)
        if (photometric, order, most) == (0, ">", 65535):  # PIL does not know it.
            with pytest.raises(InputError, match="cannot be read"):
                decode(str(path), size=None, grayscale=True)
            continue
        found, _ = decode(str(path), size=None, grayscale=True)
        assert np.array_equal(found[0], pixels if photometric else most - pixels)


@pytest.mark.parametrize("green", [5, 6])
def test_bitmaps_of_16_bits_a_pixel_are_read(green: int, tmp_path: Path) -> None:
    path = tmp_path / "a.bmp"
    masks = ((1 << 5) - 1 << green + 5, (1 << green) - 1 << 5, 31)
    header = struct.pack("<IiiHHIIiiII", 40, 2, 1, 1, 16, 3, 4, 0, 0, 0, 0) + struct.pack("<III", *masks)
    path.write_bytes(b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + header + struct.pack("<HH", masks[0], masks[1] | masks[2]))
    pixels, _ = decode(str(path), size=None, grayscale=False)
    assert np.array_equal(pixels, np.array([[[255, 0]], [[0, 255]], [[0, 255]]], dtype=np.uint8))
