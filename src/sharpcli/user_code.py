"""Code of the user: what `path/file.py:name` and `pkg.mod:name` name is imported and run as it is, with all that it contains.

Such a spec comes from the command line only; one that a file names is never imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from sharpcli.errors import InputError, SharpcliError, described
from sharpcli.files import expanded
from sharpcli.process_settings import restored_afterwards


def never_run(owner: str, kind: str, spec: str) -> InputError:
    """Return the error for code that a file names.

    Args:
        owner: The file or the run, as the subject of a sentence.
        kind: "model", "data", "loss" or "transform", which is also the option that names it.
        spec: Of the code.
    """
    message = f"{owner} needs the {kind} code {spec}, but code that a file names is never run."
    return InputError(message, f"If you trust this code, add --{kind} {spec}.")


@contextlib.contextmanager
def imported(spec: str) -> Iterator[tuple[ModuleType, Any]]:
    """Import the module that a spec names; give it, and what it has under the name behind the colon, or None.

    Inside of the block code can import the files beside it. Afterwards the settings of the process are what they were.

    Args:
        spec: `path/file.py:name` or `pkg.mod:name`, where `~` is expanded and the name may have dots.

    Raises:
        InputError: There is nothing to import, or the import fails.
    """
    source, _, name = spec.rpartition(":")
    file = expanded(source) if source.endswith(".py") else None
    folder = (file.parent if file else Path.cwd()).resolve()
    with _importable(folder), restored_afterwards():
        module = _import_file(file, spec) if file else _import_name(source, spec)
        yield module, _attribute(module, name)


def changed_at(text: str) -> int:
    """Return a number that changes when the file of code that a text names is rewritten; 0 without one."""
    source = text.rpartition(":")[0]
    path = expanded(source)
    return path.stat().st_mtime_ns if source.endswith(".py") and path.is_file() else 0


def _attribute(module: ModuleType, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def public_callables(module: ModuleType, *, but: type | tuple[type, ...] = ()) -> list[str]:
    """Return the names of the functions and classes of a module, for a hint; objects of the kinds `but` are left out."""
    callables = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    return [name for name, value in callables.items() if not isinstance(value, but)]


def accepted(function: Callable[..., object], offered: Mapping[str, object]) -> dict[str, object]:
    """Return those of the offered keyword arguments that a function takes."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [name for name, parameter in parameters.items() if parameter.kind in by_name]
    return {name: value for name, value in offered.items() if name in named}


@contextlib.contextmanager
def errors_named(spec: str, action: str) -> Iterator[None]:
    """Turn any exception of a user's code, also of `sys.exit()`, into an InputError that names the code.

    Args:
        spec: Of the code.
        action: What happened to it, such as "imported".
    """
    try:
        yield
    except (KeyboardInterrupt, SharpcliError):
        raise
    except BaseException as error:  # Also SystemExit and GeneratorExit.
        message = f"'{spec}' failed while it was {action}: {described(error)}."
        raise InputError(message, "Correct that code, or see its traceback with --debug.") from error


def _import_file(file: Path, spec: str) -> ModuleType:
    if not file.is_file():
        raise InputError(f"There is no file '{file}'.", "Check the path in front of the colon.")
    # One name per path, so that two files called model.py do not replace each other.
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    module_spec = importlib.util.spec_from_file_location(f"_sharpcli_{file.stem}_{digest}", file)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"'{file}' cannot be imported.", "Name a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # dataclasses and pickle look their module up there
    try:
        with errors_named(spec, "imported"):
            module_spec.loader.exec_module(module)
    except InputError:
        del sys.modules[module_spec.name]
        raise
    return module


def _import_name(name: str, spec: str) -> ModuleType:
    with errors_named(spec, "imported"):
        return importlib.import_module(name)


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let code import the files beside it, as if it were run from `folder`."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
