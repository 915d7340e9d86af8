"""Your own table: csv:FILE, a row a sample, with the target in the last column or in the one that is named.

Reference: RFC 4180.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpcli import files
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, closest


def load(root: str, *, download: bool = False, target: str | int | None = None, test: str | None = None) -> DataSplits:
    """Read a table of numbers; a first row with a cell that is no number holds the names of the columns.

    Targets that are whole numbers are classes counted from 0, other numbers are values to regress on, and words are classes
    in the order of the alphabet.

    Args:
        root: The file, in UTF-8.
        download: Not used.
        target: Name or number, from 0, of the column of targets. Default: the last one.
        test: A second file, of the same columns, for the test split.

    Returns:
        Inputs (N, columns - 1), float64; classes (N,) or values (N, 1).

    Raises:
        InputError: A file is missing, a cell is no number, or rows are of different lengths.
    """
    paths = {"train": Path(root)} | ({"test": files.expanded(test)} if test else {})
    tables = {part: _read(path, target) for part, path in paths.items()}
    words = sorted({word for _, column in tables.values() for word in column if not _is_number(word)})
    arrays: dict[str, NDArray[Any]] = {}
    for part, (inputs, column) in tables.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = inputs, _targets(column, words)
    return splits_of_arrays(arrays, Path(root).stem, root)


def _read(path: Path, target: str | int | None) -> tuple[NDArray[np.float64], list[str]]:
    """Return the inputs (N, columns - 1) and the cells of the target."""
    if not files.is_there(path):
        raise InputError(f"There is no file '{path}'.", "Check the path behind csv:.")
    try:
        with files.opened(path) as file:
            rows = [row for row in csv.reader(file.read().decode("utf-8-sig").splitlines()) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"'{path}' cannot be read as a table: {error}.", "Store it as comma-separated values in UTF-8."
        ) from error
    if not rows:
        raise InputError(f"'{path}' has no rows.", "Give the file of the samples.")
    names = [] if all(map(_is_number, rows[0][:-1])) and (len(rows) == 1 or _alike(rows)) else rows.pop(0)
    width = len(names or rows[0])
    place = _place(path, target, names, width)
    numbers = np.empty((len(rows), width - 1))
    for index, row in enumerate(rows):
        line = index + 1 + bool(names)
        if len(row) != width:
            raise InputError(f"Line {line} of '{path}' has {len(row)} cells, not {width}.", "Give every row all its cells.")
        cells = row[:place] + row[place + 1 :]
        wrong = next((cell for cell in cells if not _is_number(cell)), None)
        if wrong is not None:
            raise InputError(f"Line {line} of '{path}' has '{wrong}', which is no number.", "Encode words as numbers.")
        numbers[index] = [float(cell) for cell in cells]
    return numbers, [row[place].strip() for row in rows]


def _alike(rows: list[list[str]]) -> bool:
    """Tell whether the last cell of the first row is a sample's, not a name: a number, or a word that comes again."""
    return _is_number(rows[0][-1]) or rows[0][-1] in {row[-1] for row in rows[1:]}


def _place(path: Path, target: str | int | None, names: list[str], width: int) -> int:
    if width < 2:
        raise InputError(f"'{path}' has one column.", "Give inputs and a target.")
    if target is None:
        return width - 1
    if isinstance(target, int):
        if not 0 <= target < width:
            raise InputError(f"'{path}' has {width} columns, and none of the number {target}.", "Count columns from 0.")
        return target
    if target not in names:
        raise InputError(f"'{path}' has no column '{target}'.", closest(target, names) if names else "Give its number.")
    return names.index(target)


def _targets(column: list[str], words: list[str]) -> NDArray[Any]:
    if words:
        known = {word: number for number, word in enumerate(words)}
        return np.array([known.get(cell, -1) for cell in column])
    numbers = np.array([float(cell) for cell in column])
    return numbers.astype(np.int64) if bool((numbers == np.round(numbers)).all()) else numbers


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
