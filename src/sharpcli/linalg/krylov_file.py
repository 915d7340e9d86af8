"""A search for eigenvalues kept on disk, product by product: an interruption, even a power cut, costs at most one of them."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy
import torch
from numpy.typing import NDArray

from sharpcli import files, progress
from sharpcli.errors import InputError
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Frame, Krylov

_STATE = "search.npz"
_FORMAT = 3
_SCALARS = ("products", "draws", "scale", "asymmetry", "orthogonality", "diagonal", "off_diagonal", "unbroken")


class KrylovFile:
    """A folder with the basis vectors, appended one by one, and a small file that says how many of them count.

    The small file is replaced whole after every step, when the disk has the vectors, so whatever moment the power fails
    at, it describes vectors that are there. Their checksum is in it, so damage is told as damage.
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
        self._checksum = 0  # Of the vectors written.
        self._kept = False
        self._chain: tuple[NDArray[Any], ...] | None = None

    def restore(self, krylov: Krylov) -> dict[str, object]:
        """Bring back a decomposition, and return what else was kept; {} if the folder holds none.

        Raises:
            InputError: The folder holds another search or a damaged one.
        """
        place = self.folder / _STATE
        if not place.is_file():
            return {}
        try:
            with numpy.load(place, allow_pickle=False) as archive:
                kept = {name: archive[name] for name in archive.files}
            about = json.loads(str(kept["about"]))
            self._require_same(str(kept["identity"]))
            self._generation, size = about["generation"], int(kept["measured"].shape[0])
            if size > len(krylov.rows):  # They were found within another budget; the next step restarts from the best.
                krylov.reserve(size)
            self._read_rows(krylov, size, about["checksum"])
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.folder} holds no search that can be read: {error}.", "Name another folder.") from error
        waiting = torch.from_numpy(kept["waiting"]).to(krylov.rows)
        scalars: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in about["frame"].items()
        }
        krylov.share = about["share"]
        krylov.frame = Frame(size, kept["measured"], kept["coupling"], tuple(waiting), **scalars)
        self._written = size
        if "chain_rows" in kept:
            self._chain = tuple(kept[name] for name in ("chain_rows", "chain_waiting", "chain_diagonal", "chain_off_diagonal"))
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
            self._generation, self._written, self._checksum = (
                self._generation + 1,
                0,
                0,
            )  # After a restart the basis is another one.
        self._append(krylov, self._written)
        about = {
            "generation": self._generation,
            "checksum": self._checksum,
            "share": krylov.share,
            "frame": {name: getattr(frame, name) for name in _SCALARS},
            "state": state,
        }
        waiting = torch.stack(frame.waiting).cpu().numpy() if frame.waiting else numpy.empty((0, krylov.dimension), "float32")
        buffer = io.BytesIO()
        numpy.savez(
            buffer,
            identity=self._identity,
            about=json.dumps(about),
            measured=frame.measured,
            coupling=frame.coupling,
            waiting=waiting,
            **_arrays(rest),
        )
        files.write_bytes(self.folder / _STATE, buffer.getvalue(), durable=True)
        for old in self.folder.glob("basis-*.raw"):
            if old != self._rows_file():
                old.unlink(missing_ok=True)

    def _rows_file(self) -> Path:
        return self.folder / f"basis-{self._generation}.raw"

    def _append(self, krylov: Krylov, start: int) -> None:
        """Write the basis vectors from `start` on behind those that are there."""
        rows = krylov.basis[start:].cpu().contiguous()
        content = rows.numpy().tobytes()
        place = self._rows_file()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with place.open("r+b" if start and place.exists() else "wb") as file:
                file.seek(start * krylov.dimension * rows.element_size())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise files.unwritable(place, error) from error
        self._written, self._checksum = krylov.size, zlib.crc32(content, self._checksum)

    def _read_rows(self, krylov: Krylov, size: int, checksum: int) -> None:
        rows = torch.empty(size, krylov.dimension, dtype=krylov.rows.dtype)
        count = rows.numel() * rows.element_size()
        with self._rows_file().open("rb") as file:
            content = file.read(count)
        if len(content) < count:
            raise ValueError("basis vectors are missing")
        if zlib.crc32(content) != checksum:
            raise ValueError("basis vectors are damaged: they are not what was written")
        self._checksum, self._kept = checksum, True
        krylov.rows[:size] = torch.frombuffer(bytearray(content), dtype=rows.dtype).view(rows.shape).to(krylov.rows)

    def _require_same(self, found: str) -> None:
        if found == self._identity:
            return
        ours, theirs = json.loads(self._identity), json.loads(found)
        differs = [name for name in ours if ours[name] != theirs.get(name)]
        raise InputError(
            f"{self.folder} holds the search of another problem (other {', '.join(differs) or 'settings'}).",
            "Name another folder with --state, or delete this one.",
        )


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
