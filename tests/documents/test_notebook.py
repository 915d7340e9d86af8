"""The notebook runs from its first cell to its last, and stores what its cells show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import pytest

from tools.run_notebook import run

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


def shown(notebook: Any) -> list[list[str]]:
    """Return the kinds of output of each cell."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [sorted(kind for output in cell.outputs for kind in output.get("data", {"error": ""})) for cell in cells]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Those of the notebook client; the notebook runs in a process of its own.
def test_every_cell_runs_and_shows_what_is_stored(tmp_path: Path) -> None:
    stored = nbformat.read(NOTEBOOK, as_version=4)
    kinds = shown(stored)
    assert sum("text/html" in kind for kind in kinds) >= 3
    assert sum("image/png" in kind for kind in kinds) >= 2
    again = run(nbformat.read(NOTEBOOK, as_version=4), tmp_path)
    assert shown(again) == kinds
