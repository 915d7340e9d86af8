"""The device: a subclass of `torch.Tensor` around a tensor on the CPU, and the functions of torch that must know it.

For C++ the tensors are on the device type PrivateUse1, which torch keeps for devices in Python. `torch.library` gives this
device, and CUDA, their own versions of all functions that make tensors from nothing. Every other operation reaches
`__torch_dispatch__`, which checks its arguments and runs it on the CPU tensors inside.
"""

from __future__ import annotations

import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch.utils._pytree import tree_iter, tree_map

NAME, CUDA = "standin", torch.device("cuda:0")
MEMORY = 8 * 2**30
_PACKAGE = str(Path(__file__).parents[2] / "src" / "sharpcli") + "/"
_aten = torch.ops.aten

# Operations of which the host must know the numbers before it can go on, although they are no copies to the host.
_WAITING = (
    "equal", "nonzero", "masked_select", "_unique2", "unique_dim", "unique_consecutive", "bincount", "linalg_", "_linalg_",
    "cholesky", "geqrf", "lu_",
)  # fmt: skip
_NOT_WAITING = ("vector_norm", "matrix_norm", "cross", "vecdot", "diagonal")
_PRODUCTS = ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "addbmm")
_INDEXED = ("index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index")

events: Counter[tuple[str, str]] = Counter()  # By kind and line of code.


def note(kind: str) -> None:
    """Count an event at the innermost line of sharpcli that has caused it."""
    frame = sys._getframe(1)
    while frame is not None and not frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
    place = "elsewhere" if frame is None else f"{frame.f_code.co_filename.removeprefix(_PACKAGE)}:{frame.f_lineno}"
    events[kind, place] += 1


class OnDevice(torch.Tensor):
    """A tensor on the device; `inner` is the tensor on the CPU with its numbers."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    inner: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> OnDevice:
        layout = {"strides": inner.stride(), "storage_offset": inner.storage_offset()}
        made = torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=f"{NAME}:0", **layout)
        made.inner = inner
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return CUDA

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def to(self, *args: Any, **options: Any) -> Any:
        like = [one for one in (*args, options.pop("other", None)) if isinstance(one, torch.Tensor)]
        if like:
            args = (like[0].device, like[0].dtype, *(one for one in args if not isinstance(one, torch.Tensor)))
        copy = options.pop("copy", False)
        place, dtype, blocking, layout = torch._C._nn._parse_to(*args, **options)
        if place is not None and place.type == "cuda":
            place = torch.device(f"{NAME}:0")
        return torch.Tensor.to(self, place, dtype, blocking, copy, **({} if layout is None else {"memory_format": layout}))

    def numpy(self, **_: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first.")

    def __array__(self, *_: Any, **__: Any) -> Any:
        return self.numpy()

    def tolist(self) -> Any:
        note("to the host")
        return self.inner.tolist()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def get_device(self) -> int:
        return 0

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            copied = OnDevice(self.inner.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, torch.nn.Parameter):
                copied._is_param = True  # type: ignore[attr-defined]
            memo[id(self)] = copied
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        note("saved")  # With its device: a machine without CUDA could not open the file without map_location.
        return self.inner.detach().__reduce_ex__(protocol)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"{self.inner!r} on {CUDA}"

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(operation, args, dict(kwargs or {}))


def _inside(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _here(place: Any) -> bool:
    return place is None or torch.device(place).type in ("cuda", NAME)


def _run(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation that has a tensor on the device among its arguments."""
    name = operation._schema.name.removeprefix("aten::")
    if name == "_local_scalar_dense":
        note("number to the host")
        return operation(args[0].inner)
    if name == "_to_copy":
        return _moved(operation, args[0], kwargs)
    if name in ("copy_", "copy"):
        return _copied(operation, *args)
    if name.startswith(_WAITING) and not name.endswith(_NOT_WAITING):
        note(f"wait of {name}")
    if name in _PRODUCTS or "convolution" in name:
        _check_product(name, args[0])
    _check_devices(operation, name, args, kwargs)
    return _computed(operation, args, kwargs)


def _moved(operation: Any, source: torch.Tensor, kwargs: dict[str, Any]) -> torch.Tensor:
    place = kwargs.pop("device", None)
    kwargs.pop("pin_memory", None)
    if not isinstance(source, OnDevice):
        note("to the device")
        return OnDevice(operation(source, **kwargs).clone())
    if _here(place):
        return OnDevice(operation(source.inner, **kwargs))
    note("to the host")
    return operation(source.inner, **kwargs)  # type: ignore[no-any-return]


def _copied(operation: Any, to: torch.Tensor, source: torch.Tensor, blocking: bool = False) -> torch.Tensor:
    if isinstance(to, OnDevice) != isinstance(source, OnDevice):
        note("to the device" if isinstance(to, OnDevice) else "to the host")
    made = operation(_inside(to), _inside(source))
    if operation._schema.is_mutable:
        return to
    return OnDevice(made) if isinstance(to, OnDevice) else made


def _check_product(name: str, first: torch.Tensor) -> None:
    """Refuse what CUDA cannot multiply, and count what it would round to TF32."""
    if not (first.is_floating_point() or first.is_complex()):
        _fail(NotImplementedError(f'"{name}_cuda" not implemented for {first.dtype}'))
    if "convolution" in name:  # Exact only if torch is told so.
        exact = torch.backends.cudnn.conv.fp32_precision == "ieee"
    else:
        exact = torch.backends.cuda.matmul.fp32_precision != "tf32"
    if first.dtype == torch.float32 and not exact:
        note("rounded to TF32")


def _check_devices(operation: Any, name: str, args: Any, kwargs: dict[str, Any]) -> None:
    """Refuse arguments on the CPU, except for numbers and for indices, which CUDA allows."""
    if any(isinstance(value, torch.Generator) for value in tree_iter((args, kwargs))):
        _fail(RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({name})"))
    written = {
        argument.name for argument in operation._schema.arguments if argument.alias_info and argument.alias_info.is_write
    }
    named = [*zip([argument.name for argument in operation._schema.arguments], args, strict=False), *kwargs.items()]
    for argument, given in named:
        for value in tree_iter(given):
            if not isinstance(value, torch.Tensor):
                continue
            if name in _INDEXED and argument == "indices":
                if value.dtype in (torch.bool, torch.uint8):
                    note("wait of a mask")
            elif not isinstance(value, OnDevice) and (value.ndim or argument in written):
                shape = tuple(value.shape)
                _fail(
                    RuntimeError(
                        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                        f"({name}, argument {argument} of shape {shape})"
                    )
                )


def _computed(operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on the CPU, and wrap its new tensors."""
    if "device" in kwargs:
        if not _here(kwargs["device"]):
            return operation(*tree_map(_inside, args), **tree_map(_inside, kwargs))
        kwargs["device"] = torch.device("cpu")
    owners = {id(value.inner): value for value in tree_iter((args, kwargs)) if isinstance(value, OnDevice)}
    with _own_random_numbers(operation):
        made = operation(*tree_map(_inside, args), **tree_map(_inside, kwargs))
    if operation._schema.is_mutable:
        for owner in owners.values():
            if owner.shape != owner.inner.shape or owner.stride() != owner.inner.stride():
                here, inner = torch._C.DispatchKeySet(torch._C.DispatchKey.PrivateUse1), owner.inner
                _aten.as_strided_.default.redispatch(here, owner, inner.shape, inner.stride(), inner.storage_offset())

    def wrapped(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or isinstance(value, OnDevice):
            return value
        return owners[id(value)] if id(value) in owners else OnDevice(value)

    return tree_map(wrapped, made)


# Random numbers.

_random = torch.Generator().manual_seed(20_260)


@contextmanager
def _own_random_numbers(operation: Any) -> Iterator[None]:
    """Draw from the generator of the device, not from that of the CPU."""
    if torch.Tag.nondeterministic_seeded not in operation.tags:
        yield
        return
    before = torch.default_generator.get_state()
    torch.default_generator.set_state(_random.get_state())
    try:
        yield
    finally:
        _random.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(before)


# Errors. The autograd engine ends the process if Python raises an error inside of a backward pass, so they wait for its end.

_backward = SimpleNamespace(depth=0, errors=list[BaseException]())


def _fail(error: BaseException) -> None:
    if not _backward.depth:
        raise error
    _backward.errors.append(error)


def _with_errors_later(run_backward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        _backward.depth += 1
        try:
            made = run_backward(*args, **kwargs)
        finally:
            _backward.depth -= 1
        if _backward.errors and not _backward.depth:
            error = _backward.errors[0]
            _backward.errors.clear()
            raise error
        return made

    return run


# Installation.


def _makers() -> Iterator[Any]:
    """Yield the operations of torch that make a dense tensor on a device and take no tensor."""
    for schema in torch._C._jit_get_all_schemas():
        names, kinds = [one.name for one in schema.arguments], [str(one.type) for one in schema.arguments]
        makes = (
            schema.name.startswith("aten::") and "device" in names and [str(one.type) for one in schema.returns] == ["Tensor"]
        )
        if not makes or "names" in names or any("Tensor" in kind or "Storage" in kind for kind in kinds):
            continue
        if "sparse" in schema.name or "quantized" in schema.name:
            continue
        packet = getattr(_aten, schema.name.removeprefix("aten::"), None)
        overload = schema.overload_name or "default"
        if packet is not None and overload in packet.overloads():
            yield getattr(packet, overload)


def _maker(operation: Any) -> Callable[..., OnDevice]:
    if operation._schema.name == "aten::_efficientzerotensor":
        operation = _aten.zeros.default

    def make(*args: Any, **kwargs: Any) -> OnDevice:
        if kwargs.get("generator") is not None:
            raise RuntimeError(f"Expected a 'cuda' device type for generator but found 'cpu' ({operation})")
        kwargs = {**kwargs, "device": torch.device("cpu")}
        kwargs.pop("pin_memory", None)
        with _own_random_numbers(operation):
            return OnDevice(operation(*args, **kwargs))

    return make


def install() -> None:
    """Make this process see one CUDA device, until it ends.

    Raises:
        RuntimeError: The machine has a CUDA device, or this build of torch knows nothing of CUDA.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    if torch.cuda.is_available() or torch.version.cuda is None:
        raise RuntimeError("The stand-in needs a torch with CUDA on a machine without a CUDA device.")
    torch._C._ensureCUDADeviceGuardSet()
    _setup_privateuseone_for_python_backend(NAME, backend_module=torch.cuda)
    torch.autograd.set_multithreading_enabled(False)  # So that an event in a backward pass has its line of code.
    torch.__future__.set_swap_module_params_on_conversion(True)  # A parameter stays the same object when it moves.
    library = torch.library.Library("aten", "IMPL")
    install.library = library  # type: ignore[attr-defined]
    with warnings.catch_warnings(action="ignore"):  # About the kernels of CUDA that are replaced.
        for operation in _makers():
            overload = operation._schema.overload_name
            name = operation._schema.name + (f".{overload}" if overload else "")
            for key in ("CUDA", "PrivateUse1"):
                library.impl(name, _maker(operation), key, allow_override=True)
        for operation in (_aten.copy_.default, _aten._local_scalar_dense.default):
            library.impl(
                operation._schema.name,
                lambda *args, _operation=operation, **kwargs: _run(_operation, args, kwargs),
                "PrivateUse1",
                allow_override=True,
            )
        library.impl("aten::_fused_sdp_choice", lambda *_, **__: 0, "PrivateUse1", allow_override=True)  # Plain products.
    for name, replacement in _of_torch_cuda().items():
        setattr(torch.cuda, name, replacement)
    run_backward = _with_errors_later(torch.autograd.graph._engine_run_backward)
    torch.autograd._engine_run_backward = torch.autograd.graph._engine_run_backward = run_backward  # type: ignore[attr-defined]


def _of_torch_cuda() -> dict[str, Callable[..., Any]]:
    """Return what replaces functions of `torch.cuda`."""
    properties = SimpleNamespace(name="stand-in", major=8, minor=0, total_memory=MEMORY, multi_processor_count=1, warp_size=32)
    idle = ("_lazy_init", "init", "set_device", "empty_cache", "reset_peak_memory_stats")
    zero = ("current_device", "memory_allocated", "max_memory_allocated", "memory_reserved")
    # A function for each name, since torch.compile does not allow one function under two names.
    fixed = {**dict.fromkeys(idle), **dict.fromkeys(zero, 0), "is_available": True, "is_initialized": True, "device_count": 1}
    fixed |= {"mem_get_info": (MEMORY, MEMORY), "get_device_name": "stand-in", "get_device_capability": (8, 0)}
    fixed |= {"get_device_properties": properties, "is_bf16_supported": True, "is_current_stream_capturing": False}
    fixed |= {"_exchange_device": -1, "_maybe_exchange_device": -1}
    return {
        **{name: _constant(value) for name, value in fixed.items()},
        "manual_seed": lambda number: _random.manual_seed(int(number) % 2**63),
        "manual_seed_all": lambda number: _random.manual_seed(int(number) % 2**63),
        "synchronize": lambda *_, **__: note("synchronize"),
        "get_rng_state": lambda *_: _random.get_state(),
        "set_rng_state": lambda state, *_: _random.set_state(state),
    }


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value
