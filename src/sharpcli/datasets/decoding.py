"""Decoding of image files to integers at their stored scale; a file that would lose precision is refused."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sharpcli import files
from sharpcli.errors import InputError

_FORMATS = ("JPEG", "PNG", "PPM", "BMP", "DIB", "TIFF", "WEBP", "GIF")  # For others, such as EPS, PIL may start a program.
_GREY = ("1", "L")
_COLOURS = ("P", "RGB")
_OTHER_COLOURS = ("CMYK", "YCbCr")
_WITH_ALPHA = ("LA", "PA", "RGBA")
_TWO_BYTES = ("I;16", "I;16L", "I;16B", "I;16N")
_TWO_BYTE_FILES = ("PNG", "PPM")  # PIL reads their pixels of two bytes as mode I, from 0 to 65535.
_SHORT_COLOURS = ("BGR;15", "BGR;16")  # Of BMP: 16 bits per pixel, so 5 or 6 per colour.
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0  # A TIFF tag and one of its values; PIL applies it to pixels of 8 bits only.
_OPAQUE = 255
_AS_NPZ = "Store such images as floats, at the scale the model was trained with, and use npz:FILE."

Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def decode(path: str, *, size: int | None, grayscale: bool) -> tuple[Pixels, str]:
    """Read one image.

    Args:
        path: The file.
        size: Resize to size x size pixels (bilinear, rounded to integers at the stored scale); None keeps the size.
        grayscale: Return one channel. If False, return three; a grey image is repeated, as in torchvision's ImageFolder.

    Returns:
        Pixels (3, H, W) or (1, H, W), uint8 in 0..255 or uint16 in 0..65535; and the change of colours in words, "" if none.

    Raises:
        InputError: The file is damaged, has more than one image, has too many pixels, has pixels that are not opaque, or
            has pixels whose scale is not known or whose precision would be lost.
    """
    try:
        # Warning filters apply to the whole process, and several threads decode images, so no filter is set here.
        with files.opened(Path(path)) as file:
            return _decoded(file, path, size, grayscale)
    except InputError:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise _too_large(path) from error
    except Exception as error:  # PIL and its decoders raise many kinds of errors for damaged files.
        raise InputError(f"The image '{path}' cannot be read.", "Replace or remove it.") from error


def _too_large(path: str) -> InputError:
    return InputError(f"The image '{path}' has more than {Image.MAX_IMAGE_PIXELS} pixels.", "Store it smaller.")


def _decoded(file: BinaryIO, path: str, size: int | None, grayscale: bool) -> tuple[Pixels, str]:
    with Image.open(file, formats=_FORMATS) as image:
        if image.width * image.height > (Image.MAX_IMAGE_PIXELS or math.inf):  # PIL only gives a warning.
            raise _too_large(path)
        raw = _raw_modes(image)
        image.load()
        deep = image.mode in _TWO_BYTES or (image.mode == "I" and image.format in _TWO_BYTE_FILES)
        _refuse_scale(image, path, raw, deep=deep)
        _refuse_transparent(image, path, deep=deep)
        read = _two_bytes if deep else _bytes
        return read(image, size, grayscale), _colour_change(image.mode, grayscale=grayscale, deep=deep)


def _raw_modes(image: Image.Image) -> str:
    """Return the storage formats of the pixels in the file, such as "RGB;16B", or "RGB 65535" for a PPM file.

    Call this function before PIL loads the pixels, because PIL then deletes this information.
    """
    modes: list[str] = []
    for tile in getattr(image, "tile", ()):
        arguments = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
        modes += [str(part) for part in arguments[: 2 if tile[0].startswith("ppm") else 1]]
    return " ".join(modes)


def _refuse_scale(image: Image.Image, path: str, raw: str, *, deep: bool) -> None:
    count = getattr(image, "n_frames", 1)
    if count > 1 and image.format != "MPO":  # MPO has the photograph first, then previews.
        raise InputError(f"The image '{path}' holds {count} images.", "Store each in a file of its own.")
    known = image.mode in (*_GREY, *_COLOURS, *_OTHER_COLOURS, *_WITH_ALPHA)
    if not (known or deep) or ";12" in raw:
        words = "12 bits" if ";12" in raw else f"pixels of the kind {image.mode}"
        raise InputError(f"The image '{path}' has {words}; the largest possible pixel value is not known.", _AS_NPZ)
    most = max((int(word) for word in raw.split() if word.isdigit()), default=0)
    if not deep and ((";16" in raw and raw not in _SHORT_COLOURS) or most > _OPAQUE):
        raise InputError(f"The image '{path}' has 16 bits a colour, of which only 8 can be read.", _AS_NPZ)


def _refuse_transparent(image: Image.Image, path: str, *, deep: bool) -> None:
    if image.mode not in _WITH_ALPHA and "transparency" not in image.info:
        return
    if deep or int(np.asarray(image.convert("RGBA"))[..., 3].min()) < _OPAQUE:
        raise InputError(
            f"The image '{path}' has transparent pixels; their colour depends on the background.",
            "Draw it on the background that was used in training, and store it without transparency.",
        )


def _bytes(image: Image.Image, size: int | None, grayscale: bool) -> Pixels:
    image = image.convert("RGB")
    if grayscale:
        image = image.convert("L")
    if size is not None:
        image = image.resize((size, size), resample=Image.Resampling.BILINEAR)  # Shrinking averages pixels.
    array = np.asarray(image, dtype=np.uint8)
    return array[None] if grayscale else array.transpose(2, 0, 1)


def _two_bytes(image: Image.Image, size: int | None, grayscale: bool) -> Pixels:
    array: NDArray[Any] = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        array = np.iinfo(np.uint16).max - array.astype(np.uint16)
    if size is not None:
        floats = Image.fromarray(array.astype(np.float32))
        array = np.asarray(floats.resize((size, size), resample=Image.Resampling.BILINEAR)).round()
    grey = array.astype(np.uint16)[None]
    return grey if grayscale else np.repeat(grey, 3, axis=0)


def _colour_change(mode: str, *, grayscale: bool, deep: bool) -> str:
    if mode in _OTHER_COLOURS:
        return f"{mode} made RGB"
    grey = deep or mode in (*_GREY, "LA")
    if grey != grayscale:
        return "grey three times" if grey else "colours made grey"
    return ""
