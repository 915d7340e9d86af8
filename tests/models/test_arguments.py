"""Options as words: literals, plain text, and everything that is refused."""

from __future__ import annotations

import pytest

from sharpcli.arguments import check_arguments, parse_arguments, require_at_least
from sharpcli.errors import SettingsError


def function(data: object, *, width: int = 1, rate: float = 0.1, name: str = "a", flag: bool = False) -> None: ...


def sized(*, size: int | None = None, hidden: tuple[int, ...] | int = ()) -> None: ...


def test_values_are_literals_or_text() -> None:
    texts = [
        "a=1",
        "b=2.5",
        "c=x/y=z",
        "d=512,256",
        "e=None",
        "f=none",
        "g='1'",
        "some-name= True ",
        "h=",
        "i=007",
    ]
    expected = {"a": 1, "b": 2.5, "c": "x/y=z", "d": (512, 256), "e": None, "f": "none", "g": "1"}
    assert parse_arguments(texts) == {**expected, "some_name": True, "h": "", "i": "007"}


def test_nothing_is_executed() -> None:
    assert parse_arguments(["a=__import__('os').getcwd()"]) == {"a": "__import__('os').getcwd()"}


@pytest.mark.parametrize("texts", [["width"], ["=3"], ["a b=3"], ["3=3"], ["a=1", "a=2"], ["a-b=1", "a_b=1"], [""]])
def test_malformed_options(texts: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        parse_arguments(texts)
    assert caught.value.hint


@pytest.mark.parametrize("arguments", [{"width": 3}, {"rate": 1}, {"rate": 0.5, "name": "b"}, {"flag": True}, {}])
def test_right_arguments_pass(arguments: dict[str, object]) -> None:
    check_arguments(function, arguments, reserved=["data"])


@pytest.mark.parametrize(
    "arguments", [{"widht": 3}, {"data": 1}, {"width": 1.0}, {"width": True}, {"name": 3}, {"flag": "yes"}]
)
def test_wrong_arguments_do_not(arguments: dict[str, object]) -> None:
    with pytest.raises(SettingsError) as caught:
        check_arguments(function, arguments, reserved=["data"])
    assert caught.value.hint


def test_unions_and_tuples() -> None:
    check_arguments(sized, {"size": None, "hidden": (1, 2)}, reserved=())
    check_arguments(sized, {"size": 3, "hidden": 2}, reserved=())
    with pytest.raises(SettingsError, match="hidden"):
        check_arguments(sized, {"hidden": (1, "a")}, reserved=())
    with pytest.raises(SettingsError, match="size"):
        check_arguments(sized, {"size": "a"}, reserved=())


def test_a_missing_argument_is_named() -> None:
    with pytest.raises(SettingsError, match="'data'"):
        check_arguments(function, {}, reserved=())


def test_bounds() -> None:
    require_at_least("width", 1, 1)
    with pytest.raises(SettingsError, match="width"):
        require_at_least("width", 0, 1)
