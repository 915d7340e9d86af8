"""A search for eigenvalues saved on disk after each product: an interruption, even a power cut, loses at most one product.

The basis vectors are appended one by one to a separate file. A small `SavedState` stores the number of valid vectors and
a checksum of each, so that a damaged vector is refused.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypedDict

import torch
from torch import Tensor

from sharpcli import files
from sharpcli.errors import InputError
from sharpcli.files import ContentError, Range
from sharpcli.launch import is_follower
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Frame, Krylov
from sharpcli.linalg.search_state import SearchState
from sharpcli.saved_state import SavedState, checksum

_STATE, _FORMER_STATE = "search.pt", "search.npz"  # The second name was used up to format 3.
_FORMAT = 4
_SCALARS = ("products", "draws", "scale", "asymmetry", "orthogonality", "diagonal", "off_diagonal", "unbroken")

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


class _Chain(TypedDict):
    """The Lanczos chain in the complement of the basis: n vectors (n, P) and at most one waiting vector (0 or 1, P)."""

    rows: Tensor
    waiting: Tensor
    diagonal: Tensor
    off_diagonal: Tensor


class _Search(TypedDict):
    """A decomposition without its m basis vectors: `measured` (m, m), `coupling` (w, m), `waiting` (w, P)."""

    generation: _Count
    share: Annotated[float, Range(sys.float_info.min, most=1)]
    sums: list[_Count]
    frame: _Scalars
    state: SearchState
    measured: Tensor
    coupling: Tensor
    waiting: Tensor
    chain: NotRequired[_Chain]


class KrylovFile:
    """A folder with a file of basis vectors, appended one by one, and a small file with the number of valid vectors.

    The small file is replaced after every step, after the vectors are on disk. So after a power failure at any time, it
    describes vectors that exist.
    """

    def __init__(self, folder: Path, identity: dict[str, object]) -> None:
        """Set the folder and the identity of the search.

        Args:
            folder: Created if it does not exist.
            identity: Settings that identify the search, plain JSON values; a folder with another search is refused.
        """
        self.folder = folder
        self._state = SavedState(
            folder / _STATE,
            {"format": _FORMAT, **identity},
            work="search",
            place=folder,
            if_other="Name another folder, or delete this one.",
            if_damaged="Name another folder.",
        )
        self._generation = 0
        self._num_rows = 0
        self._sums: list[int] = []
        self._chain: _Chain | None = None

    def restore(self, krylov: Krylov) -> dict[str, object]:
        """Restore a decomposition, and return the state of the search; {} if the folder holds none.

        Raises:
            InputError: The folder holds a damaged search, or one of an earlier version.
            SettingsError: It holds the search of another problem.
        """
        saved = self._state.read(_Search)
        if saved is None:
            if files.is_there(self.folder / _FORMER_STATE):
                raise self._state.unusable("an earlier version of sharpcli wrote it")
            return {}
        try:
            size = _require_shapes(saved, krylov.dimension)
            rows = self._read_rows(krylov, size, saved)
        except (InputError, ContentError) as error:
            raise self._state.unusable(str(error).rstrip(".")) from error
        self._generation, self._sums = saved["generation"], saved["sums"]
        if size > len(krylov.rows):  # The vectors come from a run with more memory; the next step restarts from the best.
            krylov.reserve(size)
        krylov.rows[:size] = krylov.space.own(rows).to(krylov.rows)
        waiting = krylov.space.own(saved["waiting"]).to(krylov.rows)
        scalars: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in saved["frame"].items()
        }
        krylov.share = saved["share"]
        krylov.frame = Frame(size, saved["measured"].numpy(), saved["coupling"].numpy(), tuple(waiting), **scalars)
        self._num_rows, self._chain = size, saved.get("chain")
        return dict(saved["state"])

    def restore_chain(self, complement: Complement) -> None:
        """Restore the chain in the complement that was saved with the decomposition, if there was one."""
        if self._chain is None:
            return
        rows, diagonal, off_diagonal = (self._chain[name] for name in ("rows", "diagonal", "off_diagonal"))
        rows, last = (complement.krylov.space.own(part) for part in (rows, self._chain["waiting"]))
        count = min(len(rows), len(complement.rows))
        complement.rows[:count] = rows[:count].to(complement.rows)
        complement.diagonal, complement.off_diagonal = diagonal[:count].tolist(), off_diagonal[:count].tolist()
        following = last if count == len(rows) else rows[count : count + 1]
        complement.waiting = following[0].to(complement.rows) if len(following) else None

    def write(self, krylov: Krylov, state: dict[str, object], complement: Complement | None) -> None:
        """Write the present decomposition; if a write fails after an earlier one succeeded, only warn.

        Raises:
            InputError: The first write fails.
        """
        self._state.unless_written(lambda: self._write(krylov, state, complement))

    def _write(self, krylov: Krylov, state: dict[str, object], complement: Complement | None) -> None:
        frame = krylov.frame
        if frame.size < self._num_rows or (frame.size == self._num_rows and complement is None):
            self._generation, self._num_rows = self._generation + 1, 0  # After a restart the basis is different.
        # All processes have to take part in these, so they come before anything that may fail.
        self._generation, start = krylov.space.processes.agreed((self._generation, self._num_rows))
        rows = krylov.space.whole(krylov.basis[start:]).cpu().contiguous()
        waiting = krylov.space.whole(torch.stack(frame.waiting) if frame.waiting else krylov.rows[:0]).cpu()
        chain = None if complement is None else _chain(complement)
        if is_follower():
            self._num_rows = krylov.size
            return
        self._append(rows, start)
        scalars = {name: getattr(frame, name) for name in _SCALARS}
        content = {
            "generation": self._generation,
            "share": krylov.share,
            "sums": self._sums,
            "frame": {name: list(value) if isinstance(value, tuple) else value for name, value in scalars.items()},
            "state": state,
            "measured": torch.from_numpy(frame.measured),
            "coupling": torch.from_numpy(frame.coupling),
            "waiting": waiting,
        }
        self._state.write(content if chain is None else {**content, "chain": chain})
        for old in self.folder.glob("basis-*.raw"):
            if old != self._rows_file():
                files.remove(old)

    def _rows_file(self, generation: int | None = None) -> Path:
        return self.folder / f"basis-{self._generation if generation is None else generation}.raw"

    def _append(self, rows: Tensor, start: int) -> None:
        """Append basis vectors (m, P), the first of which has the index `start`, to the file."""
        self._sums[start:] = map(checksum, rows)
        path = self._rows_file()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not start:
                path.unlink(missing_ok=True)  # Opening a pipe would wait.
            with path.open("r+b" if start else "wb") as file:
                file.seek(start * rows.shape[1] * rows.element_size())
                file.write(rows.numpy().tobytes())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise files.unwritable(path, error) from error
        self._num_rows = start + len(rows)

    def _read_rows(self, krylov: Krylov, size: int, saved: _Search) -> Tensor:
        """Return the basis vectors (size, P), after a check of their checksums."""
        count = size * krylov.dimension * krylov.rows.element_size()
        with files.opened(self._rows_file(saved["generation"])) as file:
            content = file.read(count)
        if len(content) < count:
            raise ContentError("basis vectors are missing")
        rows = torch.frombuffer(bytearray(content), dtype=krylov.rows.dtype) if count else krylov.rows.new_empty(0).cpu()
        rows = rows.view(size, krylov.dimension)
        if list(map(checksum, rows)) != saved["sums"]:
            raise ContentError("basis vectors are damaged")
        return rows


def _chain(complement: Complement) -> _Chain:
    rows, space = complement.rows[: complement.size], complement.krylov.space
    return {
        "rows": space.whole(rows).cpu(),
        "waiting": space.whole(rows[:0] if complement.waiting is None else complement.waiting[None]).cpu(),
        "diagonal": torch.tensor(complement.diagonal, dtype=torch.float64),
        "off_diagonal": torch.tensor(complement.off_diagonal, dtype=torch.float64),
    }


def _require_shapes(saved: _Search, dimension: int) -> int:
    """Return the number of basis vectors m, after a check that all tensors and lists agree with it."""
    size, waits = (len(tensor) if tensor.ndim else 0 for tensor in (saved["measured"], saved["waiting"]))
    chain: Mapping[str, Any] = saved.get("chain", {})
    shapes: dict[str, tuple[Tensor, tuple[int, ...]]] = {
        "measured": (saved["measured"], (size, size)),
        "coupling": (saved["coupling"], (waits, size)),
        "waiting": (saved["waiting"], (waits, dimension)),
    }
    if chain:
        steps, following = (len(chain[name]) if chain[name].ndim else 0 for name in ("rows", "waiting"))
        wanted = {"rows": (steps, dimension), "waiting": (following, dimension), "diagonal": (steps,), "off_diagonal": (steps,)}
        shapes |= {f"chain.{name}": (chain[name], shape) for name, shape in wanted.items()}
    for name, (tensor, shape) in shapes.items():
        numbers = tensor.layout == torch.strided and tensor.is_floating_point()
        if not numbers or tuple(tensor.shape) != shape or not bool(torch.isfinite(tensor).all()):
            raise ContentError(f"'{name}' is not a tensor of the shape {shape}")
    alphas, betas = saved["frame"]["diagonal"], saved["frame"]["off_diagonal"]
    links = chain["off_diagonal"].tolist() if chain else []
    broken = min([*betas[:-1], *links[:-1]], default=1) <= 0  # Only the last coupling may be zero.
    complete = size <= dimension and (waits > 0 or size == dimension)
    broken = broken or (saved["frame"]["scale"] == 0 and bool(saved["measured"].any()))
    if broken or not complete or len(saved["sums"]) != size or len(alphas) != len(betas):
        raise ContentError("its parts belong to different searches")
    return size
