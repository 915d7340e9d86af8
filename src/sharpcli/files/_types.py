"""Check the content of a file against the expected types, once, when it is read.

A type is written as an annotation: `int`, `float`, `str`, `bool`, `None`, `Tensor`, `list[T]`, `tuple[S, T]`,
`dict[str, T]`, `dict[int, T]`, a union, a `Literal`, a `TypedDict`, `Annotated[T, Range(...)]`, or `Any` for any JSON value.
"""

from __future__ import annotations

import math
import types
from dataclasses import dataclass, field
from functools import cache
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

from torch import Tensor

_DEEPEST = 20
_MOST = 1_000_000  # Values; if a list contains the same list many times, its values count many times.
_LONGEST = 4096  # Characters of a text; the maximum length of a path.
_LARGEST = 2**63
_PLAIN = (bool, int, float, str)

_Kind = TypeVar("_Kind")


class ContentError(ValueError):
    """A value in a file is not allowed; the message names the value."""


@dataclass(frozen=True)
class Range:
    """The numbers from `least` to `most` that are less than `below`; infinite numbers only if `infinite`."""

    least: float = -math.inf
    most: float = math.inf
    below: float = math.inf
    infinite: bool = False

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return self.least <= value <= self.most and (value < self.below or self.below == math.inf)


def conform(value: object, kind: type[_Kind], name: str) -> _Kind:
    """Return a value of a file as its expected type; lists, tuples and dictionaries become new lists and dictionaries.

    Numbers must be finite, and integers below 2**63 in absolute value. Unknown keys of a TypedDict may have any JSON value,
    since a later version may have written them.

    Args:
        value: As it was read.
        kind: An annotation; see the module.
        name: The name of the value in an error message.

    Raises:
        ContentError: The value has another type, is out of range, too deeply nested or too large.
    """
    return cast("_Kind", _Conforming().value(value, kind, name, 0))


@dataclass
class _Conforming:
    seen: int = field(default=0)

    def value(self, value: Any, kind: Any, name: str, depth: int) -> Any:
        self.seen += 1
        if depth > _DEEPEST or self.seen > _MOST:
            raise ContentError(f"'{name}' holds too many values, or values that are nested too deeply")
        origin, inner = get_origin(kind), get_args(kind)
        if origin is NotRequired:
            return self.value(value, inner[0], name, depth)
        if origin is Annotated:
            return self._within(value, inner[0], inner[1], name, depth)
        if origin in (Union, types.UnionType):
            return self._one_of(value, inner, name, depth)
        if kind is Any:
            return self._plain(value, name, depth)
        if origin is Literal:
            return value if isinstance(value, str) and value in inner else _refuse(name, " or ".join(map(repr, inner)))
        if origin is list:
            return self._list(value, inner[0], name, depth)
        if origin is tuple:
            return self._tuple(value, inner, name, depth)
        if origin is dict:
            return self._dict(value, inner[0], inner[1], name, depth)
        if is_typeddict(kind):
            return self._record(value, kind, name, depth)
        return _single(value, kind, name)

    def _within(self, value: Any, kind: Any, allowed: Range, name: str, depth: int) -> Any:
        if allowed.infinite and isinstance(value, float) and math.isinf(value):
            return value
        number = self.value(value, kind, name, depth)
        if number is not None and not allowed.holds(number):
            raise ContentError(f"'{name}' is out of range")
        return number

    def _one_of(self, value: Any, kinds: tuple[Any, ...], name: str, depth: int) -> Any:
        errors = []
        for kind in kinds:
            try:
                return self.value(value, kind, name, depth)
            except ContentError as error:
                errors.append(error)
        raise errors[0]  # The error for the first type: None comes last.

    def _list(self, value: Any, kind: Any, name: str, depth: int) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise _error(name, "a list")
        return [self.value(part, kind, f"{name}[{place}]", depth + 1) for place, part in enumerate(value)]

    def _tuple(self, value: Any, kinds: tuple[Any, ...], name: str, depth: int) -> list[Any]:
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            raise _error(name, f"a list of {len(kinds)}")
        return [self.value(part, kind, name, depth + 1) for part, kind in zip(value, kinds, strict=True)]

    def _dict(self, value: Any, keys: Any, kind: Any, name: str, depth: int) -> dict[Any, Any]:
        if not isinstance(value, dict):
            raise _error(name, "a dictionary")
        read = _key if keys is str else _number
        return {read(key, name): self.value(part, kind, _inside(name, key), depth + 1) for key, part in value.items()}

    def _record(self, value: Any, kind: Any, name: str, depth: int) -> dict[str, Any]:
        hints = _hints(kind)
        if not isinstance(value, dict):
            raise _error(name, "a dictionary")
        for key in kind.__required_keys__:
            if key not in value and get_origin(hints[key]) is not NotRequired:
                raise ContentError(f"'{_inside(name, key)}' is missing")
        return {
            _key(key, name): self.value(part, hints.get(key, Any), _inside(name, key), depth + 1) for key, part in value.items()
        }

    def _plain(self, value: Any, name: str, depth: int) -> Any:
        if isinstance(value, dict):
            return self._dict(value, str, Any, name, depth)
        if isinstance(value, list | tuple):
            return self._list(value, Any, name, depth)
        if value is None:
            return None
        kind = next((kind for kind in _PLAIN if isinstance(value, kind)), None)
        return _refuse(name, "a number or a string") if kind is None else _single(value, kind, name)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _single(value: Any, kind: Any, name: str) -> Any:
    if kind in (None, type(None)):
        return value if value is None else _refuse(name, "nothing")
    if kind is float:
        sound = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < math.inf
        return value if sound and (isinstance(value, float) or abs(value) < _LARGEST) else _refuse(name, "a finite number")
    if kind is int:
        sound = isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST
        return value if sound else _refuse(name, "an integer")
    if kind is str:
        return value if _is_text(value) else _refuse(name, "a string")
    return value if isinstance(value, kind) else _refuse(name, "a tensor" if kind is Tensor else f"a {kind.__name__}")


def _is_text(value: Any) -> bool:
    if not isinstance(value, str) or len(value) > _LONGEST:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\x00" not in value


def _key(key: Any, name: str) -> str:
    if not _is_text(key):
        raise _error(name, "a dictionary whose keys are strings")
    return str(key)


def _number(key: Any, name: str) -> int:
    return int(_single(key, int, f"a key of {name}"))


def _inside(name: str, key: object) -> str:
    return f"{name}.{key}" if isinstance(key, str) and len(key) < 100 else name


def _refuse(name: str, wanted: str) -> Any:
    raise _error(name, wanted)


def _error(name: str, wanted: str) -> ContentError:
    return ContentError(f"'{name}' is not {wanted}")
