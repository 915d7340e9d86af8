"""Train a model in one or several modes from the same initial weights."""

from __future__ import annotations

import copy
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpcli import __version__, checkpoints, files, progress
from sharpcli.analyses._account import account
from sharpcli.batchnorm import batch_norms
from sharpcli.datasets._resolve import resolve as resolve_data
from sharpcli.datasets._splits import DataSplits
from sharpcli.errors import SettingsError
from sharpcli.models._resolve import resolve as resolve_model
from sharpcli.models._resolve import runs_code
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace
from sharpcli.results import TrainResult, TrainRow
from sharpcli.runtime import Runtime
from sharpcli.settings import TrainSettings, chosen
from sharpcli.training.loop import Outcome, Run, refuse_other
from sharpcli.training.recipe import Recipe, plan


def train(settings: TrainSettings | None = None, **options: object) -> TrainResult:
    """Train one model in every mode asked for, all from the same initial weights.

    Args:
        settings: What to do.
        **options: Its fields, in place of settings, such as `train(mode=("sgd", "fullbatch"))`.

    Returns:
        One row a mode. Its folder holds final.pt, init.pt, metrics.jsonl and settings.json.

    Raises:
        NumericalError: A run has diverged; what was saved before is kept.
        SharpcliError: Settings or input are unusable; see `sharpcli.errors`.
    """
    settings = chosen(TrainSettings, settings, options)
    if settings.batch_size is not None and len(settings.mode) > 1:
        raise SettingsError(
            "--batch-size with several modes would make them the same.", "Train the modes one at a time, with one --out."
        )
    with account(settings) as book:
        study = _Study.open(settings)
        recipes = [study.recipe(mode) for mode in settings.mode]
        for recipe in recipes:
            study.refuse_to_overwrite(recipe.mode)
        rows = [study.run(recipe) for recipe in recipes]
        for row in rows:
            if settings.stop_train_loss is not None and row.train_loss > settings.stop_train_loss:
                progress.warn(
                    f"{row.mode} ended at train loss {row.train_loss:.4g}, above --stop-train-loss "
                    f"{settings.stop_train_loss:g}: give it more --epochs or --steps."
                )
        return TrainResult(
            run=str(study.folder),
            init_sha256=checkpoints.state_sha256(study.init),
            num_parameters=study.space.dimension,
            rows=tuple(rows),
            next_commands=_next_commands(study, rows),
            device=str(study.runtime.device),
            **book.entries(study.runtime),
        )


@dataclass(frozen=True, eq=False)
class _Study:
    """What all modes share: data, initial weights and a folder."""

    settings: TrainSettings
    runtime: Runtime
    data: DataSplits
    model: nn.Module
    init: dict[str, torch.Tensor]
    folder: Path

    @staticmethod
    def open(settings: TrainSettings) -> _Study:
        runtime = Runtime.open(settings.device, settings.dtype)
        spec, source = settings.model or "", settings.data or ""
        data = resolve_data(source, root=settings.data_root, download=settings.download, arguments=settings.data_arg)
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model = resolve_model(
                spec, input_shape=data.input_shape, num_classes=data.num_classes, arguments=settings.model_arg
            )
        model.to(runtime.dtype)
        if settings.init:
            start = checkpoints.read(settings.init)
            start.require_finite()
            checkpoints.fit(start, model)
        init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        folder = Path(settings.out or f"runs/{_slug(spec)}-{_slug(data.name)}-s{settings.seed}").expanduser()
        return _Study(settings, runtime, data, model, init, folder)

    @property
    def space(self) -> ParameterSpace:
        return ParameterSpace.of(self.model)

    @property
    def loss(self) -> str:
        return self.settings.loss or "ce"

    def recipe(self, mode: str) -> Recipe:
        has_batch_norm = bool(batch_norms(self.model))
        few = self.data.train.inputs[:1000], self.data.train.targets[:1000]
        chunk = Objective.of(self.model, *few, loss=self.loss, runtime=self.runtime).chunk_size
        recipe = plan(mode, self.settings, len(self.data.train), chunk_size=chunk, has_batch_norm=has_batch_norm)
        if has_batch_norm and recipe.chunk_size < recipe.batch_size:
            progress.warn(
                f"{mode} with BatchNorm normalises each block of {recipe.chunk_size} samples by itself (ghost batch norm); "
                "use a model without BatchNorm for the exact gradient."
            )
        if mode == "fullbatch" and any(isinstance(part, nn.modules.dropout._DropoutNd) for part in self.model.modules()):
            progress.warn("The model has dropout: its full-batch gradient is exact for the units that each update keeps.")
        return recipe

    def place(self, mode: str) -> Path:
        return self.folder / mode

    def refuse_to_overwrite(self, mode: str) -> None:
        place = self.place(mode)
        held = (place / "settings.json").exists() or any(place.glob("*.pt"))
        if held and not (self.settings.overwrite or self.settings.resume):
            raise SettingsError(
                f"The folder {place} already holds a run.",
                "Use --overwrite to replace it, --resume to continue it, or another --out.",
            )

    def run(self, recipe: Recipe) -> TrainRow:
        place, began = self.place(recipe.mode), time.perf_counter()
        model = copy.deepcopy(self.model).to(self.runtime.device)
        resuming = self.settings.resume and (place / "last.pt").exists()
        if self.settings.resume and not resuming and (place / "final.pt").exists():
            return self._finished(recipe)
        if not resuming:
            self._prepare(place, recipe)
        cuda = [self.runtime.device] if self.runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(self.settings.seed)
            run = Run(
                model,
                self.data,
                self.loss,
                recipe,
                self.runtime,
                self.settings.seed,
                place,
                self._identity(recipe),
                lambda path, step, rate: self._write(path, model, recipe, step, rate),
            )
            if resuming:
                run.resume()
            outcome = run.train()
        self._write(place / "final.pt", model, recipe, outcome.updates, outcome.last_learning_rate, outcome)
        run.close()
        _forget_aside(place)
        return self._row(recipe, outcome.updates, outcome.stopped_by, _losses(outcome), time.perf_counter() - began)

    def _prepare(self, place: Path, recipe: Recipe) -> None:
        """Write the initial weights and the settings; what cannot be written shows here, before the work."""
        if self.settings.overwrite and place.exists():
            _set_aside(place)
        checkpoints.write(place / "init.pt", self.init, self._metadata(recipe, 0, None))
        record = {"settings": self.settings.to_dict(), "recipe": recipe.to_dict()}
        files.write_bytes(place / "settings.json", (json.dumps(record, indent=2) + "\n").encode())

    def _write(
        self, path: Path, model: nn.Module, recipe: Recipe, step: int, rate: float, outcome: Outcome | None = None
    ) -> None:
        metadata = self._metadata(recipe, step, rate)
        if outcome is not None:
            metadata["stopped_by"] = outcome.stopped_by
            metadata["final"] = _losses(outcome)
        checkpoints.write(path, model.state_dict(), metadata)

    def _metadata(self, recipe: Recipe, step: int, rate: float | None) -> dict[str, Any]:
        """Return what makes a checkpoint describe itself. No time and no place: equal runs give equal bytes."""
        return {
            **self._identity(recipe),
            "sharpcli": __version__,
            "step": step,
            "epochs": step / recipe.updates_per_epoch,
            "last_learning_rate": rate,
            "parameters": list(self.space.names),
        }

    def _identity(self, recipe: Recipe) -> dict[str, Any]:
        """Return everything that the weights of a run depend on."""
        settings, data = self.settings, self.data
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
            "loss": self.loss,
            "mode": recipe.mode,
            "recipe": recipe.to_dict(),
            "seed": settings.seed,
            "dtype": settings.dtype,
            "init": {"path": "init.pt", "sha256": checkpoints.state_sha256(self.init)},
        }

    def _finished(self, recipe: Recipe) -> TrainRow:
        """Return the row of a run that is complete already."""
        done = checkpoints.read(self.place(recipe.mode) / "final.pt").metadata
        refuse_other(self.place(recipe.mode), done, self._identity(recipe))
        return self._row(recipe, done["step"], done["stopped_by"], done["final"], 0.0)

    def _row(self, recipe: Recipe, updates: int, stopped_by: str, final: dict[str, Any], seconds: float) -> TrainRow:
        place = self.place(recipe.mode)
        return TrainRow(
            mode=recipe.mode,
            folder=str(place),
            checkpoint=str(place / "final.pt"),
            updates=updates,
            epochs=updates / recipe.updates_per_epoch,
            batch_size=recipe.batch_size,
            **final,
            gap=final["test_loss"] - final["train_loss"],
            stopped_by=stopped_by,
            seconds=seconds,
        )


def _losses(outcome: Outcome) -> dict[str, float | None]:
    return {
        "train_loss": outcome.train.loss,
        "train_accuracy": outcome.train.accuracy,
        "test_loss": outcome.test.loss,
        "test_accuracy": outcome.test.accuracy,
    }


_ASIDE = ".replaced"
_OWN_FILES = ("final.pt", "init.pt", "last.pt", "step-*.pt", "metrics.jsonl", "settings.json")


def _own_files(place: Path) -> list[Path]:
    """Return what a run has written into its folder; whatever else is there belongs to the user."""
    return [path for pattern in _OWN_FILES for path in place.glob(pattern)]


def _discard(place: Path) -> None:
    for path in _own_files(place):
        path.unlink()


def _set_aside(place: Path) -> None:
    """Keep the run that is to be replaced until the new one is complete; an incomplete one is not worth keeping."""
    if (place / "final.pt").exists():
        aside = place / _ASIDE
        aside.mkdir(exist_ok=True)
        _discard(aside)
        for path in _own_files(place):
            path.rename(aside / path.name)
    else:
        _discard(place)


def _forget_aside(place: Path) -> None:
    """Remove the run that was replaced."""
    aside = place / _ASIDE
    if aside.is_dir():
        _discard(aside)
        aside.rmdir()


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
        plot = str(study.folder / "interpolation.png")
        commands.insert(3, ["interpolate", ends[0], ends[-1], "--plot", plot, *tail])
    return tuple(shlex.join(["sharpcli", *command]) for command in commands)
