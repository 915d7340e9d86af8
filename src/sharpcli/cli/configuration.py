"""Values of options from other places than the command line: the file of a task, and `sharpcli.toml` in the working folder.

The command line has priority over the task, the task over the variables SHARPCLI_DEVICE, SHARPCLI_DATA_ROOT and
SHARPCLI_MEMORY of the environment, these over sharpcli.toml, and this file over the defaults. Code of the user
is run only if the command line names it, so sharpcli.toml cannot name code.
"""

from __future__ import annotations

import ast
import dataclasses
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sharpcli.code_specs import named_code
from sharpcli.errors import InputError, SettingsError, closest, guessed
from sharpcli.settings import REPEATED, SubjectSettings
from sharpcli.training.recipes import recipe_named

DEFAULTS_FILE = "sharpcli.toml"
_TASK = ("model", "data", "loss")
_OF_EVERY_COMMAND = {entry.name for entry in dataclasses.fields(SubjectSettings)} - {"loss"}
# Options of the machine, not of the question, that environment variables set.
_VARIABLES = {name: f"SHARPCLI_{name.upper()}" for name in ("device", "data_root", "memory")}
_NOT_A_DEFAULT = (
    "allow_pickle",
    "resume",
    "overwrite",
    "list_recipes",
    "state",
    "vectors",
    "out",
)  # These are meant for one command.


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The values of all options of a command, and the place that each comes from.

    Attributes:
        values: By the name of the field.
        sources: "command line", "task", the name of a variable, "sharpcli.toml", "recipe NAME" or "default", by the name of
            the field.
    """

    values: dict[str, Any]
    sources: dict[str, str]

    @staticmethod
    def of(
        command: str, settings: type[Any], values: Mapping[str, Any], given: frozenset[str], task: str | None
    ) -> Configuration:
        """Return the values of the command line, with those of the task and of sharpcli.toml where the user gives none.

        Args:
            command: Name of the command.
            settings: Class of its settings.
            values: The values of the command line, with the defaults.
            given: Names that the command line has.
            task: The file of a task.

        Raises:
            InputError: A file cannot be read, or does not define what it should.
            SettingsError: A name or a value in sharpcli.toml is not valid.
        """
        sources = {name: "command line" if name in given else "default" for name in values}
        chosen = dict(values)
        for name, value in _defaults(command, settings).items():
            if "recipe" in given and name not in _OF_EVERY_COMMAND:
                continue  # A recipe on the command line has priority over the defaults of a folder.
            if name not in given:
                chosen[name], sources[name] = value, DEFAULTS_FILE
        for name, variable in _VARIABLES.items():
            if name in chosen and name not in given and os.environ.get(variable):
                chosen[name], sources[name] = os.environ[variable], variable
        for name, value in (_of_task(task) if task else {}).items():
            if name in chosen and name not in given:
                chosen[name], sources[name] = value, "task"
        return Configuration(chosen, sources)

    def settings(self, build: Callable[[dict[str, Any]], Any]) -> Any:
        """Return the settings made from the values.

        Raises:
            SettingsError: A value is not valid. The message names sharpcli.toml or the variable if that is the cause.
        """
        try:
            return build(self.values)
        except SettingsError as error:
            for place in (DEFAULTS_FILE, *_VARIABLES.values()):
                others = {name: value for name, value in self.values.items() if self.sources[name] != place}
                if len(others) == len(self.values):
                    continue
                try:
                    build(others)
                except SettingsError:
                    continue
                raise SettingsError(f"{place}: {error.message}", error.hint) from error
            raise

    def with_recipe(self, chosen: Any) -> Configuration:
        """Return the values after the recipe of `train` has set what the user did not give, and their sources.

        Args:
            chosen: The settings that were made from the values.

        Raises:
            SettingsError: There is no such recipe, or there are several.
        """
        values, sources = chosen.to_dict(), dict(self.sources)
        if not values.get("recipe"):
            return Configuration(values, sources)
        if len(values["recipe"]) > 1:
            raise SettingsError("--show-config shows the options of one recipe.", "Give one --recipe.")
        (recipe,) = values["recipe"]
        filled = recipe_named(recipe).fill(chosen).to_dict()
        by_recipe = {name: f"recipe {recipe}" for name in values if filled[name] != values[name]}
        return Configuration(values | filled, sources | by_recipe)

    def note(self) -> str:
        """Return a sentence about the values of sharpcli.toml and of the environment; "" if there are none."""
        names = [f"--{name.replace('_', '-')}" for name, source in self.sources.items() if source == DEFAULTS_FILE]
        from_file = [f"{', '.join(names)} from {DEFAULTS_FILE} in this folder"] if names else []
        from_variables = [
            f"--{name.replace('_', '-')} {self.values[name]} from {source}"
            for name, source in self.sources.items()
            if source in _VARIABLES.values()
        ]
        return f"note: {'; '.join([*from_file, *from_variables])}." if from_file or from_variables else ""


def _of_task(task: str) -> dict[str, str]:
    """Return model, data and loss of the file of a task, as far as it defines them; the file is read, not run."""
    path = Path(task).expanduser()
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"--task {task} cannot be read: {getattr(error, 'strerror', None) or error}.", "Check the path."
        ) from error
    except SyntaxError as error:
        raise InputError(
            f"--task {task} is not valid Python: {error.msg} (line {error.lineno}).", "Correct the file."
        ) from error
    defined = set(_defined(tree))
    named = {name: f"{path}:{name}" for name in _TASK if name in defined}
    if not named.keys() & {"model", "data"}:
        raise InputError(
            f"--task {task} defines neither model nor data.",
            "Let it define model() and data(), and loss(model, batch) if needed.",
        )
    return named


def _defined(tree: ast.Module) -> Iterator[str]:
    """Yield the names that a file defines or imports at its top level."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (name.asname or name.name for name in node.names)


def _defaults(command: str, settings: type[Any]) -> dict[str, Any]:
    """Return the values of sharpcli.toml for a command: those at the top for the options that it has, then its own table."""
    path = Path(DEFAULTS_FILE)
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{DEFAULTS_FILE} cannot be read: {error}.", "Correct the file, or remove it.") from error
    kinds, every = {entry.name: entry for entry in dataclasses.fields(settings)}, _all_options()
    values: dict[str, Any] = {}
    for key, value in content.items():
        name = key.replace("-", "_")
        if isinstance(value, dict):
            if key not in _commands():
                raise SettingsError(f"{DEFAULTS_FILE} has a table for '{key}', which is no command.", closest(key, _commands()))
        elif name not in every:
            hint = guessed(name, every, "Use the name of an option, as sharpcli COMMAND --help lists them.")
            raise SettingsError(f"{DEFAULTS_FILE} sets '{key}', which is no option.", hint)
        elif name in kinds:
            values[name] = value
    for key, value in content.get(command, {}).items():
        name = key.replace("-", "_")
        if name not in kinds:
            hint = guessed(name, kinds, f"Use the name of an option, as sharpcli {command} --help lists them.")
            raise SettingsError(f"{DEFAULTS_FILE} sets '{key}' for {command}, which has no such option.", hint)
        values[name] = value
    for name, spec in named_code(values).items():
        raise SettingsError(
            f"{DEFAULTS_FILE} names the code '{spec}' for --{name}, but code runs only if the command line names it.",
            f"Give it on the command line: --{name} {spec}",
        )
    once = next((name for name in values if name in _NOT_A_DEFAULT), None)
    if once is not None:
        raise SettingsError(f"{DEFAULTS_FILE} cannot set '{once}', which is for one command.", "Give it on the command line.")
    return {name: _as_typed(name, value, kinds[name].default) for name, value in values.items()}


def _as_typed(name: str, value: Any, default: Any) -> Any:
    """Return a value of TOML in the form in which the command line gives it: a list of texts, or one text with commas."""
    if not isinstance(default, tuple):
        return value
    items = [str(item) for item in (value if isinstance(value, list) else [value])]
    return items if name in REPEATED else ",".join(items)


def _commands() -> dict[str, type[Any]]:
    from sharpcli import settings

    kinds = (getattr(settings, name) for name in settings.__all__ if name.endswith("Settings"))
    named = {kind.__name__.removesuffix("Settings").lower(): kind for kind in kinds}
    return {name: kind for name, kind in named.items() if name not in ("subject", "analysis")}


def _all_options() -> set[str]:
    return {entry.name for kind in _commands().values() for entry in dataclasses.fields(kind)}
