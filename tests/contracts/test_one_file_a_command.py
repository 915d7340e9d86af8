"""A command is found by its name on every floor: its settings, its analysis, its results, its tables, its figures."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import sharpcli
from sharpcli import results, settings
from sharpcli.render import figures, tables

SOURCE = Path(sharpcli.__file__).parent
COMMANDS = (
    "compare",
    "distance",
    "doctor",
    "hessian",
    "inspect",
    "interpolate",
    "reparam",
    "sharpness",
    "surface",
    "train",
    "watch",
)
DRAWN = ("compare", "distance", "hessian", "interpolate", "sharpness", "surface", "watch")
# Files that belong to no command, by folder.
SHARED = {
    "cli": {
        "completion",
        "configuration",
        "app",
        "entry",
        "failures",
        "help_page",
        "options",
        "panels",
        "places",
        "running",
        "signals",
        "streams",
        "usage",
    },
    "analyses": {"columns", "compatibility", "partial_results", "provenance", "saved_runs"},
    "settings": {"base", "look", "losses", "options", "ranges"},
    "results": {"base"},
    "render/tables": {"configuration", "layout", "parts"},
    "render/figures": {"look", "style"},
}


def names_in(folder: str) -> set[str]:
    found = {path.stem for path in (SOURCE / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    return found - {"__init__"}


def module_of(kind: Any) -> str:
    return str(kind.__module__)


def classes_of(package: ModuleType, root: type) -> list[type]:
    """Return the classes that a package offers, without those that commands share."""
    kinds = [getattr(package, name) for name in package.__all__ if isinstance(getattr(package, name), type)]
    return [kind for kind in kinds if issubclass(kind, root) and not module_of(kind).endswith(".base")]


@pytest.mark.parametrize("folder", SHARED)
def test_a_folder_has_a_file_a_command_and_few_others(folder: str) -> None:
    wanted = DRAWN if folder == "render/figures" else COMMANDS
    assert names_in(folder) == set(wanted) | SHARED[folder]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_settings_of_a_command_are_in_its_file(command: str) -> None:
    kind = getattr(settings, f"{command.capitalize()}Settings")
    assert module_of(kind) == f"sharpcli.settings.{command}"


def test_no_settings_file_holds_those_of_another_command() -> None:
    for kind in classes_of(settings, settings.SubjectSettings):
        assert module_of(kind).rpartition(".")[2] == kind.__name__.removesuffix("Settings").lower()


@pytest.mark.parametrize("command", COMMANDS)
def test_the_analysis_of_a_command_is_in_its_file_or_folder(command: str) -> None:
    function = getattr(importlib.import_module(f"sharpcli.analyses.{command}"), command)
    assert module_of(function).startswith(f"sharpcli.analyses.{command}")
    assert getattr(sharpcli, command) is function


def test_every_result_is_drawn_by_the_file_with_the_name_of_its_own() -> None:
    kinds = [kind for kind in classes_of(results, results.Result) if dataclasses.is_dataclass(kind)]
    assert {module_of(kind).rpartition(".")[2] for kind in kinds} == set(COMMANDS)
    for floor, package in (("tables", tables), ("figures", figures)):
        drawers = package._DRAWERS
        if floor == "tables":
            assert set(drawers) == set(kinds)
        for kind, draw in drawers.items():
            command = module_of(kind).rpartition(".")[2]
            assert module_of(draw) == f"sharpcli.render.{floor}.{command}"


@pytest.mark.parametrize("folder", ["render/tables", "render/figures"])
def test_a_dispatcher_only_dispatches(folder: str) -> None:
    """It knows the types of the answers, and builds none of the parts itself."""
    tree = ast.parse((SOURCE / folder / "__init__.py").read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    takes = [ast.unparse(argument.annotation) for one in functions for argument in one.args.args if argument.annotation]
    kinds = {kind.__name__ for kind in classes_of(results, results.Result)}
    assert not kinds & {word for text in takes for word in text.replace("[", " ").replace("]", " ").split()}
