"""Tokenised texts of the user: tokens:FILE, a npy or npz file of integers; the target of each token is the next token.

Reference: numpy.save.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpcli import files
from sharpcli.arguments import require_at_least
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.next_tokens import next_tokens
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, first_line
from sharpcli.losses import IGNORED


def load(
    root: str, *, download: bool = False, length: int = 128, test: str | None = None, ignore_index: int = IGNORED
) -> DataSplits:
    """Read tokens, and use the next token as the target of each token.

    Args:
        root: Path of a npy file of one array, or of a npz file with "train" and optionally "test". An array (M,) is one long
            text, which is cut into pieces; an array (N, T) contains N texts.
        download: Not used.
        length: Number of input tokens in each piece of a long text; a remainder is dropped.
        test: Path of a second file for the test split: npy, or npz with "test" or with one array.
        ignore_index: A target that is ignored in addition to -100, as set in the loss.

    Returns:
        Tokens and next tokens, int64, both (N, length) for a long text or (N, T - 1) for texts. `num_classes` is the
        largest token of both splits + 1.

    Raises:
        InputError: A file is missing or does not contain such an array, a token is negative, or a text is too short.
        SettingsError: `length` is below 1.
    """
    require_at_least("length", length, 1)
    paths = {"train": Path(root)} | ({"test": files.expanded(test)} if test else {})
    texts: dict[str, NDArray[Any]] = {}
    for part, path in paths.items():
        texts |= _read(path, part)
    arrays = {}
    for part, tokens in texts.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = next_tokens(tokens, length, root)
    vocabulary = max(int(tokens.max()) for tokens in texts.values()) + 1
    data = splits_of_arrays(arrays, Path(root).stem, root, tokens=True, ignore_index=ignore_index, num_classes=vocabulary)
    return replace(data, changes="tokens, targets are the next tokens")


def _read(path: Path, part: str) -> dict[str, NDArray[Any]]:
    if not files.is_there(path):
        raise InputError(f"There is no file '{path}'.", "Check the path behind tokens:.")
    if path.suffix.lower() == ".npz":
        if part == "test":
            return {"test": _test_texts(path)}
        arrays = files.read_arrays(path)
        if "train" not in arrays:
            raise InputError(f"'{path}' has no array 'train'.", "Store the texts as train and test, or as one npy file.")
        return {name: arrays[name] for name in ("train", "test") if name in arrays}
    try:
        with files.opened(path) as file:
            return {part: np.lib.format.read_array(file, allow_pickle=False)}
    except InputError:
        raise
    except Exception as error:  # numpy raises errors of several kinds.
        raise InputError(f"'{path}' cannot be read as a npy file: {first_line(error)}.", "Write it with numpy.save.") from error


def _test_texts(path: Path) -> NDArray[Any]:
    """Return the array "test" of an npz file, or its only array."""

    def choose(names: list[str]) -> list[str]:
        chosen = ["test"] if "test" in names else names
        if len(chosen) != 1:
            raise InputError(f"'{path}' has no array 'test'.", "Store the test texts as test, or as the only array.")
        return chosen

    (texts,) = files.read_arrays(path, choose).values()
    return texts
