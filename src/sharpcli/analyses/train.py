"""Train a model in one or several ways from the same initial weights."""

from __future__ import annotations

import copy
import json
import shlex
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import __version__, checkpoints, files, progress
from sharpcli.analyses import _run_folder
from sharpcli.analyses._account import account
from sharpcli.analyses._variants import Variant, variants
from sharpcli.batchnorm import batch_norms
from sharpcli.datasets._resolve import resolve as resolve_data
from sharpcli.datasets._splits import DataSplits
from sharpcli.models._resolve import resolve as resolve_model
from sharpcli.models._resolve import runs_code
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace
from sharpcli.results import TrainResult, TrainRow
from sharpcli.runtime import Runtime
from sharpcli.settings import TrainSettings, chosen
from sharpcli.training.loop import STATE, Outcome, Run, refuse_other
from sharpcli.training.recipe import Recipe, plan
from sharpcli.training.update import Updater


def train(settings: TrainSettings | None = None, **options: object) -> TrainResult:
    """Train one model in every mode or recipe asked for, all from the same initial weights.

    Args:
        settings: What to do.
        **options: Its fields, in place of settings, such as `train(mode=("sgd", "fullbatch"))`.

    Returns:
        One row a run, and one for each average of its weights. Its folder holds final.pt, init.pt, settings.json,
        metrics.jsonl and distances.jsonl.

    Raises:
        NumericalError: A run has diverged; what was saved before is kept.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.
    """
    settings = chosen(TrainSettings, settings, options)
    with account(settings) as book:
        runs = _planned(variants(settings))
        for run in runs:
            run.refuse_what_cannot_work()
        rows = [row for run in runs for row in run.carry_out()]
        first = runs[0].study
        inits = {run.study.init_sha256 for run in runs}
        return TrainResult(
            run=str(runs[0].place.parent),
            init_sha256=first.init_sha256 if len(inits) == 1 else None,
            num_parameters=first.space.dimension,
            rows=tuple(rows),
            next_commands=_next_commands(first, rows),
            device=str(first.runtime.device),
            **book.entries(first.runtime),
        )


@dataclass(frozen=True, eq=False)
class _Study:
    """What runs share: data and initial weights."""

    settings: TrainSettings
    runtime: Runtime
    data: DataSplits
    model: nn.Module
    init: dict[str, Tensor]
    init_sha256: str

    @staticmethod
    def open(settings: TrainSettings) -> _Study:
        runtime = Runtime.open(settings.device, settings.dtype)
        data = resolve_data(
            settings.data or "", root=settings.data_root, download=settings.download, arguments=settings.data_arg
        )
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model = resolve_model(
                settings.model or "", input_shape=data.input_shape, num_classes=data.num_classes, arguments=settings.model_arg
            )
        model.to(runtime.dtype)
        if settings.init_from:
            start = checkpoints.read(settings.init_from)
            start.require_finite()
            checkpoints.fit(start, model)
        init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return _Study(settings, runtime, data, model, init, checkpoints.state_sha256(init))

    @property
    def space(self) -> ParameterSpace:
        return ParameterSpace.of(self.model)

    @property
    def loss(self) -> str:
        return self.settings.loss or "ce"

    def recipe(self, variant: Variant) -> Recipe:
        has_batch_norm = bool(batch_norms(self.model))
        few = self.data.train.inputs[:1000], self.data.train.targets[:1000]
        chunk = Objective.of(self.model, *few, loss=self.loss, runtime=self.runtime).chunk_size
        return plan(variant.mode, variant.settings, len(self.data.train), chunk_size=chunk, has_batch_norm=has_batch_norm)


@dataclass(frozen=True, eq=False)
class _Planned:
    """One run of a study, about to be made."""

    study: _Study
    variant: Variant
    recipe: Recipe
    place: Path

    def refuse_what_cannot_work(self) -> None:
        """Find out before any work whether the folder is free and large enough, and warn of what is easily misread."""
        settings, recipe, name = self.variant.settings, self.recipe, self.variant.name
        if not (settings.overwrite or settings.resume):
            _run_folder.refuse_to_overwrite(self.place)
        weights = sum(tensor.nbytes for tensor in self.study.init.values())
        _run_folder.require_room(self.place, recipe, weights)
        has_batch_norm = bool(batch_norms(self.study.model))
        if has_batch_norm and recipe.chunk_size < recipe.batch_size and settings.ghost_bn is None:
            progress.warn(
                f"{name} with BatchNorm normalises each block of {recipe.chunk_size} samples by itself (ghost batch norm); "
                "use a model without BatchNorm for the exact gradient."
            )
        if settings.ghost_bn is not None and not has_batch_norm and not recipe.grad_penalty:
            progress.warn(f"{name}: --ghost-bn changes nothing, since the model has no BatchNorm.")
        if recipe.mode == "fullbatch" and any(
            isinstance(part, nn.modules.dropout._DropoutNd) for part in self.study.model.modules()
        ):
            progress.warn("The model has dropout: its full-batch gradient is exact for the units that each update keeps.")
        Updater.check(recipe, self.study.data.train.inputs)

    def carry_out(self) -> list[TrainRow]:
        """Make the run, or take it up where it was left."""
        variant, settings = self.variant, self.variant.settings
        if variant.preset is not None:
            progress.say(f"{variant.name}: {variant.preset.words(settings)}")
            progress.say(f"{variant.name}: {variant.preset.source}: {variant.preset.where}")
        resuming = settings.resume and (self.place / STATE).exists()
        if settings.resume and not resuming and (self.place / "final.pt").exists():
            rows = self._finished()
        else:
            rows = self._train(resuming=resuming)
        wanted = settings.stop_train_loss
        if wanted is not None and rows[0].train_loss > wanted:
            progress.warn(
                f"{variant.name} ended at train loss {rows[0].train_loss:.4g}, above --stop-train-loss {wanted:g}: "
                "give it more --epochs or --steps."
            )
        return rows

    def _train(self, *, resuming: bool) -> list[TrainRow]:
        study, began = self.study, time.perf_counter()
        model = copy.deepcopy(study.model).to(study.runtime.device)
        if not resuming:
            self._prepare()
        cuda = [study.runtime.device] if study.runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(self.variant.settings.seed)
            run = Run(
                model,
                study.data,
                study.loss,
                self.recipe,
                study.runtime,
                self.variant.settings.seed,
                self.place,
                self._identity(),
                lambda path, state, step, rate: checkpoints.write(path, state, self._metadata(step, rate)),
                self.variant.settings.state_seconds,
            )
            if resuming:
                run.resume()
            outcome = run.train()
            averages = run.averaged()
        seconds = time.perf_counter() - began
        for average in averages:
            about = {"average": average.kind, "averaged": average.count}
            self._write_end(f"{average.kind}.pt", average.state, average.outcome, about)
        self._write_end("final.pt", model.state_dict(), outcome, {"averages": [average.kind for average in averages]})
        run.close()
        _run_folder.forget_aside(self.place)
        rows = [self._row("final.pt", outcome.updates, outcome.stopped_by, _losses(outcome), seconds, None)]
        for average in averages:
            done = average.outcome
            rows.append(self._row(f"{average.kind}.pt", done.updates, done.stopped_by, _losses(done), 0.0, average.kind))
        return rows

    def _prepare(self) -> None:
        """Write the initial weights and the settings; what cannot be written shows here, before the work."""
        if self.variant.settings.overwrite and self.place.exists():
            _run_folder.set_aside(self.place)
        checkpoints.write(self.place / "init.pt", self.study.init, self._metadata(0, None))
        record = {"settings": self.variant.settings.to_dict(), "recipe": self.recipe.to_dict()}
        if self.variant.preset is not None:
            record["preset"] = asdict(self.variant.preset)
        files.write_bytes(self.place / "settings.json", (json.dumps(record, indent=2) + "\n").encode())

    def _write_end(self, name: str, state: Mapping[str, Tensor], outcome: Outcome, about: dict[str, Any]) -> None:
        metadata = self._metadata(outcome.updates, outcome.last_learning_rate)
        metadata |= {"stopped_by": outcome.stopped_by, "final": _losses(outcome), **about}
        checkpoints.write(self.place / name, state, metadata)

    def _metadata(self, step: int, rate: float | None) -> dict[str, Any]:
        """Return what makes a checkpoint describe itself. No time and no place: equal runs give equal bytes."""
        return {
            **self._identity(),
            "name": self.variant.name,
            "preset": self.variant.preset.name if self.variant.preset else None,
            "sharpcli": __version__,
            "step": step,
            "epochs": step / self.recipe.updates_per_epoch,
            "last_learning_rate": rate,
            "parameters": list(self.study.space.names),
        }

    def _identity(self) -> dict[str, Any]:
        """Return everything that the weights of a run depend on."""
        settings, data = self.variant.settings, self.study.data
        return {
            "model": {
                "spec": settings.model,
                "arguments": list(settings.model_arg),
                "input_shape": list(data.input_shape),
                "num_classes": data.num_classes,
            },
            "data": {
                "spec": settings.data,
                "arguments": list(settings.data_arg),
                "fingerprint": data.fingerprint(),
                "num_train": len(data.train),
                "num_test": len(data.test),
            },
            "loss": self.study.loss,
            "mode": self.recipe.mode,
            "recipe": self.recipe.to_dict(),
            "seed": settings.seed,
            "dtype": settings.dtype,
            "init": {"path": "init.pt", "sha256": self.study.init_sha256},
        }

    def _finished(self) -> list[TrainRow]:
        """Return the rows of a run that is complete already."""
        done = checkpoints.read(self.place / "final.pt").metadata
        refuse_other(self.place, done, self._identity())
        rows = [self._row("final.pt", done["step"], done["stopped_by"], done["final"], 0.0, None)]
        for kind in done.get("averages", []):
            found = checkpoints.read(self.place / f"{kind}.pt").metadata
            rows.append(self._row(f"{kind}.pt", found["step"], found["stopped_by"], found["final"], 0.0, kind))
        return rows

    def _row(
        self, file: str, updates: int, stopped_by: str, final: dict[str, Any], seconds: float, average: str | None
    ) -> TrainRow:
        return TrainRow(
            name=self.variant.name,
            mode=self.recipe.mode,
            preset=self.variant.preset.name if self.variant.preset else None,
            average=average,
            folder=str(self.place),
            checkpoint=str(self.place / file),
            updates=updates,
            epochs=updates / self.recipe.updates_per_epoch,
            batch_size=self.recipe.batch_size,
            learning_rate=self.recipe.lr,
            seed=self.variant.settings.seed,
            **final,
            gap=final["test_loss"] - final["train_loss"],
            stopped_by=stopped_by,
            seconds=seconds,
        )


_STUDY = ("model", "model_arg", "data", "data_arg", "data_root", "download", "loss", "device", "dtype", "seed", "init_from")


def _planned(wanted: list[Variant]) -> list[_Planned]:
    """Open what the runs stand on, once where it is the same, and fill in their numbers."""
    studies: dict[tuple[Any, ...], _Study] = {}
    found = []
    first = wanted[0].settings
    folder = Path(first.out or f"runs/{_slug(first.model or '')}-{_slug(first.data or '')}-s{first.seed}").expanduser()
    for variant in wanted:
        key = tuple(getattr(variant.settings, name) for name in _STUDY)
        if key not in studies:
            studies[key] = _Study.open(variant.settings)
        study = studies[key]
        found.append(_Planned(study, variant, study.recipe(variant), folder / variant.name))
    return found


def _losses(outcome: Outcome) -> dict[str, float | None]:
    return {
        "train_loss": outcome.train.loss,
        "train_accuracy": outcome.train.accuracy,
        "test_loss": outcome.test.loss,
        "test_accuracy": outcome.test.accuracy,
    }


def _slug(spec: str) -> str:
    """Return a spec as a word that can be part of a folder's name."""
    stem = Path(spec.replace(":", "-")).name
    return "".join(letter if letter.isalnum() or letter in "-." else "-" for letter in stem)


def _next_commands(study: _Study, rows: list[TrainRow]) -> tuple[str, ...]:
    """Return what to type next; model code must be named again, since a checkpoint's own is never run."""
    spec = study.settings.model or ""
    tail = ["--model", spec] if runs_code(spec) else []
    for name in ("data_root", "device", "dtype"):
        if getattr(study.settings, name) != getattr(TrainSettings, name):
            tail += [f"--{name.replace('_', '-')}", getattr(study.settings, name)]
    ends = [row.checkpoint for row in rows]
    topk = min(20, study.space.dimension)
    commands = [
        ["hessian", ends[-1], "--topk", str(topk), *tail],
        ["sharpness", ends[-1], *tail],
        ["distance", ends[-1]],
        ["compare", *ends, *tail],
    ]
    if len(ends) > 1:
        plot = str(Path(rows[0].folder).parent / "interpolation.png")
        commands.insert(3, ["interpolate", ends[0], ends[-1], "--plot", plot, *tail])
    return tuple(shlex.join(["sharpcli", *command]) for command in commands)
