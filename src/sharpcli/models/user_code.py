"""Models from a user's own code, `path/file.py:fn` and `pkg.mod:attr`, freed of wrappers such as `torch.compile`."""

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

from torch import nn
from torch.nn.parameter import is_lazy

from sharpcli.arguments import check_arguments
from sharpcli.errors import InputError, closest, described
from sharpcli.files import expanded
from sharpcli.models.process_settings import restored_afterwards


def build_from_code(
    spec: str, *, input_shape: tuple[int, ...] | None, num_classes: int | None, options: Mapping[str, object]
) -> nn.Module:
    """Import the code that `spec` names, and call it. The code is run as it is, with all that it contains.

    Args:
        spec: `path/file.py:fn` or `pkg.mod:attr`, a function or class; `~` is expanded.
        input_shape: Shape of one sample; passed on if the function takes it and it is known.
        num_classes: Number of outputs; likewise.
        options: Further keyword arguments.

    Returns:
        The module that the function returns, without the wrappers of compilation and data parallelism.

    Raises:
        InputError: There is nothing to import, the code fails, or it returns no `nn.Module`.
        SettingsError: The function does not take one of the options.
    """
    source, _, attribute = spec.rpartition(":")
    file = expanded(source) if source.endswith(".py") else None
    folder = (file.parent if file else Path.cwd()).resolve()
    with _importable(folder), restored_afterwards():
        module = _import_file(file, spec) if file else _import_name(source, spec)
        function = _attribute(module, attribute, spec)
        offered = {"input_shape": input_shape, "num_classes": num_classes}
        check_arguments(function, options, reserved=offered)
        known = {name: value for name, value in offered.items() if value is not None}
        keywords = {**_accepted(function, known), **options}
        with _errors_named(spec, "called"):
            model = function(**keywords)
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise InputError(f"'{spec}' returned a {kind}, not a torch.nn.Module.", "Return the model from it.")
    try:
        lazy = next((name for name, part in (*model.named_parameters(), *model.named_buffers()) if is_lazy(part)), None)
    except TypeError as error:  # Such as of a dataclass, which has no hash: torch keeps its modules in sets.
        message = f"torch cannot walk through the model that '{spec}' returned: {described(error)}."
        raise InputError(message, "Make it hashable: a dataclass needs eq=False.") from error
    if lazy is not None:
        raise InputError(
            f"'{spec}' returned a model with a layer of unknown size: '{lazy}' is lazy.",
            "Pass one batch through the model before you return it.",
        )
    empty = next((name for name, part in (*model.named_parameters(), *model.named_buffers()) if part.is_meta), None)
    if empty is not None:
        raise InputError(f"'{spec}' returned a model without numbers: '{empty}' is on the meta device.", "Build it on the CPU.")
    return unwrapped(model)


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the module inside of `torch.compile`, DataParallel and DistributedDataParallel; unwrap its children likewise.

    A compiled module has no second derivative, and each of the wrappers has buffers or copies of its own. The modules
    inside are the same objects as before, so tensors that are tied stay tied.
    """
    model = _inside(model)
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # Also a child with two names, which named_children() lists once.
            if child is not None and _inside(child) is not child:
                setattr(module, name, _inside(child))
    for module in model.modules():
        module._compiled_call_impl = None  # What `module.compile()` sets.
    return model


def _inside(module: nn.Module) -> nn.Module:
    while True:
        compiled = getattr(module, "_orig_mod", None)  # torch.compile's own class is not part of its public names.
        if isinstance(compiled, nn.Module):
            module = compiled
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module


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
        with _errors_named(spec, "imported"):
            module_spec.loader.exec_module(module)
    except InputError:
        del sys.modules[module_spec.name]
        raise
    return module


def _import_name(name: str, spec: str) -> ModuleType:
    with _errors_named(spec, "imported"):
        return importlib.import_module(name)


def _attribute(module: ModuleType, name: str, spec: str) -> Callable[..., object]:
    function = module
    for part in name.split("."):
        function = getattr(function, part, None)  # type: ignore[assignment]
    if callable(function) and not isinstance(function, nn.Module):
        return function
    if isinstance(function, nn.Module):
        raise InputError(f"'{spec}' is a model, not a function that builds one.", f"Write: def build(): return {name}")
    callables = {key: value for key, value in vars(module).items() if callable(value) and not key.startswith("_")}
    public = [key for key, value in callables.items() if not isinstance(value, nn.Module)]
    hint = closest(name, public) if public else "Write a function that returns the model."
    raise InputError(f"'{spec}' names no function or class that builds a model.", hint)


def _accepted(function: Callable[..., object], offered: Mapping[str, object]) -> dict[str, object]:
    if getattr(function, "__init__", None) is nn.Module.__init__:  # it claims **kwargs, and then refuses them
        return {}
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return {}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return dict(offered)
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    named = [key for key, parameter in parameters.items() if parameter.kind in by_name]
    return {key: value for key, value in offered.items() if key in named}


@contextlib.contextmanager
def _errors_named(spec: str, action: str) -> Iterator[None]:
    """Turn any exception of a user's code, also of `sys.exit()`, into an InputError that names the code."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Also SystemExit and GeneratorExit.
        message = f"'{spec}' failed while it was {action}: {described(error)}."
        raise InputError(message, "Mend that code, or see its traceback with --debug.") from error


@contextlib.contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let code import the files beside it, as if it were run from `folder`."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder))
