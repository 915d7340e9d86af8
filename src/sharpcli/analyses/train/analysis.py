"""Training of a model in one or several modes or recipes from the same initial weights."""

from __future__ import annotations

import shlex
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Unpack

from sharpcli import files, processes, progress
from sharpcli.analyses.partial_results import run_each
from sharpcli.analyses.provenance import AnswerRecord, recording
from sharpcli.code_specs import code_options
from sharpcli.errors import IncompleteError
from sharpcli.results import TrainResult, TrainRow
from sharpcli.settings import TrainSettings, chosen
from sharpcli.settings.options import TrainOptions
from sharpcli.training.planned_run import PlannedRun
from sharpcli.training.resuming import adding_resume_command, names_of_given, resumed_settings, run_folders
from sharpcli.training.setup import TrainingSetup
from sharpcli.training.variants import Variant, variants

_SHARED = (
    "model",
    "model_arg",
    "data",
    "data_arg",
    "data_root",
    "download",
    "loss",
    "output",
    "device",
    "dtype",
    "deterministic",
    "seed",
    "init_from",
)


def train(settings: TrainSettings | None = None, **options: Unpack[TrainOptions]) -> TrainResult:
    """Train one model in every requested mode or recipe, all from the same initial weights.

    Args:
        settings: Settings of the training.
        **options: Fields of the settings, instead of `settings`, such as `train(mode=("sgd", "fullbatch"))`.

    Returns:
        One row for each run, and one for each average of its weights. The folder of a run contains final.pt, init.pt,
        settings.json, metrics.jsonl and distances.jsonl.

    Raises:
        NumericalError: A run has diverged; the files saved before remain.
        IncompleteError: A run has failed after other runs were complete; the error holds the rows of these.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.
    """
    given = set(options) if settings is None else names_of_given(settings)
    settings = chosen(TrainSettings, settings, options)
    folder, only = _folder(settings), None
    places = run_folders(folder) if settings.resume else []
    if settings.resume:
        settings, only = resumed_settings(settings, given, folder)
    with recording(settings) as record, adding_resume_command(places), ExitStack() as folders:
        runs = _planned([variant for variant in variants(settings) if only in (None, variant.name)], _folder(settings))
        for run in runs:
            folders.enter_context(run.held())
        for run in runs:
            run.refuse_what_cannot_work()
        processes.current().wait()  # Before the first one writes into the folders.
        with progress.task("run", total=len(runs), parts={run.label: run.work for run in runs}) as shown:

            def carried_out(run: PlannedRun) -> tuple[list[TrainRow], float]:
                began = time.perf_counter()
                with adding_resume_command([run.shown]):
                    rows = run.carry_out()
                shown.advance(1)
                return rows, max(rows[0].seconds - (time.perf_counter() - began), 0.0)

            try:
                done = run_each([partial(carried_out, run) for run in runs])
            except IncompleteError as error:
                raise IncompleteError([_result(runs, error.results, record)], error.cause) from error
        return _result(runs, done, record)


def _result(runs: list[PlannedRun], done: list[tuple[list[TrainRow], float]], record: AnswerRecord) -> TrainResult:
    """Return the result for the completed runs.

    Args:
        runs: All runs of the command.
        done: For each completed run, its rows, and the seconds that it took before this command.
        record: Record of this command.
    """
    first, rows = runs[0].setup, [row for some, _ in done for row in some]
    inits = {run.setup.init_sha256 for run in runs}
    return TrainResult(
        run=str(runs[0].shown.parent),
        init_sha256=first.init_sha256 if len(inits) == 1 else None,
        num_parameters=first.space.dimension,
        rows=tuple(rows),
        next_commands=_next_commands(first, rows),
        device=str(first.runtime.device),
        **first.loss_unit(),
        **record.fields(first.runtime, earlier_seconds=sum(before for _, before in done)),
    )


def _folder(settings: TrainSettings) -> Path:
    """Return the folder of the runs of a command."""
    words = f"runs/{_slug(settings.model or '')}-{_slug(settings.data or '')}-s{settings.seed}"
    folder = Path(settings.out or words)
    return files.from_root(folder) if str(folder).startswith("~") else folder


def _planned(wanted: list[Variant], folder: Path) -> list[PlannedRun]:
    """Make the plans of the runs; runs with the same model and data share them, so that they are opened only once."""
    setups: dict[tuple[Any, ...], TrainingSetup] = {}
    runs = []
    for variant in wanted:
        key = tuple(getattr(variant.settings, name) for name in _SHARED)
        if key not in setups:
            setups[key] = TrainingSetup.open(variant.settings)
        setup = setups[key]
        runs.append(PlannedRun(setup, variant, setup.plan(variant), folder / variant.name))
    return runs


def _slug(spec: str) -> str:
    """Return a model or data specification as text that can be part of a folder name."""
    stem = Path(spec.replace(":", "-")).name
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in stem)


def _next_commands(setup: TrainingSetup, rows: list[TrainRow]) -> tuple[str, ...]:
    """Return commands for the next steps; they name own code again, because code named in a checkpoint is never run."""
    tail = code_options(setup.settings.to_dict())
    for name in ("data_root", "device", "dtype"):
        if getattr(setup.settings, name) != getattr(TrainSettings, name):
            tail += [f"--{name.replace('_', '-')}", getattr(setup.settings, name)]
    ends = [row.checkpoint for row in rows]
    topk = min(20, setup.space.dimension)
    commands = [
        ["inspect", rows[0].folder, *tail],
        ["hessian", ends[-1], "--topk", str(topk), *tail],
        ["sharpness", ends[-1], *tail],
        ["distance", ends[-1]],
        *([["compare", *ends, *tail]] if setup.data.test is not None else []),
    ]
    if len(ends) > 1:
        plot = str(Path(rows[0].folder).parent / "interpolation.png")
        one_split = [] if setup.data.test is not None else ["--split", "train"]
        commands.insert(3, ["interpolate", ends[0], ends[-1], "--plot", plot, *one_split, *tail])
    return tuple(shlex.join(["sharpcli", *command]) for command in commands)
