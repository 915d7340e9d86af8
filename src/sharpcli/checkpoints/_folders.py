"""The folder of a run: whether the run finished, was interrupted or diverged, and how to continue it.

Every command uses this module.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from sharpcli import files
from sharpcli.checkpoints._metadata import own_content, with_present_names
from sharpcli.code_specs import code_options
from sharpcli.errors import InputError

FINAL, STATE, LAST_GOOD, SETTINGS = "final.pt", "last.pt", "last-good.pt", "settings.json"
FINISHED, INTERRUPTED, DIVERGED = "finished", "interrupted", "diverged"
_DEPTH = 3  # Levels of nested folders in which runs are searched.


@dataclass(frozen=True)
class RunFolder:
    """The state of the run in a folder.

    Attributes:
        folder: The path as it was given.
        state: "finished", "interrupted" or "diverged".
        step: Number of updates so far, or the update at which the run diverged; None if not known.
        steps: Number of updates of the complete run.
        stopped_by: Why a finished run ended.
        weights: The path to use as a checkpoint: the folder of a finished run, the last good weights of a diverged run,
            or the last saved step of an interrupted run; None if there is none.
        weights_step: Number of updates after which these weights were saved.
        go_on: The command that continues the run; None if the run cannot be continued.
    """

    folder: Path
    state: str
    step: int | None
    steps: int | None
    stopped_by: str | None
    weights: Path | None
    weights_step: int | None
    go_on: str | None

    def sentence(self) -> str:
        """Return the state of the run as a sentence."""
        of = f" of {self.steps}" if self.steps is not None else ""
        if self.state == FINISHED:
            why = f" ({self.stopped_by})" if self.stopped_by else ""
            return f"The run in {self.folder} is finished, after update {self.step}{of}{why}."
        if self.state == DIVERGED:
            place = f" at update {self.step}{of}" if self.step is not None else ""
            return (
                f"The run in {self.folder} diverged{place}; its last good weights, after update {self.weights_step}, are in "
                f"{self.weights}."
            )
        place = f"at update {self.step}{of}" if self.step is not None else "before its state was saved for the first time"
        return f"The run in {self.folder} was interrupted {place}."

    def hint(self) -> str:
        """Return what to do next."""
        if self.state == DIVERGED:
            return f"Use {self.weights}, or train again with a lower --lr."
        return f"Continue with: {self.go_on}" if self.go_on else ""


class _Command(TypedDict, total=False):
    """The settings of a command that are used here."""

    mode: list[str] | None
    recipe: list[str] | None
    sweep: list[str] | None
    model: str | None


class _Record(TypedDict):
    """The content of settings.json of a run."""

    settings: _Command
    plan: dict[str, Any]
    command: NotRequired[_Command | None]


def how_to_go_on(folder: Path) -> str | None:
    """Return the shell command that continues the run in a folder; None if the run cannot be continued.

    All settings are in the folder. If one command started several runs, the returned command continues all of them. Code
    of the user must be named again: it is never run only because a file names it.
    """
    record = _record(folder)
    if record is None or (folder / FINAL).is_file() or (folder / LAST_GOOD).is_file():
        return None
    command = record.get("command") or record.get("settings") or {}
    together = len(command.get("mode") or ()) > 1 or len(command.get("recipe") or ()) > 1 or command.get("sweep")
    words = ["sharpcli", "train", "--resume", str(folder.parent if together else folder)]
    return shlex.join([*words, *code_options(command)])


def run_in(folder: str | Path) -> RunFolder | None:
    """Return the state of the run in a folder; None if there is no run in it.

    Raises:
        InputError: A checkpoint in it is damaged.
    """
    place = files.expanded(folder)
    if not str(folder) or not _is_run(place):
        return None
    record = _record(place) or {}
    steps = record.get("plan", {}).get("updates")
    if (place / FINAL).is_file():
        about = _metadata(place / FINAL)
        return RunFolder(
            place, FINISHED, about.get("step"), steps, about.get("stopped_by"), place, about.get("step"), go_on=None
        )
    if (place / LAST_GOOD).is_file():
        about = _metadata(place / LAST_GOOD)
        return RunFolder(place, DIVERGED, about.get("diverged_at"), steps, None, place / LAST_GOOD, about.get("step"), None)
    step, (weights, saved) = None, _last_step(place)
    if (place / STATE).is_file():
        content = files.read_object(place / STATE)
        updates = content.get("updates") if isinstance(content, dict) else None
        step = updates if type(updates) is int and 0 <= updates < 2**63 else None
    return RunFolder(place, INTERRUPTED, step, steps, None, weights, saved, how_to_go_on(place))


def runs_below(folder: str | Path) -> Iterator[Path]:
    """Yield the folders of runs inside a folder, in order; not the folder itself."""
    if str(folder):
        yield from _below(files.expanded(folder), _DEPTH)


def no_weights(folder: Path) -> InputError:
    """Return the error for a folder that is given as a checkpoint but has no final weights."""
    run = run_in(folder)
    if run is not None:
        return InputError(run.sentence(), run.hint())
    inside = [str(path) for path in runs_below(folder)]
    few = ", ".join(inside[:3]) + (f" and {len(inside) - 3} more" if len(inside) > 3 else "")
    hint = f"Name one of its runs ({few}), or list them: {shlex.join(['sharpcli', 'inspect', str(folder)])}"
    return InputError(f"The folder {folder} holds no final.pt.", hint if inside else "Name a file.")


def _below(folder: Path, depth: int) -> Iterator[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    except OSError:
        return
    for path in inside:
        if _is_run(path):
            yield path
        elif depth > 1:
            yield from _below(path, depth - 1)


def _is_run(folder: Path) -> bool:
    try:
        return (folder / FINAL).is_file() or _record(folder) is not None
    except OSError:  # The name is not valid, or reading the folder is not permitted.
        return False


def _record(folder: Path) -> dict[str, Any] | None:
    """Return the content of settings.json; None if it is not that of a run."""
    try:
        record = files.read_json(folder / SETTINGS, dict[str, Any], "Start the run again with --overwrite.")
        return {**files.conform(with_present_names(record), _Record, "settings")}
    except (InputError, files.ContentError):
        return None


def _metadata(place: Path) -> dict[str, Any]:
    content = files.read_object(place)
    return own_content(place, content)[1] if isinstance(content, dict) else {}


def _last_step(folder: Path) -> tuple[Path | None, int | None]:
    """Return the last saved step and its number, if there is one."""
    steps = {int(path.stem[5:]): path for path in folder.glob("step-*.pt") if path.stem[5:].isdecimal()}
    return (steps[max(steps)], max(steps)) if steps else (None, None)
