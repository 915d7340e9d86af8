"""Code of the user, named by a spec `path/file.py:name` or `pkg.mod:name`; its module is imported and run without restriction.

A spec is used only if it is on the command line. Code that only a file names is never imported.
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
        kind: "model", "data", "loss" or "transform", which is also the option that names the code.
        spec: The spec of the code.
    """
    message = f"{owner} needs the {kind} code {spec}, but code that a file names is never run."
    return InputError(message, f"If you trust this code, add --{kind} {spec}.")


@contextlib.contextmanager
def imported(spec: str) -> Iterator[tuple[ModuleType, Any]]:
    """Import the module that a spec names; yield the module and its attribute after the colon, or None if it has none.

    Inside the block, the code can import files in its folder. After the block, the settings of the process are restored.

    Args:
        spec: `path/file.py:name` or `pkg.mod:name`; `~` is expanded, and the name may contain dots.

    Raises:
        InputError: There is no such module, or its import fails.
    """
    source, _, name = spec.rpartition(":")
    file = expanded(source) if source.endswith(".py") else None
    folder = (file.parent if file else Path.cwd()).resolve()
    with importable(folder), restored_afterwards():
        module = _import_file(file, spec) if file else _import_name(source, spec)
        yield module, _attribute(module, name)


def changed_at(text: str) -> int:
    """Return the modification time, in ns, of the .py file that a spec names, to detect changes; 0 if there is no such file."""
    source = text.rpartition(":")[0]
    path = expanded(source)
    return path.stat().st_mtime_ns if source.endswith(".py") and path.is_file() else 0


def _attribute(module: ModuleType, name: str) -> Any:
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    return value


def public_callables(module: ModuleType, *, but: type | tuple[type, ...] = ()) -> list[str]:
    """Return the public functions and classes of a module by name, for a hint, without instances of the types `but`."""
    callables = {name: value for name, value in vars(module).items() if callable(value) and not name.startswith("_")}
    return [name for name, value in callables.items() if not isinstance(value, but)]


def accepted(function: Callable[..., object], offered: Mapping[str, object]) -> dict[str, object]:
    """Return the offered keyword arguments that a function accepts; none if its signature is not known."""
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
    """Convert any exception of a user's code, also that of `sys.exit()`, to an InputError that names the code.

    Args:
        spec: The spec of the code.
        action: The operation, as in "failed while it was imported".

    Raises:
        InputError: The code has raised an exception. KeyboardInterrupt and `SharpcliError` are raised unchanged.
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
    # The module name contains a hash of the path, so that two files called model.py do not replace each other.
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    module_spec = importlib.util.spec_from_file_location(f"_sharpcli_{file.stem}_{digest}", file)
    if module_spec is None or module_spec.loader is None:
        raise InputError(f"'{file}' cannot be imported.", "Name a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[module_spec.name] = module  # Dataclasses and pickle look up their module in sys.modules.
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
def importable(folder: Path) -> Iterator[None]:
    """Allow code to import files in `folder` inside the block."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
