"""Every kind of file that is read, with what damages one and what then has to answer or refuse it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from sharpcli import train
from sharpcli.datasets.resolve import resolve
from tests.fuzz import breaking, doors
from tests.fuzz.material import Material


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: In reports.
        make: From random numbers and an empty folder: write a damaged one, and say what was done.
        ask: What must answer or refuse it.
    """

    name: str
    make: Callable[[Random, Path], str]
    ask: Callable[[Path], object]
    line: Callable[[Path], list[str]] | None = None


def kinds(material: Material) -> list[Kind]:
    """Return all kinds."""
    return [
        Kind("checkpoint", lambda r, f: breaking.checkpoint(material, r, f, legacy=False), doors.inspected, doors.inspecting),
        Kind(
            "checkpoint, legacy",
            lambda r, f: breaking.checkpoint(material, r, f, legacy=True),
            doors.inspected,
            doors.inspecting,
        ),
        Kind(
            "foreign",
            lambda r, f: breaking.foreign(material, r, f),
            lambda f: doors.inspected_by_model(material, f),
            lambda f: doors.analysing(material, f),
        ),
        Kind(
            "safetensors",
            lambda r, f: breaking.safetensors(material, r, f),
            lambda f: doors.inspected_by_model(material, f, "x.safetensors"),
            lambda f: doors.analysing(material, f, "x.safetensors"),
        ),
        Kind(
            "npz",
            lambda r, f: breaking.npz(material, r, f),
            lambda f: doors.loaded(material, f),
            lambda f: doors.analysing_data(material, f),
        ),
        Kind("images", lambda r, f: breaking.images(material, r, f), lambda f: resolve(f"folder:{f / 'images'}", root="")),
        Kind(
            "run folder",
            lambda r, f: breaking.run_folder(material, r, f),
            lambda f: doors.measured(material, f),
            doors.measuring,
        ),
        Kind(
            "resume",
            lambda r, f: breaking.resumable_run(material, r, f),
            lambda f: train(**{**material.words, "out": str(f), "resume": True}),
            lambda f: [*material.training, "--out", str(f), "--resume"],
        ),
        Kind("search", lambda r, f: breaking.search(material, r, f), lambda f: doors.gone_on_with(material, f)),
        Kind(
            "search, sealed", lambda r, f: breaking.search(material, r, f, sealed=True), lambda f: doors.restored(material, f)
        ),
        Kind("surface", lambda r, f: breaking.surface(material, r, f), lambda f: doors.filled(material, f)),
    ]
