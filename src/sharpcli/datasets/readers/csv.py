"""A table of the user: csv:FILE, one row per sample; the target is in the last column or in the column `target`.

Reference: RFC 4180.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sharpcli import files
from sharpcli.datasets.arrays import splits_of_arrays
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, closest
from sharpcli.losses import IGNORED
from sharpcli.settings.losses import is_number


def load(
    root: str,
    *,
    download: bool = False,
    target: str | int | None = None,
    values: bool = False,
    test: str | None = None,
    ignore_index: int = IGNORED,
) -> DataSplits:
    """Read a table of numbers.

    The first row contains the names of the columns if `target` is a name or no input cell of this row is a number. If all
    targets are integers, they are classes counted from 0; if all are numbers, they are regression targets; if none is a
    number, the words are classes in alphabetical order.

    Args:
        root: Path of the file, in UTF-8.
        download: Not used.
        target: Name of the target column, or its number counted from 0. Default: the last column.
        values: Use integer targets as regression targets, too.
        test: A second file, with the same columns, for the test split.
        ignore_index: A class that is ignored in addition to -100, as set in the loss.

    Returns:
        Inputs (N, columns - 1), float64; classes (N,) or regression targets (N, 1).

    Raises:
        InputError: A file is missing, has no rows, has one column or lacks the target column; an input is not a number;
            rows differ in length; targets are words and numbers; or a class is negative.
    """
    paths = {"train": Path(root)} | ({"test": files.expanded(test)} if test else {})
    tables = {part: _read(path, target) for part, path in paths.items()}
    words = _words(tables, paths, target)
    arrays: dict[str, NDArray[Any]] = {}
    for part, (inputs, column) in tables.items():
        arrays[f"x_{part}"], arrays[f"y_{part}"] = inputs, _targets(column, words, values=values)
    return splits_of_arrays(arrays, Path(root).stem, root, ignore_index=ignore_index)


def _words(
    tables: dict[str, tuple[NDArray[np.float64], list[str]]], paths: dict[str, Path], target: str | int | None
) -> list[str]:
    """Return the targets of all tables in sorted order if they are words, and an empty list if they are numbers."""
    cells = [cell for _, column in tables.values() for cell in column]
    words, number = sorted({cell for cell in cells if not is_number(cell)}), next(filter(is_number, cells), None)
    if words and number is not None:
        # As words, the numbers would be other classes than in a column of numbers, and a missing number would be a class.
        places = " and ".join(f"'{path}'" for path in paths.values())
        hint = "Use only words or only numbers."
        if cells[0] in words and not isinstance(target, str):  # The first row may be names although one of them is a number.
            hint += f" If '{cells[0]}' is the name of the column, add --data-arg target={cells[0]}."
        raise InputError(f"The targets in {places} contain words and numbers, such as '{words[0]}' and '{number}'.", hint)
    return words


def _read(path: Path, target: str | int | None) -> tuple[NDArray[np.float64], list[str]]:
    """Return the inputs (N, columns - 1) and the cells of the target column."""
    rows = _rows(path)
    if not rows:
        raise InputError(f"'{path}' has no rows.", "Give the file of the samples.")
    _, first = rows[0]
    width, place = len(first), _place(path, target, [cell.strip() for cell in first])
    if isinstance(target, str) or not any(is_number(cell) for index, cell in enumerate(first) if index != place):
        rows = rows[1:]
    numbers = np.empty((len(rows), width - 1))
    for index, (line, row) in enumerate(rows):
        if len(row) != width:
            raise InputError(f"Line {line} of '{path}' has {len(row)} cells, not {width}.", "Give every row all its cells.")
        cells = row[:place] + row[place + 1 :]
        wrong = next((cell for cell in cells if not is_number(cell)), None)
        if wrong is not None:
            raise InputError(f"Line {line} of '{path}' has '{wrong}', which is no number.", "Encode words as numbers.")
        numbers[index] = [float(cell) for cell in cells]
    return numbers, [row[place].strip() for _, row in rows]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return the rows that are not empty, each with the number of its last line in the file."""
    if not files.is_there(path):
        raise InputError(f"There is no file '{path}'.", "Check the path behind csv:.")
    try:
        with files.opened(path) as file:
            reader = csv.reader(io.StringIO(file.read().decode("utf-8-sig"), newline=""))
            return [(reader.line_num, row) for row in reader if row]
    except (UnicodeDecodeError, csv.Error) as error:
        hint = "Store it as comma-separated values in UTF-8."
        raise InputError(f"'{path}' cannot be read as a table: {error}.", hint) from error


def _place(path: Path, target: str | int | None, names: list[str]) -> int:
    """Return the number of the target column, counted from 0; `names` is the first row."""
    width = len(names)
    if width < 2:
        raise InputError(f"'{path}' has one column.", "Give inputs and a target.")
    if target is None:
        return width - 1
    if isinstance(target, str):
        if target not in names:
            raise InputError(f"'{path}' has no column '{target}'.", closest(target, names))
        return names.index(target)
    if not 0 <= target < width:
        raise InputError(f"'{path}' has {width} columns, so there is no column {target}.", "Count columns from 0.")
    return target


def _targets(column: list[str], words: list[str], *, values: bool) -> NDArray[Any]:
    if words:
        known = {word: number for number, word in enumerate(words)}
        return np.array([known[cell] for cell in column])
    numbers = np.array([float(cell) for cell in column])
    whole = not values and bool(((numbers == np.round(numbers)) & (np.abs(numbers) < 2**53)).all())
    return numbers.astype(np.int64) if whole else numbers
