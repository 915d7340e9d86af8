"""Which tensors can be weights at all, whatever file they came from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from sharpcli.errors import InputError

_REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def words(dtype: torch.dtype) -> str:
    """Return the name of a type as users write it."""
    return str(dtype).removeprefix("torch.")


def require_readable(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not stored entry by entry, and numbers that neither a weight nor a buffer can be here.

    Raises:
        InputError: One is sparse, quantized or without data, or of complex or of 8-bit floating-point numbers.
    """
    for name, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
            raise InputError(
                f"'{name}' in {path} is sparse, quantized or without data.",
                "Save it as a plain tensor of real numbers, such as with .to_dense().",
            )
        if tensor.dtype not in _REAL and (tensor.is_complex() or tensor.is_floating_point()):
            raise wrong_type(path, name, tensor)


def require_real(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a parameter of whole numbers or truth values.

    Raises:
        InputError: It is of no type that a derivative can be taken by.
    """
    if tensor.dtype not in _REAL:
        raise wrong_type(path, name, tensor)


def wrong_type(path: Path, name: str, tensor: Tensor) -> InputError:
    """Return the error of a tensor whose type is none of those that weights may have."""
    return InputError(
        f"'{name}' in {path} is of type {words(tensor.dtype)}: weights have to be real floating-point numbers.",
        f"Save it as one of {', '.join(map(words, _REAL))}, such as with .float().",
    )
