"""Run a notebook from the start and store its outputs in it: python tools/run_notebook.py docs/notebook.ipynb"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TIMEOUT = 300  # Seconds for a cell.


def run(notebook: nbformat.NotebookNode, folder: Path) -> nbformat.NotebookNode:
    """Run every cell, in order, in a new process that works in a folder; the outputs are stored in the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell has raised an error.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    NotebookClient(notebook, timeout=TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(folder)}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # Times, which differ in every run.
    return notebook


def main() -> None:
    """Run the notebooks that are named."""
    for name in sys.argv[1:]:
        path = Path(name)
        nbformat.write(run(nbformat.read(path, as_version=4), path.parent), path)


if __name__ == "__main__":
    main()
