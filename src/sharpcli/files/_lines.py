"""Read JSON files: one document, or one document per line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from sharpcli.errors import InputError
from sharpcli.files._opened import read_bytes
from sharpcli.files._types import conform

_MOST = 2**28  # Bytes.
_Kind = TypeVar("_Kind")


def read_json(place: Path, kind: type[_Kind], hint: str) -> _Kind:
    """Return the document of a file, checked against a type; see `conform`.

    Raises:
        InputError: The file cannot be read, or is not such a document; `hint` says what to do then.
    """
    content = read_bytes(place, _MOST)
    try:
        return conform(json.loads(content.decode("utf-8-sig")), kind, "document")
    except (ValueError, RecursionError) as error:  # See `read_lines`.
        raise InputError(f"{place} is damaged.", hint) from error


def read_lines(place: Path, kind: type[_Kind], hint: str) -> list[_Kind]:
    """Return the documents of a file, one per line, each checked against a type; see `conform`.

    Raises:
        InputError: The file cannot be read, or a line is not such a document; `hint` says what to do then.
    """
    content = read_bytes(place, _MOST)
    try:
        lines: list[Any] = [json.loads(line) for line in content.decode("utf-8-sig").splitlines()]
        return [conform(line, kind, f"line {number}") for number, line in enumerate(lines, start=1)]
    except (ValueError, RecursionError) as error:  # A ContentError is a ValueError, as are the errors of json and of decode.
        raise InputError(f"{place} is damaged.", hint) from error
