"""Checks of tensors from files: which of them can be weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sharpcli.errors import InputError

_PLAIN = (Tensor, nn.Parameter, nn.Buffer)
_LONGEST = 1000  # Characters of a name.
_TIMES, _SMALL = 256, 2**26  # Tensors may take _TIMES × the bytes of their file, plus _SMALL bytes.
_REAL = (torch.float64, torch.float32, torch.float16, torch.bfloat16)


def words(dtype: torch.dtype) -> str:
    """Return the name of a type as users write it."""
    return str(dtype).removeprefix("torch.")


def require_readable(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not plain and dense, and types of numbers that neither weights nor buffers may have.

    Raises:
        InputError: A tensor is sparse, quantized or without data, or has complex or 8-bit floating-point numbers; or its
            name cannot be written, or it has far more numbers than the file.
    """
    for name, tensor in state.items():
        _require_name(path, name)
        plain = type(tensor) in _PLAIN and tensor.layout == torch.strided and not tensor.is_nested
        if not plain or tensor.is_quantized or tensor.is_meta:
            raise InputError(
                f"'{name}' in {path} is sparse, quantized or without data.",
                "Save it as a plain tensor of real numbers, such as with .to_dense().",
            )
        if tensor.dtype not in _REAL and (tensor.is_complex() or tensor.is_floating_point()):
            raise wrong_type(path, name, tensor)

    _require_size(path, state)


def _require_name(path: Path, name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"A tensor in {path} has a name that is not valid text.", "Give it another name.") from None
    if len(name) > _LONGEST or not name.isprintable():
        what = f"of {len(name)} characters" if len(name) > _LONGEST else f"that cannot be printed, {name!r}"
        raise InputError(f"A tensor in {path} has a name {what}.", "Give it another name.")


def _require_size(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that repeat the numbers of a small file very often, which is possible with a stride of 0."""
    size = _size(path)
    most = _SMALL + _TIMES * size
    for name, tensor in state.items():
        most -= tensor.numel() * tensor.element_size()
        # Releases of torch that do not compare sizes read numbers that are missing in the file from adjacent memory.
        if most < 0 or tensor.untyped_storage().nbytes() > size:
            raise InputError(
                f"'{name}' in {path} has {tensor.numel()} numbers, far more than the file holds.",
                "Save it with .contiguous(), so that every number is in the file.",
            )


def _size(path: Path) -> int:
    """Return the number of bytes of a file; for a folder or an index of several files, that of all files in the folder."""
    if path.is_dir() or path.suffix == ".json":
        folder = path if path.is_dir() else path.parent
        return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())
    return path.stat().st_size


def require_real(path: Path, name: str, tensor: Tensor) -> None:
    """Refuse a parameter of integers or booleans.

    Raises:
        InputError: There is no derivative with respect to a tensor of this type.
    """
    if tensor.dtype not in _REAL:
        raise wrong_type(path, name, tensor)


def wrong_type(path: Path, name: str, tensor: Tensor) -> InputError:
    """Return the error for a tensor of a type that weights may not have."""
    return InputError(
        f"'{name}' in {path} is of type {words(tensor.dtype)}: weights must be real floating-point numbers.",
        f"Save it as one of {', '.join(map(words, _REAL))}, such as with .float().",
    )
