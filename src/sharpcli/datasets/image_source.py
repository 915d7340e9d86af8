"""Images of a folder as inputs; an image is decoded when it is used, stored as integers, and converted batch by batch."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import files
from sharpcli.errors import InputError
from sharpcli.inputs import Inputs, InputSource
from sharpcli.memory import MemoryPlan

_BATCH = 256
_HASHED_FILES = 4096  # The fingerprint contains the contents of at most this many files, and name and size of all files.


class Decoded(NamedTuple):
    """One image (C, H, W), and the change of its colours in words, "" if none; see `datasets.decoding`."""

    pixels: Tensor
    remark: str


class ImageSource(InputSource):
    """N images of one shape.

    Decoded images stay in memory if all of them fit into a share of it (`MemoryPlan.holds_data`). If not, an image is
    decoded again at each use.
    """

    def __init__(
        self,
        paths: Sequence[str],
        decode: Callable[[str], Decoded],
        *,
        description: str,
        stage: str,
        other_shape: str,
        in_parallel: bool = True,
        like: ImageSource | None = None,
    ) -> None:
        """Store the paths of the images, and decode the first image.

        Args:
            paths: Paths of the files.
            decode: Returns the image (C, H, W) of a path; all images have the same type.
            description: What `decode` does, for the fingerprint.
            stage: Words after a shape in a message, such as " after the transform".
            other_shape: The hint of the error for an image whose shape differs.
            in_parallel: Whether several threads may call `decode` at the same time.
            like: Other images whose shape and type these images must have. Default: those of the first image.

        Raises:
            InputError: The first image cannot be read, or its shape or type differs from `like`.
        """
        self._paths, self._decode = paths, decode
        self._numbers: Callable[[Tensor], Tensor] = Tensor.float
        self._description, self._in_parallel = description, in_parallel
        self._stage, self._other_shape = stage, other_shape
        self._remarks = set[str]()
        one = decode(paths[0])
        self._first = one.pixels
        self._like: Tensor = self._first if like is None else like._like
        self._checked(paths[0], one)
        self._kept = np.zeros(len(paths), dtype=bool)
        fits = MemoryPlan(torch.device("cpu")).holds_data(len(paths) * one.pixels.nbytes)
        # The system allocates a page of this memory only when an image is written to it.
        shape, kind = (len(paths), *one.pixels.shape), one.pixels.numpy().dtype
        self._memory: NDArray[Any] | None = np.empty(shape, dtype=kind) if fits else None
        if self._memory is not None:
            self._memory[0], self._kept[0] = one.pixels.numpy(), True

    def scaled(self, numbers: Callable[[Tensor], Tensor], words: str) -> ImageSource:
        """Return a source of the same images with another conversion; both sources share the decoded images.

        Args:
            numbers: Maps decoded images (B, C, H, W) to the inputs of the model, float32.
            words: What `numbers` does, for the fingerprint.
        """
        other = copy.copy(self)
        other._numbers, other._description = numbers, f"{self._description}; {words}"
        return other

    def __len__(self) -> int:
        """Return N."""
        return len(self._paths)

    @property
    def first(self) -> Tensor:
        """The first image as input of the model, (1, ...)."""
        return self._numbers(self._first[None])

    @property
    def pixel_type(self) -> torch.dtype:
        """Data type of the decoded pixels."""
        return self._like.dtype

    @property
    def remarks(self) -> tuple[str, ...]:
        """Changes of colours in the images that were decoded so far, in words."""
        return tuple(sorted(self._remarks - {""}))

    def read(self, positions: Sequence[int]) -> Inputs:
        """Read images by their positions, as inputs of the model; see `InputSource.read`."""
        return self._numbers(self.pixels(positions))

    def pixels(self, positions: Sequence[int]) -> Tensor:
        """Return decoded images (B, C, H, W) by their positions, without the conversion to inputs.

        Raises:
            InputError: An image cannot be read, or its shape or type differs from that of the first image or of `like`.
        """
        memory, index = self._memory, np.asarray(positions, dtype=np.int64)
        if memory is None:
            return torch.from_numpy(np.stack(self._decode_all(positions)))
        missing = np.unique(index[~self._kept[index]]).tolist()
        for position, pixels in zip(missing, self._decode_all(missing), strict=True):
            memory[position] = pixels
        self._kept[missing] = True
        return torch.from_numpy(memory[index])

    def batches(self) -> Iterator[Tensor]:
        """Yield all decoded images once, in batches (B, C, H, W)."""
        for start in range(0, len(self), _BATCH):
            yield self.pixels(range(start, min(start + _BATCH, len(self))))

    def of_files(self) -> bytes:
        """Return the SHA-256 of paths and sizes of all files, contents of at most 4096 files, and the words for the conversion.

        Raises:
            InputError: A file cannot be read.
        """
        root, digest = os.path.commonpath([os.path.dirname(path) for path in self._paths]), hashlib.sha256()
        digest.update(f"{self._description}; {len(self._paths)} images;".encode())
        step = -(-len(self._paths) // _HASHED_FILES)
        for number, path in enumerate(self._paths):
            try:
                size = os.path.getsize(path)
            except OSError as error:  # The file existed when the folder was listed.
                raise InputError(f"The image '{path}' cannot be read.", "Replace or remove it.") from error
            digest.update(f"{os.path.relpath(path, root)} {size};".encode())
            if number % step == 0:
                with files.opened(Path(path)) as file:
                    digest.update(file.read())
        return digest.digest()

    def _decode_all(self, positions: Sequence[int]) -> list[NDArray[Any]]:
        paths = [self._paths[position] for position in positions]
        if not self._in_parallel or len(paths) < 2:
            return [self._checked(path, self._decode(path)) for path in paths]
        with ThreadPoolExecutor(torch.get_num_threads(), "decode") as threads:
            return [self._checked(path, one) for path, one in zip(paths, threads.map(self._decode, paths), strict=True)]

    def _checked(self, path: str, one: Decoded) -> NDArray[Any]:
        pixels, like = one.pixels, self._like
        if pixels.shape != like.shape:
            shapes = f"{tuple(pixels.shape)}{self._stage}, not {tuple(like.shape)}"
            raise InputError(f"The image '{path}' has the shape {shapes}.", self._other_shape)
        if pixels.dtype != like.dtype:
            bits = [8 * part.dtype.itemsize for part in (pixels, like)]
            message = f"The image '{path}' has {bits[0]} bits a pixel, others have {bits[1]}."
            raise InputError(message, "Store all images alike, with 8 or with 16 bits.")
        self._remarks.add(one.remark)
        pixels_of_image: NDArray[Any] = pixels.numpy()
        return pixels_of_image
