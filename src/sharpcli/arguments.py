"""Options of plug-ins as `key=value` texts; models, data sets and measures use the same rules."""

from __future__ import annotations

import ast
import inspect
import types
import warnings
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

from sharpcli.errors import SettingsError, closest

_LARGEST = 2**63  # No tensor holds a larger whole number.
_LONGEST = 100  # Characters of a value in a message.


def parse_arguments(texts: Iterable[str]) -> dict[str, object]:
    """Read "key=value" texts; a value is a Python literal if it can be read as one, else the text itself.

    Args:
        texts: For example `["width=16", "hidden=512,256", "norm=none"]`. Dashes in keys count as underscores.

    Returns:
        The options by name, such as `{"width": 16, "hidden": (512, 256), "norm": "none"}`.

    Raises:
        SettingsError: A text has no "=", its key is not a name, or a key is given twice.
    """
    options: dict[str, object] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        name = key.strip().replace("-", "_")
        if not separator or not name.isidentifier():
            raise SettingsError(f"The option '{text}' is not key=value.", "Write it like width=16.")
        if name in options:
            raise SettingsError(f"The option '{name}' is given twice.", "Give each option once.")
        options[name] = _literal(value)
    return options


def check_arguments(function: Callable[..., object], arguments: Mapping[str, object], reserved: Collection[str]) -> None:
    """Refuse options that a function does not accept, before the function is called.

    Args:
        function: Its parameters that can be given by name are the options; `**kwargs` allows any name.
        arguments: The options by name.
        reserved: Parameters that the caller sets; they are not options.

    Raises:
        SettingsError: An unknown or reserved name, a missing option, or a value of the wrong type.
    """
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # Some functions written in C have no signature.
        return
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    options = {name: p for name, p in parameters.items() if p.kind in named and name not in reserved}
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name, value in arguments.items():
        if name in reserved or (name not in options and not open_ended):
            raise SettingsError(f"There is no option called '{name}'.", _known(options, name))
        hint = _hints(function).get(name)
        if name in options and not _fits(value, hint):
            raise SettingsError(f"The option {name} cannot be {repr(value)[:_LONGEST]}.", f"It takes {_type_name(hint)}.")
    for name, parameter in options.items():
        if parameter.default is inspect.Parameter.empty and name not in arguments:
            raise SettingsError(f"The option '{name}' has no default and is not given.", f"Add {name}=VALUE.")


def require_at_least(name: str, value: float, minimum: float) -> None:
    """Refuse an option below its minimum.

    Raises:
        SettingsError: `value` is below `minimum`.
    """
    if value < minimum:
        raise SettingsError(f"The option {name} is {value}, below {minimum}.", f"Raise {name}.")


def typed(value: object) -> str:
    """Return the value of an option as a user types it."""
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)


def _literal(text: str) -> object:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Such as a SyntaxWarning; a text that cannot be read is used as it is.
            return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return text.strip()


def _known(options: Mapping[str, inspect.Parameter], name: str) -> str:
    if not options:
        return "It takes no options."
    return closest(name, options)


def _hints(function: Callable[..., object]) -> dict[str, Any]:
    target = function.__init__ if inspect.isclass(function) else function
    try:
        return get_type_hints(target)
    except Exception:  # Annotations of a user's code may raise any error; then types are not checked.
        return {}


def _fits(value: object, hint: Any) -> bool:
    """Return whether a value has the annotated type; for types that are not simple, always True."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is tuple and len(inner) == 2 and inner[1] is Ellipsis:
        return isinstance(value, tuple) and all(_fits(item, inner[0]) for item in value)
    if hint in (int, float):
        allowed = (int,) if hint is int else (int, float)
        return isinstance(value, allowed) and not isinstance(value, bool) and abs(value) < _LARGEST
    if hint in (bool, str, type(None)):
        return isinstance(value, hint)
    return True


def _type_name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint)
