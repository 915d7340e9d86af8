"""Models from code of the user, `path/file.py:fn` or `pkg.mod:attr`, without wrappers such as `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.parameter import is_lazy

from sharpcli import progress
from sharpcli.arguments import check_arguments
from sharpcli.errors import InputError, closest, described
from sharpcli.plugins import LIGHTNING
from sharpcli.user_code import accepted, errors_named, imported, public_callables


def build_from_code(
    spec: str,
    *,
    input_shape: tuple[int, ...] | None,
    num_classes: int | None,
    options: Mapping[str, object],
    hyper_parameters: Mapping[str, object] | None = None,
) -> nn.Module:
    """Import the module that `spec` names, and call its function. All code of the module is run without restriction.

    Args:
        spec: `path/file.py:fn` or `pkg.mod:attr`, a function or class; `~` is expanded, and a prefix `lightning:` is ignored.
        input_shape: Shape of one sample; passed if it is not None and the function has a parameter of this name.
        num_classes: Number of outputs; passed under the same conditions.
        options: Further keyword arguments.
        hyper_parameters: Hyperparameters that the file of a Lightning module records; those that the function accepts are
            passed, unless an option of the same name is given.

    Returns:
        The module that the function returns, without the wrappers of compilation and data parallelism.

    Raises:
        InputError: The module or its function does not exist, the code fails, or its result is no `nn.Module` or a module
            with lazy parameters, with tensors on the meta device or with submodules that have no hash.
        SettingsError: The function does not accept one of the options.
    """
    spec = spec[len(LIGHTNING) :] if spec.lower().startswith(LIGHTNING) else spec
    with imported(spec) as (module, attribute):
        function = _builder(module, attribute, spec)
        offered = {"input_shape": input_shape, "num_classes": num_classes}
        check_arguments(function, options, reserved=offered)
        known = {name: value for name, value in offered.items() if value is not None} | dict(hyper_parameters or {})
        # The signature of nn.Module.__init__ allows any keyword argument, but its code refuses them.
        plain = getattr(function, "__init__", None) is nn.Module.__init__
        keywords = {**({} if plain else accepted(function, known)), **options}
        recorded = [
            f"{name}={value}" for name, value in keywords.items() if name in (hyper_parameters or {}) and name not in options
        ]
        if recorded:
            progress.note(f"'{spec}' is built with {', '.join(recorded)}, as the file records.")
        with errors_named(spec, "called"):
            model = function(**keywords)
    if not isinstance(model, nn.Module):
        kind = type(model).__name__
        raise InputError(f"'{spec}' returned a {kind}, not a torch.nn.Module.", "Return the model from it.")
    require_numbers(model, f"the model that '{spec}' returns")
    return unwrapped(model)


def require_numbers(model: nn.Module, name: str) -> None:
    """Refuse a model with parameters or buffers that have no numbers yet.

    Args:
        model: Any module.
        name: The model in words, for messages.

    Raises:
        InputError: A parameter or buffer is lazy or on the meta device, or a submodule has no hash.
    """
    try:
        parts = [*model.named_parameters(), *model.named_buffers()]
    except TypeError as error:  # For example, a dataclass has no hash, but torch stores modules in sets.
        raise InputError(
            f"torch cannot walk through {name}: {described(error)}.", "Make it hashable: a dataclass needs eq=False."
        ) from error
    sentence = name[0].upper() + name[1:]
    lazy = next((key for key, part in parts if is_lazy(part)), None)
    if lazy is not None:
        message = f"{sentence} has a layer of unknown size: '{lazy}' is lazy."
        raise InputError(message, "Pass one batch through the model first.")
    empty = next((key for key, part in parts if part.is_meta), None)
    if empty is not None:
        raise InputError(f"{sentence} has no numbers: '{empty}' is on the meta device.", "Build it on the CPU.")


def unwrapped(model: nn.Module) -> nn.Module:
    """Remove the wrappers of `torch.compile`, DataParallel and DistributedDataParallel from a module and its submodules.

    A compiled module has no second derivative, and each wrapper has its own buffers or copies. The inner modules are the same
    objects as before, so tied tensors remain tied.
    """
    model = inside(model)
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # named_children() lists a child with two names only once.
            if child is not None and inside(child) is not child:
                setattr(module, name, inside(child))
    for module in model.modules():
        module._compiled_call_impl = None  # `module.compile()` sets this attribute.
    return model


def inside(module: nn.Module) -> nn.Module:
    """Return the module inside its wrappers; no object is changed."""
    while True:
        compiled = getattr(module, "_orig_mod", None)  # The class of compiled modules is not public.
        if isinstance(compiled, nn.Module):
            module = compiled
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module


def _builder(module: ModuleType, function: Any, spec: str) -> Callable[..., object]:
    """Return the function that a spec names; refuse an object that cannot build a model."""
    if isinstance(function, nn.Module):
        name = spec.rpartition(":")[2]
        raise InputError(f"'{spec}' is a model, not a function that builds one.", f"Write: def build(): return {name}")
    if callable(function):
        return function  # type: ignore[no-any-return]
    public = public_callables(module, but=nn.Module)
    hint = closest(spec.rpartition(":")[2], public) if public else "Write a function that returns the model."
    raise InputError(f"'{spec}' names no function or class that builds a model.", hint)
