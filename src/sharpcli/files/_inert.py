"""Types besides tensors in files of training scripts, and the stand-ins that replace them.

Each type below is known to hold data only. Its own code is still never run: for such an object in a file, a stand-in of
this module is created, so the library of the type need not be installed. A type that is not in the list is refused.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy


class Record:
    """Stand-in for any object; it stores its arguments and does nothing."""

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments

    def __new__(cls, *arguments: object) -> Record:
        """Create a record, also if a file skips `__init__`."""
        made = super().__new__(cls)
        made.arguments = arguments
        return made

    def __setstate__(self, state: object) -> None:
        self.state = state


class Array(Record):
    """Stand-in for a NumPy array, whose numbers are not read."""


class _Table:
    """Stand-in for dictionaries of other kinds, such as defaultdict: an ordered dictionary is created."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        return OrderedDict()


class _Row:
    """Stand-in for lists of other kinds, such as deque: a list is created."""

    def __new__(cls, *_: object) -> list[Any]:  # type: ignore[misc]
        return []


def _scalar(kind: object, data: object = b"") -> object:
    """Return the value of a NumPy scalar as a plain number; a record if it is not a number."""
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
