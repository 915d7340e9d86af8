"""Tables of `doctor`: the machine, devices, places, and what would make analyses faster."""

from __future__ import annotations

from rich.text import Text

from sharpcli.render.tables.parts import NO_VALUE, Facts, Part, dim, new_table, number
from sharpcli.results import DoctorResult

_GIB = 2**30


def draw_doctor(result: DoctorResult) -> list[Part]:
    """Return the facts, one table of devices and one of places, and the advice."""
    there = ", ".join(f"{name} {version}" for name, version in result.versions.items() if version)
    absent = ", ".join(name for name, version in result.versions.items() if not version)
    load = "" if result.load is None else f"; load: {result.load:.2f}"
    processor = f"{result.processor}; cores: {result.cores}; threads of torch: {result.threads}{load}"
    rows = [("versions", there), ("not installed", absent or NO_VALUE), ("system", result.system), ("processor", processor)]
    facts = Facts("This machine", rows)
    devices = new_table("Devices", "device", "kind", "memory (GiB)", "free (GiB)", "GFLOP/s float32", left=2)
    for row in result.devices:
        sizes = (number(None if size is None else size / _GIB) for size in (row.memory, row.free))
        devices.add_row(row.name, row.kind, *sizes, number(row.gigaflops))
    places = new_table("Places", "what", "path", "", left=3)
    for place in result.places:
        places.add_row(place.name, place.path, "" if place.exists else "not there")
    advice = Text("\n".join(result.advice) or "Nothing here slows analyses down.", style="yellow" if result.advice else "green")
    title = Text("\nWhat would make it faster", style="bold")
    return [facts, devices, places, title, advice, dim(f"{result.seconds:.1f} s")]
