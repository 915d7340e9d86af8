"""The rules of the house that a reader of one file cannot see: names, sizes, docstrings, who may print and import what."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import sharpcli
from sharpcli import plugins

SOURCE = Path(sharpcli.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
NO_ATTIC = {"utils", "util", "common", "helpers", "helper", "misc", "core"}
MOST_LINES = 400
FOLDERS = (
    "models/architectures",
    "datasets/readers",
    "measures",
    "training/modes",
    "training/methods",
    "training/augmentations",
)
PLUG_INS = [(folder, name) for folder in FOLDERS for name in plugins.names(folder)]
HELP_WIDTH = 128


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def public(body: list[ast.stmt], owner: str = "") -> Iterator[tuple[str, ast.AST]]:
    """List public functions, classes and, inside public classes, methods; not what is nested in functions."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield owner + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{owner}{node.name}.")


def imports(path: Path) -> set[str]:
    """List all that a file imports anywhere in it, dotted."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def place(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.Call)]


def test_there_is_a_house() -> None:
    assert len(FILES) > 40
    assert {folder for folder, _ in PLUG_INS} == set(FOLDERS)


def test_no_attic() -> None:
    attic = [place(path) for path in FILES if {part.strip("_") for part in Path(place(path)).with_suffix("").parts} & NO_ATTIC]
    assert attic == []


def test_no_file_is_too_long_to_read() -> None:
    lengths = {place(path): len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}


def test_everything_public_is_described() -> None:
    bare = [f"{place(path)}: {name}" for path in FILES for name, node in public(tree(path).body) if not ast.get_docstring(node)]
    bare += [place(path) for path in FILES if path.name != "__main__.py" and not ast.get_docstring(tree(path))]
    assert bare == []


def test_nothing_prints() -> None:
    """The library never prints; only the command line and its renderer know the two streams."""
    called = [(place(path), ast.unparse(call.func)) for path in FILES for call in calls(path)]
    assert [name for name, function in called if function == "print"] == []
    writers = {name for name, function in called if function.startswith(("sys.stdout.", "sys.stderr."))}
    assert {name.partition("/")[0] for name in writers} <= {"cli", "render"}


def test_ranks_are_known_in_one_place() -> None:
    importers = {place(path) for path in FILES for name in imports(path) if name.startswith("torch.distributed")}
    users = {
        place(path)
        for path in FILES
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "torch.distributed"
    }
    assert importers | users <= {"processes.py"}


def test_nothing_private_is_imported_across_packages() -> None:
    """A name with an underscore is private: a module to its package, a function or class to its module.

    A package is a folder or a file directly in `sharpcli`.
    """
    crossings = []
    for path in FILES:
        package = Path(place(path)).with_suffix("").parts[0]
        for name in imports(path):
            parts = name.split(".")
            private = [part for part in parts[1:] if part.startswith("_") and not part.startswith("__")]
            if parts[0] == "sharpcli" and private and (parts[1] != package or not is_module(parts)):
                crossings.append(f"{place(path)}: {name}")
    assert crossings == []


def is_module(parts: list[str]) -> bool:
    """Tell whether a dotted name leads to a file or a public name in one, and not to a private name."""
    below = SOURCE.joinpath(*parts[1:])
    return below.is_dir() or below.with_suffix(".py").is_file() or not parts[-1].startswith("_")


def test_no_checkpoint_can_run_code() -> None:
    """Every torch.load says weights_only=True, and one module unpickles, which creates stand-ins only."""
    unpicklers = [place(path) for path in FILES if imports(path) & {"pickle", "cloudpickle", "dill", "joblib"}]
    assert unpicklers == ["files/_plain_pickles.py"]
    source = (SOURCE / "files" / "_plain_pickles.py").read_text()
    assert "pickle.load" not in source
    assert "pickle.Unpickler" not in source
    loads = [call for path in FILES for call in calls(path) if ast.unparse(call.func) == "torch.load"]
    assert loads
    trusted = [call for call in calls(SOURCE / "checkpoints" / "_trusted.py") if ast.unparse(call.func) == "torch.load"]
    assert len(trusted) == 1  # --allow-pickle.
    for call in loads:
        if ast.unparse(call) == ast.unparse(trusted[0]):
            continue
        assert {word.arg: ast.unparse(word.value) for word in call.keywords}.get("weights_only") == "True"


@pytest.mark.parametrize(("folder", "name"), PLUG_INS, ids=lambda part: part)
def test_every_plug_in_says_what_it_is_and_where_it_is_from(folder: str, name: str) -> None:
    first = plugins.summary(folder, name)
    assert first
    assert len(first) <= HELP_WIDTH
    path = SOURCE / folder / f"{name.replace('-', '_')}.py"
    lines = (ast.get_docstring(tree(path)) or "").splitlines()
    assert lines[0] == first
    assert any(line.startswith("Reference") and len(line) > len("References:") for line in lines)


def test_linear_algebra_names_no_option_of_the_command_line() -> None:
    texts = [
        f"{place(path)}: {node.value}"
        for path in FILES
        if place(path).startswith("linalg/")
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"(^|\W)--[a-z]", node.value)
    ]
    assert texts == []
