"""The folder of a run: whether it is finished, was interrupted or has diverged, and how to go on. Every command asks here."""

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
_DEPTH = 3  # Folders within folders in which runs are looked for.


@dataclass(frozen=True)
class RunFolder:
    """What a folder tells of the run in it.

    Attributes:
        folder: As it was named.
        state: "finished", "interrupted" or "diverged".
        step: Updates that were taken, or at which it diverged; None where nothing tells.
        steps: Updates of the whole run.
        stopped_by: Why a finished run ended.
        weights: What to name as a checkpoint: the folder of a finished run, the last good weights of one that diverged,
            the last saved step of one that was interrupted; None where there is none.
        weights_step: Updates after which those were saved.
        go_on: The command that goes on with it; None where there is nothing to go on with.
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
        """Return what has become of the run."""
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
    """Those settings of a command that are asked about."""

    mode: list[str] | None
    recipe: list[str] | None
    sweep: list[str] | None
    model: str | None


class _Record(TypedDict):
    """What settings.json of a run holds."""

    settings: _Command
    plan: dict[str, Any]
    command: NotRequired[_Command | None]


def how_to_go_on(folder: Path) -> str | None:
    """Return the command that goes on with the run in a folder, as one would type it; None if there is nothing to go on with.

    All settings are in the folder. Where one command has begun several runs, it goes on with all of them. Own code must
    be named again: it is never run because a file names it.
    """
    record = _record(folder)
    if record is None or (folder / FINAL).is_file() or (folder / LAST_GOOD).is_file():
        return None
    command = record.get("command") or record.get("settings") or {}
    together = len(command.get("mode") or ()) > 1 or len(command.get("recipe") or ()) > 1 or command.get("sweep")
    words = ["sharpcli", "train", "--resume", str(folder.parent if together else folder)]
    return shlex.join([*words, *code_options(command)])


def run_in(folder: str | Path) -> RunFolder | None:
    """Return what a folder tells of the run in it; None if it holds none.

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
    """Yield the folders of runs within a folder, in order; not the folder itself."""
    if str(folder):
        yield from _below(files.expanded(folder), _DEPTH)


def no_weights(folder: Path) -> InputError:
    """Return what to raise where a folder is named as a checkpoint, and has no final weights."""
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
    except OSError:  # Of a name that no file can have, or a folder that may not be entered.
        return False


def _record(folder: Path) -> dict[str, Any] | None:
    """Return what settings.json says, if it is that of a run."""
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
