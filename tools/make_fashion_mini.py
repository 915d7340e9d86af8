"""Make src/sharpcli/datasets/fashion-mini.npz from the four original Fashion-MNIST files.

    python tools/make_fashion_mini.py FOLDER

FOLDER holds train-images-idx3-ubyte.gz and its three companions, from
github.com/zalandoresearch/fashion-mnist; the Debian package dataset-fashion-mnist
installs them under /usr/share/datasets/fashion-mnist.
The same files and the same zlib give the same bytes, because numpy dates no member of an npz file.
"""

from __future__ import annotations

import gzip
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

TARGET = Path(__file__).parents[1] / "src" / "sharpcli" / "datasets" / "fashion-mini.npz"
NUM_TRAIN, NUM_TEST = 10_000, 5_000


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read a gzipped idx file of bytes.

    Args:
        path: Two zero bytes, the type 8 (uint8), the number of axes, their big-endian lengths, the data.

    Returns:
        The array in the shape that the file declares.

    Raises:
        ValueError: The file is not of that kind, or its length is not the declared one.

    References:
        LeCun, Cortes and Burges, The MNIST Database, section "File formats".

    """
    content = gzip.decompress(path.read_bytes())
    if content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is no idx file of bytes")
    num_axes = content[3]
    shape = np.frombuffer(content, dtype=">u4", count=num_axes, offset=4)
    return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * num_axes).reshape([int(n) for n in shape])


def main(folder: Path) -> None:
    """Write the first images and labels of both splits to `TARGET`."""
    arrays = {}
    for key, stem, count in (("train", "train", NUM_TRAIN), ("test", "t10k", NUM_TEST)):
        arrays[f"x_{key}"] = read_idx(folder / f"{stem}-images-idx3-ubyte.gz")[:count]
        arrays[f"y_{key}"] = read_idx(folder / f"{stem}-labels-idx1-ubyte.gz")[:count]
    np.savez_compressed(TARGET, **arrays)  # type: ignore[arg-type]
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
