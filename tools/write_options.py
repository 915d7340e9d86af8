"""Write src/sharpcli/settings/options.py, the options of the functions for editors: python tools/write_options.py."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
import types
from pathlib import Path
from typing import Any, get_args, get_type_hints

import sharpcli
from sharpcli import settings
from sharpcli.settings.base import AnalysisSettings, SubjectSettings

TARGET = Path(settings.__file__).with_name("options.py")
HEAD = '''"""The options of the functions of sharpcli by name and type, so that an editor can complete and check them.

Written by `tools/write_options.py` from the settings; a test holds it up to date. Where several values are possible, a
single one needs no list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict
'''
BASES = {SubjectSettings: "SubjectOptions", AnalysisSettings: "AnalysisOptions"}


def written() -> str:
    """Return the module."""
    kinds = [SubjectSettings, AnalysisSettings, *commands()]
    return HEAD + "".join(_class(kind) for kind in kinds)


def commands() -> list[type[Any]]:
    """Return the settings of the commands, by name."""
    every = {getattr(settings, name) for name in settings.__all__ if name.endswith("Settings")}
    return sorted(every - set(BASES), key=lambda kind: kind.__name__)


def explicit(kind: type[Any]) -> set[str]:
    """Return the options that the function of a command has as arguments of its own, such as `data`."""
    function = getattr(sharpcli, kind.__name__.removesuffix("Settings").lower())
    return set(inspect.signature(function).parameters)


def _class(kind: type[Any]) -> str:
    """Return the class of the options of a command: those that its base has not."""
    base = next((one for one in kind.__mro__[1:] if one in BASES), None)
    hints, fields = get_type_hints(kind), [entry.name for entry in dataclasses.fields(kind)]
    if kind in BASES:  # Most functions have data as an argument of its own.
        own = [name for name in fields if name != "data" and (base is None or name not in _names(base))]
    else:
        own = [name for name in fields if name not in explicit(kind) and (base is None or name not in _names(base))]
    name = BASES.get(kind, kind.__name__.replace("Settings", "Options"))
    what = {"SubjectOptions": "of every function with a model", "AnalysisOptions": "of every analysis"}.get(name)
    what = what or f"of `{name.removesuffix('Options').lower()}`"
    lines = [f'    """Options {what}."""', "", *(f"    {one}: {_type(hints[one])}" for one in own)]
    return f"\n\nclass {name}({BASES[base] if base else 'TypedDict'}, total=False):\n" + "\n".join(lines).rstrip() + "\n"


def _names(base: type[Any]) -> set[str]:
    return {entry.name for entry in dataclasses.fields(base)} - {"data"}


def _type(hint: Any) -> str:
    if isinstance(hint, types.GenericAlias):
        kind = get_args(hint)[0].__name__
        return f"{kind} | Sequence[{kind}]"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def formatted(text: str) -> str:
    """Return the module as the formatter of the project leaves it."""
    words = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(TARGET), "-"]
    return subprocess.run(words, input=text, capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    TARGET.write_text(formatted(written()), encoding="utf-8")
