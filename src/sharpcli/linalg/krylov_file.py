"""A search for eigenvalues kept on disk, product by product: an interruption, even a power cut, costs at most one of them.

What was damaged since then is refused: the small file has a hash of the sums of all its parts, and of every basis vector.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, TypedDict

import numpy
import torch
from numpy.typing import NDArray
from torch import Tensor

from sharpcli import files, progress
from sharpcli.errors import InputError
from sharpcli.files import ContentError, Range, conform
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Frame, Krylov
from sharpcli.linalg.search import SearchState

_STATE = "search.npz"
_FORMAT = 3
_SCALARS = ("products", "draws", "scale", "asymmetry", "orthogonality", "diagonal", "off_diagonal", "unbroken")
_CHAIN = ("chain_rows", "chain_waiting", "chain_diagonal", "chain_off_diagonal")

_Count = Annotated[int, Range(0)]
_Amount = Annotated[float, Range(0)]


class _Scalars(TypedDict):
    """Fields of a `Frame`."""

    products: _Count
    draws: _Count
    scale: _Amount
    asymmetry: _Amount
    orthogonality: _Amount
    diagonal: list[float]
    off_diagonal: list[_Amount]
    unbroken: bool


class _About(TypedDict):
    """What is kept beside arrays."""

    generation: _Count
    share: Annotated[float, Range(sys.float_info.min, most=1)]
    sums: list[_Count]
    frame: _Scalars
    state: SearchState


class KrylovFile:
    """A folder with the basis vectors, appended one by one, and a small file that says how many of them count.

    The small file is replaced whole after every step, when the disk has the vectors, so whatever moment the power fails
    at, it describes vectors that are there.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        """Name the place.

        Args:
            folder: Made if it is not there.
            identity: What the search is of, plain JSON values; a folder that holds another one is refused.
        """
        self.folder = folder
        self._identity = json.dumps({"format": _FORMAT, **identity}, sort_keys=True)
        self._generation = 0
        self._written = 0
        self._sums: list[int] = []
        self._kept = False
        self._chain: tuple[NDArray[Any], ...] | None = None

    def restore(self, krylov: Krylov) -> dict[str, object]:
        """Bring back a decomposition, and return what else was kept; {} if the folder holds none.

        Raises:
            InputError: The folder holds another search or a damaged one.
        """
        place = self.folder / _STATE
        if not files.is_there(place):
            return {}
        try:
            kept = files.read_arrays(place)
            differs = self._differs(_text(kept, "identity"))
            if differs is None:
                about, rows = self._checked(kept, krylov)
        except (InputError, ValueError, RecursionError) as error:  # A ContentError is a ValueError, as are the errors of json.
            reason = str(error).rstrip(".")
            raise InputError(f"{self.folder} holds no search that can be read: {reason}.", "Name another folder.") from error
        if differs is not None:
            raise InputError(
                f"{self.folder} holds the search of another problem (other {', '.join(differs) or 'settings'}).",
                "Name another folder, or delete this one.",
            )
        self._generation, self._sums, size = about["generation"], about["sums"], len(rows)
        if size > len(krylov.rows):  # They were found within another budget; the next step restarts from the best.
            krylov.reserve(size)
        krylov.rows[:size] = rows.to(krylov.rows)
        waiting = torch.from_numpy(kept["waiting"]).to(krylov.rows)
        scalars: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in about["frame"].items()
        }
        krylov.share = about["share"]
        krylov.frame = Frame(size, kept["measured"], kept["coupling"], tuple(waiting), **scalars)
        self._written, self._kept = size, True
        if _CHAIN[0] in kept:
            self._chain = tuple(kept[name] for name in _CHAIN)
        return dict(about["state"])

    def restore_chain(self, rest: Complement) -> None:
        """Bring back the chain in the complement that was kept with the decomposition, if there was one."""
        if self._chain is None:
            return
        rows, waiting, diagonal, off_diagonal = self._chain
        count = min(len(rows), len(rest.rows))
        rest.rows[:count] = torch.from_numpy(rows[:count]).to(rest.rows)
        rest.diagonal, rest.off_diagonal = diagonal[:count].tolist(), off_diagonal[:count].tolist()
        following = waiting if count == len(rows) else rows[count : count + 1]
        rest.waiting = torch.from_numpy(following[0]).to(rest.rows) if len(following) else None

    def keep(self, krylov: Krylov, state: dict[str, object], rest: Complement | None) -> None:
        """Keep a decomposition as it stands; what cannot be kept any more, such as on a full disk, does not end the search.

        Raises:
            InputError: The folder cannot be written to, and could not be before.
        """
        try:
            self._keep(krylov, state, rest)
        except InputError as error:
            if not self._kept:
                raise
            progress.warn(f"The search goes on, but what it finds is no longer kept: {error.message}")
        else:
            self._kept = True

    def _keep(self, krylov: Krylov, state: dict[str, object], rest: Complement | None) -> None:
        frame = krylov.frame
        if frame.size < self._written or (frame.size == self._written and rest is None):
            self._generation, self._written = self._generation + 1, 0  # After a restart the basis is another one.
        self._append(krylov, self._written)
        about = {
            "generation": self._generation,
            "share": krylov.share,
            "sums": self._sums,
            "frame": {name: getattr(frame, name) for name in _SCALARS},
            "state": state,
        }
        waiting = torch.stack(frame.waiting).cpu().numpy() if frame.waiting else numpy.empty((0, krylov.dimension), "float32")
        arrays: dict[str, Any] = {
            "identity": numpy.array(self._identity),
            "about": numpy.array(json.dumps(about)),
            "measured": frame.measured,
            "coupling": frame.coupling,
            "waiting": waiting,
            **_arrays(rest),
        }
        buffer = io.BytesIO()
        numpy.savez(buffer, seal=numpy.array(_seal(arrays)), **arrays)
        files.write_bytes(self.folder / _STATE, buffer.getvalue(), durable=True)
        for old in self.folder.glob("basis-*.raw"):
            if old != self._rows_file():
                old.unlink(missing_ok=True)

    def _rows_file(self, generation: int | None = None) -> Path:
        return self.folder / f"basis-{self._generation if generation is None else generation}.raw"

    def _append(self, krylov: Krylov, start: int) -> None:
        """Write the basis vectors from `start` on behind those that are there."""
        rows = krylov.basis[start:].cpu().contiguous()
        self._sums[start:] = map(_sum, rows)
        place = self._rows_file()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not start:
                place.unlink(missing_ok=True)  # Whatever it was: opening a pipe would wait.
            with place.open("r+b" if start else "wb") as file:
                file.seek(start * krylov.dimension * rows.element_size())
                file.write(rows.numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise files.unwritable(place, error) from error
        self._written = krylov.size

    def _read_rows(self, krylov: Krylov, size: int, about: _About) -> Tensor:
        """Return the basis vectors (size, P), each as it was written."""
        count = size * krylov.dimension * krylov.rows.element_size()
        with files.opened(self._rows_file(about["generation"])) as file:
            content = file.read(count)
        if len(content) < count:
            raise ContentError("basis vectors are missing")
        rows = torch.frombuffer(bytearray(content), dtype=krylov.rows.dtype) if count else krylov.rows.new_empty(0).cpu()
        rows = rows.view(size, krylov.dimension)
        if list(map(_sum, rows)) != about["sums"]:
            raise ContentError("basis vectors are damaged")
        return rows

    def _differs(self, found: str) -> list[str] | None:
        """Return in what the search that was kept is another one; None if it is the same."""
        if found == self._identity:
            return None
        ours, theirs = json.loads(self._identity), conform(json.loads(found), dict[str, Any], "identity")
        return [name for name in ours if ours[name] != theirs.get(name)]

    def _checked(self, kept: Mapping[str, NDArray[Any]], krylov: Krylov) -> tuple[_About, Tensor]:
        """Return what was kept and the basis vectors, if all of it is as it was written."""
        if _text(kept, "seal") != _seal(kept):
            raise ContentError("it was changed after it was written")
        about = conform(json.loads(_text(kept, "about")), _About, "search")
        return about, self._read_rows(krylov, _require_shapes(kept, about, krylov.dimension), about)


def _sum(row: Tensor) -> int:
    return zlib.crc32(row.numpy().data)


def _seal(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Return a hash of the names, types, shapes and sums of all arrays but the seal itself."""
    digest = hashlib.sha256()
    for name in sorted(set(arrays) - {"seal"}):
        array = numpy.ascontiguousarray(arrays[name])
        total = zlib.crc32(array.tobytes() if array.dtype.kind == "U" else array.data)
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape} {total};".encode())
    return digest.hexdigest()


def _text(kept: Mapping[str, NDArray[Any]], name: str) -> str:
    if name not in kept or kept[name].dtype.kind != "U" or kept[name].ndim:
        raise ContentError(f"'{name}' is missing or no text")
    return str(kept[name])


def _require_shapes(kept: Mapping[str, NDArray[Any]], about: _About, dimension: int) -> int:
    """Return the number of basis vectors m, which all arrays and lists have to agree on."""
    size, waits = (len(kept[name]) if name in kept and kept[name].ndim else 0 for name in ("measured", "waiting"))
    wanted: dict[str, tuple[int, ...]] = {"measured": (size, size), "coupling": (waits, size), "waiting": (waits, dimension)}
    if any(name in kept for name in _CHAIN):
        steps, following = (len(kept[name]) if name in kept and kept[name].ndim else 0 for name in _CHAIN[:2])
        wanted |= {"chain_rows": (steps, dimension), "chain_waiting": (following, dimension)}
        wanted |= dict.fromkeys(_CHAIN[2:], (steps,))
    for name, shape in wanted.items():
        if (
            name not in kept
            or kept[name].dtype.kind != "f"
            or kept[name].shape != shape
            or not numpy.isfinite(kept[name]).all()
        ):
            raise ContentError(f"'{name}' is missing or no array of the shape {shape}")
    alphas, betas = about["frame"]["diagonal"], about["frame"]["off_diagonal"]
    chain = kept[_CHAIN[3]] if _CHAIN[3] in kept else numpy.empty(0)
    broken = min([*betas[:-1], *chain[:-1]], default=1) <= 0  # What couples a vector to the next is zero at the end alone.
    complete = size <= dimension and (waits > 0 or size == dimension)
    broken = broken or (about["frame"]["scale"] == 0 and bool(kept["measured"].any()))
    if broken or not complete or len(about["sums"]) != size or len(alphas) != len(betas):
        raise ContentError("its parts are of different searches")
    return size


def _arrays(rest: Complement | None) -> dict[str, Any]:
    if rest is None:
        return {}
    rows = rest.rows[: rest.size].cpu().numpy()
    return {
        "chain_rows": rows,
        "chain_waiting": rows[:0] if rest.waiting is None else rest.waiting[None].cpu().numpy(),
        "chain_diagonal": numpy.array(rest.diagonal),
        "chain_off_diagonal": numpy.array(rest.off_diagonal),
    }
