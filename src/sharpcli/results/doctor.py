"""Results of `doctor`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sharpcli.results.base import Result


@dataclass(frozen=True, kw_only=True)
class DeviceRow:
    """A device on which analyses can run.

    `memory` and `free` are bytes, None if they are not known; of the CPU they are those of the process, within the limits of
    its container. `gigaflops` is the speed of matrix products in float32 without TF32, None if it was not measured.
    """

    name: str
    kind: str
    memory: int | None
    free: int | None
    gigaflops: float | None


@dataclass(frozen=True, kw_only=True)
class PlaceRow:
    """A folder or file that sharpcli, or a library that it uses, reads or writes; `exists` says whether it is there."""

    name: str
    path: str
    exists: bool


@dataclass(frozen=True, kw_only=True, repr=False)
class DoctorResult(Result):
    """The machine as sharpcli sees it.

    `versions` maps packages to versions, None for one that is not installed. `cores` are those that this process may use and
    `threads` those that torch uses. `load` is the mean number of running processes in the last minute, None if it is not
    known. `advice` is what would make analyses faster.
    """

    _headline = ("devices", "advice")
    versions: dict[str, str | None]
    system: str
    processor: str
    cores: int
    threads: int
    load: float | None
    devices: tuple[DeviceRow, ...]
    places: tuple[PlaceRow, ...]
    advice: tuple[str, ...]

    def records(self) -> list[dict[str, Any]]:
        """Return one row per device."""
        return [asdict(row) for row in self.devices]
