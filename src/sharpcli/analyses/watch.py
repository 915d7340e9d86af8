"""Measures along runs: losses, λmax and any measure of sharpness at the saved steps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import torch
from torch import Tensor

from sharpcli import __version__, files, processes, progress
from sharpcli.analyses.columns import columns_of
from sharpcli.analyses.hessian import planner_for
from sharpcli.analyses.partial_results import run_each
from sharpcli.analyses.provenance import AnswerRecord, recording
from sharpcli.analyses.saved_runs import saved_places
from sharpcli.analyses.sharpness.measuring import requested_measures
from sharpcli.batchnorm import batch_norms
from sharpcli.checkpoints import Checkpoint, initial_weights, read, whole_run
from sharpcli.curvature.planner import Planner
from sharpcli.errors import IncompleteError, InputError, SettingsError
from sharpcli.loading import check_loss, checkpoint_paths, load_checkpoint
from sharpcli.results import Reading, Subject, WatchResult, WatchRow
from sharpcli.results.base import plain
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings, WatchSettings, chosen
from sharpcli.settings.options import WatchOptions

_PARTS = {"open": 1.0, "plan": 2.0, "search": 12.0, "verify": 1.0, "ε-sharpness draw": 30.0}  # Work in products.
_NOT_IN_KEY = ("state", "every")


def watch(
    runs: str | Path | Sequence[str | Path], *, settings: WatchSettings | None = None, **options: Unpack[WatchOptions]
) -> WatchResult:
    """Measure the saved steps of one or several runs.

    Along a run, each search for λmax starts at the eigenvector of the step before, which saves products.

    Args:
        runs: Run folders with saved steps.
        settings: Settings of the measurement.
        **options: Fields of the settings, instead of `settings`.

    Returns:
        One row for each run and saved step, in order.

    Raises:
        SharpcliError: Settings, input or numbers are unusable; see `sharpcli.errors`.
        IncompleteError: A step has failed; the error holds the result for the steps before it.
    """
    settings = chosen(WatchSettings, settings, {**options})
    requested_measures(settings.measure)  # An unknown one is refused before the work.
    folders = checkpoint_paths([runs] if isinstance(runs, str | Path) else list(runs))
    if not folders:
        raise SettingsError("There is no run to watch.", "Name one or more run folders.")
    wanted = [(str(folder), place) for folder in folders for place in _thinned(saved_places(folder, _steps), settings.every)]
    with recording(settings) as record:
        rows = _Rows(settings, planner_for(HessianSettings(chunk_size=settings.chunk_size)))
        tasks = [partial(rows.of, run, place) for run, place in wanted]
        try:
            found = run_each(tasks, "step")
        except IncompleteError as error:
            raise IncompleteError([_result(error.results, settings, record)], error.cause) from error
        reused = sum(one.row.reused for one in found)
        if reused:
            progress.say(f"{reused} of {len(found)} steps reused from {settings.state}.")
        return _result(found, settings, record)


def _steps(folder: Path, final: Checkpoint) -> list[Checkpoint]:
    """Return the steps of a run, or of a run without saved steps its initial and its final weights."""
    return whole_run(folder, final) or ([initial_weights(final), final] if folder.is_dir() else [])


def _thinned(places: list[Path], every: int) -> list[Path]:
    return [place for number, place in enumerate(places) if number % every == 0 or number == len(places) - 1]


class _Found(NamedTuple):
    """A row with what is the same for all rows."""

    row: WatchRow
    about: dict[str, Any]
    runtime: Runtime


class _Rows:
    """Measures rows, or takes them from the folder of --state."""

    def __init__(self, settings: WatchSettings, planner: Planner) -> None:
        self._settings, self._planner = settings, planner
        self._warm: tuple[str, Tensor | None] = ("", None)

    def of(self, run: str, place: Path) -> _Found:
        """Return the row of one saved step."""
        settings, checkpoint = self._settings, read(place)
        saved = _Saved.of(settings, checkpoint.sha256(), run)
        known = processes.current().agreed(saved.read()) if saved else None
        if known is not None:
            return _Found(*known, Runtime.open(settings.device, settings.dtype))
        with progress.task("row", parts=_PARTS):
            loaded = load_checkpoint(place, settings)
            objective = loaded.objective("train")
            theta = objective.parameters()
            train = objective.evaluate(theta)
            check_loss(loaded, objective, train, "train")
            test = loaded.objective("test").evaluate(theta) if loaded.data.test is not None else None
            measured = objective if settings.split == "train" else loaded.objective(settings.split)
            warm = self._warm[1] if self._warm[0] == run else None
            columns = columns_of(loaded, measured, settings, self._planner, warm=warm)
        self._warm = run, columns.eigenvector
        subject = loaded.subject()
        row = WatchRow(
            run=run,
            checkpoint=subject,
            step=subject.step or 0,
            learning_rate=subject.last_learning_rate,
            train_loss=train.loss,
            train_accuracy=train.accuracy,
            test_loss=None if test is None else test.loss,
            test_accuracy=None if test is None else test.accuracy,
            readings=columns.readings,
            notes=columns.notes,
        )
        row = replace(row, **columns.numbers)  # type: ignore[arg-type]
        about = {
            "loss_function": objective.loss_name,
            "loss_unit": objective.unit()["loss_unit"],
            "batch_norm": objective.bn_policy if batch_norms(loaded.model) else "none",
        }
        if saved:
            saved.write(row, about)
        return _Found(row, about, loaded.runtime)


class _Saved(NamedTuple):
    """The file of one row in the folder of --state, whose name is a hash of all that the numbers depend on."""

    path: Path
    key: str

    @staticmethod
    def of(settings: WatchSettings, sha256: str, run: str) -> _Saved | None:
        if settings.state is None:
            return None
        parts = {name: value for name, value in settings.to_dict().items() if name not in _NOT_IN_KEY}
        about = {"weights": sha256, "run": run, "sharpcli": __version__, "torch": torch.__version__}
        key = json.dumps(about | {"settings": parts, "threads": torch.get_num_threads()}, sort_keys=True, default=str)
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return _Saved(files.from_root(settings.state) / f"{name}.json", key)

    def read(self) -> tuple[WatchRow, dict[str, Any]] | None:
        """Return the row, or None if there is none that can be used."""
        if not files.is_there(self.path):
            return None
        try:
            content = json.loads(self.path.read_bytes())
            row = dict(content["row"])
            row["checkpoint"] = Subject(**row["checkpoint"])
            row["readings"] = tuple(Reading(**reading) for reading in row["readings"])
            row |= {"notes": tuple(row["notes"]), "reused": True}
            return (WatchRow(**row), dict(content["about"])) if content["key"] == self.key else None
        except (OSError, ValueError, TypeError, KeyError):
            progress.warn(f"{self.path} cannot be used, so this step is measured again.")
            return None

    def write(self, row: WatchRow, about: dict[str, Any]) -> None:
        """Save the row."""
        content = {"key": self.key, "about": about, "row": plain(asdict(row))}
        files.write_bytes(self.path, json.dumps(content, indent=1).encode(), durable=True)


def _result(found: Sequence[_Found], settings: WatchSettings, record: AnswerRecord) -> WatchResult:
    if len({json.dumps(one.about, sort_keys=True) for one in found}) > 1:
        raise InputError("The runs have different losses or statistics of BatchNorm.", "Give --loss, or watch them one by one.")
    return WatchResult(
        rows=tuple(one.row for one in found), epsilon=settings.epsilon, **found[0].about, **record.fields(found[0].runtime)
    )
