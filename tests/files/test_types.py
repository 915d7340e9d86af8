"""Values of files against the types that they must have."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, NotRequired, TypedDict

import pytest
import torch
from torch import Tensor

from sharpcli.files import ContentError, Range, conform


class Inner(TypedDict, total=False):
    size: Annotated[int, Range(0, most=9)]
    share: Annotated[float, Range(0, below=1)]


class Outer(TypedDict):
    name: str
    inner: NotRequired[Inner]


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


def doubled(times: int) -> Any:
    value: Any = [1]
    for _ in range(times):
        value = [value, value]
    return value


FITS: list[tuple[Any, Any]] = [
    (3, int),
    (3, float),
    (0.5, float),
    ("x", str),
    (None, str | None),
    (True, bool),
    ([1, 2], list[int]),
    ({"a": 1}, dict[str, int]),
    ({0: "a"}, dict[int, str]),
    ([1, "a"], tuple[int, str]),
    ("b", Literal["a", "b"]),
    ({"name": "x"}, Outer),
    ({"name": "x", "inner": {"size": 9, "share": 0}}, Outer),
    ({"name": "x", "new": [1, {"y": None}]}, Outer),
    (math.inf, Annotated[float, Range(infinite=True)]),
    (None, Annotated[int, Range(0)] | None),
    ([[1, None], {"a": "b"}], Any),
]
REFUSED: list[tuple[Any, Any]] = [
    (True, int),
    (3.0, int),
    ("3", int),
    (2**63, int),
    (None, int),
    (math.nan, float),
    (math.inf, float),
    (10**400, float),
    (torch.tensor(3.0), float),
    (b"x", str),
    ("\ud800", str),
    ("a\x00", str),
    ("x" * 5000, str),
    (3, str | None),
    (1, bool),
    ("ab", list[str]),
    ([1, "a"], list[int]),
    ({"a": "b"}, dict[str, int]),
    ({3: 1}, dict[str, int]),
    ({"a": 1}, dict[int, int]),
    ([1], tuple[int, str]),
    ([1, "a", 2], tuple[int, str]),
    ("c", Literal["a", "b"]),
    ({}, Outer),
    ({"name": 3}, Outer),
    ([], Outer),
    ({"name": "x", "inner": {"size": 10}}, Outer),
    ({"name": "x", "inner": {"size": -1}}, Outer),
    ({"name": "x", "inner": {"share": 1.0}}, Outer),
    ({"name": "x", 3: 4}, Outer),
    ({"name": "x", "new": torch.ones(1)}, Outer),
    (math.nan, Annotated[float, Range(infinite=True)]),
    (torch.ones(1), Any),
    (1j, Any),
    (nested(10_000), Any),
    (doubled(60), Any),
    ([1], Tensor),
    (-math.inf, Any),
]


@pytest.mark.parametrize(("value", "kind"), FITS, ids=str)
def test_what_fits_is_returned(value: Any, kind: Any) -> None:
    assert conform(value, kind, "value") == value


def test_a_tensor_stays_the_same_tensor_and_a_tuple_becomes_a_list() -> None:
    tensor = torch.ones(2)
    assert conform(tensor, Tensor, "value") is tensor
    assert conform((1, (2,)), Any, "value") == [1, [2]]  # type: ignore[comparison-overlap]


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_does_not_fit_is_named(number: int) -> None:
    value, kind = REFUSED[number]
    with pytest.raises(ContentError, match="value"):
        conform(value, kind, "value")


def test_the_place_is_told() -> None:
    with pytest.raises(ContentError, match=r"'file\.inner\.size' is out of range"):
        conform({"name": "x", "inner": {"size": 10}}, Outer, "file")
    with pytest.raises(ContentError, match=r"'file\[1\]' is not an integer"):
        conform([1, "a"], list[int], "file")
    with pytest.raises(ContentError, match=r"'file\.name' is missing"):
        conform({}, Outer, "file")
