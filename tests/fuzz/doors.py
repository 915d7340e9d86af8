"""What has to answer a damaged file or refuse it: functions of the library, and lines of commands."""

from __future__ import annotations

from pathlib import Path

from sharpcli import checkpoints, distance, inspect
from sharpcli.analyses.surface.grid import SavedGrid, fill
from sharpcli.datasets.resolve import resolve
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.results import document
from tests.fuzz.material import Material, bowl
from tests.linalg.spectra import Planted


def inspected(folder: Path) -> object:
    """Inspect a checkpoint."""
    result = inspect(folder / "x.pt")
    return document("inspect", [result], "checkpoints")


def inspecting(folder: Path) -> list[str]:
    """Return the line that inspects it."""
    return ["inspect", str(folder / "x.pt")]


def measuring(folder: Path) -> list[str]:
    """Return the line that measures distances along a run."""
    return ["distance", str(folder / "run")]


def analysing(material: Material, folder: Path, name: str = "x.pt") -> list[str]:
    """Return the line that analyses weights with a model that is named."""
    words = ["--model", "mlp", "--model-arg", "hidden=4", "--data", f"npz:{material.data}", "--topk", "1"]
    return ["hessian", str(folder / name), *words]


def analysing_data(material: Material, folder: Path) -> list[str]:
    """Return the line that analyses a sound checkpoint on other data."""
    return ["hessian", str(material.run / "final.pt"), "--data", f"npz:{folder / 'data.npz'}", "--topk", "1"]


def inspected_by_model(material: Material, folder: Path, name: str = "x.pt") -> object:
    """Inspect weights with a model that is named."""
    how = {"model": "mlp", "model_arg": ("hidden=4",), "data": f"npz:{material.data}"}
    result = inspect(folder / name, **how)
    return document("inspect", [result], "checkpoints")


def loaded(material: Material, folder: Path) -> object:
    """Load data, and inspect a sound checkpoint on them."""
    resolve(f"npz:{folder / 'data.npz'}", root="")
    result = inspect(material.run / "final.pt", data=f"npz:{folder / 'data.npz'}")
    return document("inspect", [result], "checkpoints")


def measured(material: Material, folder: Path) -> object:
    """Measure distances along a run."""
    found = distance(folder / "run")
    checkpoints.saved_steps(folder / "run", checkpoints.read(folder / "run"))
    return document("distance", [found], "checkpoints")


def gone_on_with(material: Material, folder: Path) -> object:
    """Take the search up; what it then certifies has to be true."""
    operator = Planted(material.values)
    pairs = eigenpairs(operator, Wanted(2), max_products=60, store=KrylovFile(folder / "search", material.identity))
    for place, (low, high) in enumerate(pairs.intervals):
        allowed = material.truth[place : place + 1] if pairs.confirmed[place] else material.values
        if pairs.verdicts[place] == "certified" and not bool(((low <= allowed) & (allowed <= high)).any()):
            raise AssertionError(f"certified {low} to {high}, but the eigenvalue is {material.truth[place]}")
    return pairs


def restored(material: Material, folder: Path) -> object:
    """Take up a search that was changed on purpose, with its seal made anew: that cannot be told where all types fit."""
    return eigenpairs(
        Planted(material.values), Wanted(2), max_products=60, store=KrylovFile(folder / "search", material.identity)
    )


def filled(material: Material, folder: Path) -> object:
    """Take a surface up; its losses then have to be those of the function."""
    losses = fill(bowl, [0.0, 1.0], [0.0, 1.0], SavedGrid(folder / "surface.pt", material.surface))
    if losses.tolist() != [[1.0, 2.0], [2.0, 3.0]]:
        raise AssertionError(f"a damaged file has given the losses {losses.tolist()}")
    return losses
