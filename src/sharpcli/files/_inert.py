"""Types beside tensors that files of training scripts hold, and what is made in their place.

Each name below is known to hold data only. Even so its own code is never run: wherever a file asks for such an object, a
stand-in of this file is made, so the library that the name belongs to need not even be there. A name that is not in the
list is refused.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy


class Record:
    """Takes the place of any object; keeps what it was made of and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __new__(cls, *arguments: object) -> Record:
        """Make one, also where a file skips `__init__`."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class Array(Record):
    """Takes the place of a NumPy array, whose numbers are not read."""


class _Table:
    """Takes the place of dictionaries of other kinds, such as defaultdict: an ordered dictionary is made."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Row:
    """Takes the place of lists of other kinds, such as deque."""

    def __new__(cls, *_: object) -> list[Any]:  # type: ignore[misc]
        return []


def _scalar(kind: object, data: object = b"") -> object:
    """Return the plain number that a NumPy scalar is, or a record where it is none."""
    code = kind.arguments[0] if isinstance(kind, Record) and kind.arguments else None
    if isinstance(code, str) and isinstance(data, bytes) and re.fullmatch(r"[<>=|]?[iufb]\d", code):
        values = numpy.frombuffer(data, numpy.dtype(code))
        return values[0].item() if values.size == 1 else Record(kind, data)
    return Record(kind, data)


_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
_TABLES = (
    "collections.defaultdict",
    "easydict.EasyDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
    "lightning_fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_ROWS = ("collections.deque",)
_SCALARS = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_RECORDS = (
    "argparse.Namespace",
    "types.SimpleNamespace",
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
    *(
        f"builtins.{name}"
        for name in ("bool", "bytes", "dict", "float", "frozenset", "int", "list", "object", "range", "slice")
    ),
    *(f"builtins.{name}" for name in ("str", "tuple")),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
    "typing.Any",
    "torch.torch_version.TorchVersion",
    "numpy.dtype",
    "numpy.ndarray",
    *(f"numpy.dtypes.{kind}DType" for kind in ("Bool", "Float16", "Float32", "Float64", "Str", "Bytes")),
    *(f"numpy.dtypes.{sign}Int{bits}DType" for sign in ("", "U") for bits in (8, 16, 32, 64)),
    *(f"omegaconf.{name}" for name in ("dictconfig.DictConfig", "listconfig.ListConfig")),
    *(f"omegaconf.base.{name}" for name in ("ContainerMetadata", "Metadata", "SCMode")),
    *(f"omegaconf.nodes.{kind}Node" for kind in ("Any", "Boolean", "Float", "Integer", "Path", "String")),
)

STAND_INS: tuple[tuple[Callable[..., object], str], ...] = (
    *((Record, name) for name in _RECORDS),
    *((Array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((_Table, name) for name in _TABLES),
    *((_Row, name) for name in _ROWS),
    *((_scalar, name) for name in _SCALARS),
)
