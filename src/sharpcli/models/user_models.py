"""Models from a user's own code, `path/file.py:fn` and `pkg.mod:attr`, freed of wrappers such as `torch.compile`."""

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
    """Import the code that `spec` names, and call it. The code is run as it is, with all that it contains.

    Args:
        spec: `path/file.py:fn` or `pkg.mod:attr`, a function or class; `~` is expanded. `lightning:` may stand before it.
        input_shape: Shape of one sample; passed on if the function takes it and it is known.
        num_classes: Number of outputs; likewise.
        options: Further keyword arguments.
        hyper_parameters: What the file of a Lightning module records; those that the function takes are passed on, unless
            an option of the same name is given.

    Returns:
        The module that the function returns, without the wrappers of compilation and data parallelism.

    Raises:
        InputError: There is nothing to import, the code fails, or it returns no `nn.Module`.
        SettingsError: The function does not take one of the options.
    """
    spec = spec[len(LIGHTNING) :] if spec.lower().startswith(LIGHTNING) else spec
    with imported(spec) as (module, attribute):
        function = _builder(module, attribute, spec)
        offered = {"input_shape": input_shape, "num_classes": num_classes}
        check_arguments(function, options, reserved=offered)
        known = {name: value for name, value in offered.items() if value is not None} | dict(hyper_parameters or {})
        # nn.Module itself claims to take any keyword argument, and then refuses them.
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
    model = inside(model)
    for module in list(model.modules()):
        for name, child in list(module._modules.items()):  # Also a child with two names, which named_children() lists once.
            if child is not None and inside(child) is not child:
                setattr(module, name, inside(child))
    for module in model.modules():
        module._compiled_call_impl = None  # What `module.compile()` sets.
    return model


def inside(module: nn.Module) -> nn.Module:
    """Return the module inside of wrappers around it; nothing is changed."""
    while True:
        compiled = getattr(module, "_orig_mod", None)  # torch.compile's own class is not part of its public names.
        if isinstance(compiled, nn.Module):
            module = compiled
        elif isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        else:
            return module


def _builder(module: ModuleType, function: Any, spec: str) -> Callable[..., object]:
    """Return the function that a spec names, or refuse what builds no model."""
    if isinstance(function, nn.Module):
        name = spec.rpartition(":")[2]
        raise InputError(f"'{spec}' is a model, not a function that builds one.", f"Write: def build(): return {name}")
    if callable(function):
        return function  # type: ignore[no-any-return]
    public = public_callables(module, but=nn.Module)
    hint = closest(spec.rpartition(":")[2], public) if public else "Write a function that returns the model."
    raise InputError(f"'{spec}' names no function or class that builds a model.", hint)
