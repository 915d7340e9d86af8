"""The settings of `train --resume`: they are saved in the folder, and options given in addition must agree with them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from sharpcli import checkpoints, files
from sharpcli.code_specs import named_code
from sharpcli.errors import InputError, ProcessLostError, SettingsError
from sharpcli.settings import TrainSettings
from sharpcli.settings.train import AUTO
from sharpcli.user_code import never_run

# Settings that may differ between sessions: paths, and settings that never change a weight. The initial weights (init_from,
# weights) are checked by their hash instead.
_FREE = (
    "out",
    "overwrite",
    "resume",
    "list_recipes",
    "device",
    "deterministic",
    "data_root",
    "download",
    "state_seconds",
    "init_from",
    "weights",
)
SGD = "sgd"
_SELECTING = ("mode", "recipe", "sweep")  # Options that select some of the runs of a command.


def names_of_given(settings: TrainSettings) -> set[str]:
    """Return the names of settings that differ from their defaults; these must have been given."""
    return {entry.name for entry in fields(settings) if getattr(settings, entry.name) != entry.default}


def resumed_settings(settings: TrainSettings, given: Collection[str], folder: Path) -> tuple[TrainSettings, str | None]:
    """Return the settings of the command that started the runs in a folder, and the name of the only run to resume, if any.

    If the folder is that of one run, only this run is resumed. If it holds no run yet, return the given settings.

    Args:
        settings: Settings of the present command.
        given: Names of the settings that were given, also if their values are the defaults.
        folder: Folder of one run, or of all runs of a command.

    Raises:
        InputError: The settings in the folder cannot be read, or name code that `given` does not.
        SettingsError: The given settings contradict them, or they belong to several commands.
    """
    commands = {run: _command(run) for run in run_folders(folder)}
    alone = list(commands) == [folder]
    if not commands:
        return settings, None
    fitting = {run: command for run, command in commands.items() if not _contradicting(settings, given, command)}
    if not fitting:
        first = next(iter(commands))
        raise _contradiction(first, _contradicting(settings, given, commands[first]), settings, commands[first])
    unfinished = {run: command for run, command in fitting.items() if not (run / "final.pt").is_file()}
    first, command = next(iter((unfinished or fitting).items()))
    if any(_identifying(other) != _identifying(command) for other in (unfinished or fitting).values()):
        raise SettingsError(f"The runs in {folder} were started by several commands.", f"Name one: --resume {first}.")
    for name, spec in named_code(command.to_dict()).items():
        if name not in given:
            raise never_run(f"The run in {first}", name, spec)
    own = {name: getattr(settings, name) for name in given if name in (*_FREE, *_SELECTING)}
    out = str(folder.parent if alone else folder)
    return replace(command, **{**own, "out": out, "resume": True, "overwrite": False}), folder.name if alone else None


@contextmanager
def adding_resume_command(places: Sequence[Path]) -> Iterator[None]:
    """Add the command that resumes the first run that can be resumed to the error of a signal or of a lost process."""
    try:
        yield
    except (KeyboardInterrupt, ProcessLostError) as stopped:
        commands = [command for command in map(checkpoints.how_to_go_on, places) if command]
        if commands and not hasattr(stopped, "__notes__"):
            stopped.add_note(f"Continue with: {commands[0]}")
        raise


def require_run(folder: Path) -> None:
    """Refuse to resume a folder that holds no run; otherwise the default run would start in it.

    Raises:
        InputError: The folder holds no run.
    """
    if not run_folders(folder):
        raise InputError(
            f"'{folder}' contains no run to continue: {checkpoints.SETTINGS} is missing.",
            "Name the folder of a run, or start a run with --out and --overwrite.",
        )


def run_folders(folder: Path) -> list[Path]:
    """Return the folder itself if it is a run folder, else the run folders in it."""
    alone = (folder / checkpoints.SETTINGS).is_file()
    return [folder] if alone else sorted(path.parent for path in folder.glob(f"*/{checkpoints.SETTINGS}"))


def _command(run: Path) -> TrainSettings:
    """Return the settings of the command that started a run; in runs of older versions, those of the run itself."""
    place = run / checkpoints.SETTINGS
    try:
        record = files.read_json(place, dict[str, Any], "Start the run again with --overwrite.")
        known = {entry.name for entry in fields(TrainSettings)}
        command = record.get("command") or record["settings"]
        return TrainSettings(**{name: value for name, value in command.items() if name in known})
    except (InputError, ValueError, LookupError, TypeError, AttributeError, SettingsError) as error:
        raise InputError(
            f"{place} does not contain readable settings of a run.", "Start the run again with --overwrite."
        ) from error


def _contradicting(settings: TrainSettings, given: Collection[str], command: TrainSettings) -> list[str]:
    """Return the names of the given settings that contradict those of a command."""
    names = []
    for name in sorted(set(given) - set(_FREE)):
        asked, known = getattr(settings, name), getattr(command, name)
        if name == "mode" and not command.recipe:
            asked, known = ([SGD if mode == AUTO else mode for mode in modes] for modes in (asked, known))
        some = name in ("mode", "recipe") and bool(set(asked) & set(known))
        if asked != known and not some and not (name == "mode" and known == (AUTO,)):
            names.append(name)
    return names


def _contradiction(run: Path, names: list[str], settings: TrainSettings, command: TrainSettings) -> SettingsError:
    differences = ", ".join(
        f"{_flag(name)} {_word(getattr(settings, name))} against {_word(getattr(command, name))}" for name in names
    )
    return SettingsError(
        f"The run in {run} was made with other settings ({differences}).",
        "Leave these options out, because the folder contains all settings, or use --overwrite or another --out.",
    )


def _identifying(command: TrainSettings) -> dict[str, Any]:
    return {name: value for name, value in command.to_dict().items() if name not in _FREE}


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _word(value: object) -> str:
    if value is None or value == ():
        return "none"
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
