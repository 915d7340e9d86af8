"""One run of `train`: it is checked before the work, then started or resumed, and its files are written."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from sharpcli import __version__, checkpoints, files, processes, progress
from sharpcli.batchnorm import batch_norms
from sharpcli.errors import InputError
from sharpcli.models.output import chosen_output
from sharpcli.modules import private_copy
from sharpcli.results import TrainRow
from sharpcli.training import run_folder
from sharpcli.training.averaged import Outcome
from sharpcli.training.loop import Run
from sharpcli.training.plan import TrainingPlan, idle_options
from sharpcli.training.run_state import require_same_run
from sharpcli.training.setup import TrainingSetup
from sharpcli.training.update import Updater
from sharpcli.training.variants import Variant


class Ended(TypedDict):
    """The metadata in the final files of a complete run that is used for its rows."""

    step: int
    stopped_by: str
    final: checkpoints.Losses
    averages: NotRequired[list[Literal["tail", "ema", "swa"]]]


@dataclass(frozen=True, eq=False)
class PlannedRun:
    """One run of a command, before it starts.

    Attributes:
        shown: Its folder, as the user named it.
        place: The same folder as an absolute path, because a model's code may change the working directory.
    """

    setup: TrainingSetup
    variant: Variant
    plan: TrainingPlan
    shown: Path
    place: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", files.from_root(self.shown))

    def held(self) -> AbstractContextManager[None]:
        """Lock the folder for this process."""
        return files.held(self.place, "--out", folder=True)

    @property
    def label(self) -> str:
        """Name in the progress display."""
        return f"train {self.variant.name}"

    @property
    def work(self) -> float:
        """Number of samples in all gradients of the run."""
        return float(self.plan.updates * self.plan.batch_size)

    def refuse_what_cannot_work(self) -> None:
        """Check before the work that the folder is free and the disk has room, and warn about settings that may mislead."""
        settings, plan, name = self.variant.settings, self.plan, self.variant.name
        if not (settings.overwrite or settings.resume):
            run_folder.refuse_to_overwrite(self.place)
        weights = sum(tensor.nbytes for tensor in self.setup.init.values())
        run_folder.require_room(self.place, plan, weights)
        for sentence in idle_options(settings, plan):
            progress.warn(f"{name}: {sentence}")
        has_batch_norm = bool(batch_norms(self.setup.model))
        if has_batch_norm and plan.chunk_size < plan.batch_size and settings.ghost_bn is None:
            progress.warn(
                f"{name} with BatchNorm normalises each block of {plan.chunk_size} samples separately (ghost batch norm); "
                "use a model without BatchNorm for the exact gradient."
            )
        if settings.ghost_bn is not None and not has_batch_norm and not plan.grad_penalty:
            progress.warn(f"{name}: --ghost-bn has no effect, because the model has no BatchNorm.")
        if plan.mode == "fullbatch" and any(
            isinstance(part, nn.modules.dropout._DropoutNd) for part in self.setup.model.modules()
        ):
            progress.warn("The model has dropout: its full-batch gradient is exact for the units that each update keeps.")
        Updater.check(plan, self.setup.data.train.inputs)

    def carry_out(self) -> list[TrainRow]:
        """Start the run, or resume it, and return its rows."""
        variant, settings = self.variant, self.variant.settings
        if variant.recipe is not None:
            progress.say(f"{variant.name}: {variant.recipe.words(settings)}")
            progress.say(f"{variant.name}: {variant.recipe.source}: {variant.recipe.where}")
        resuming, finished = processes.current().agreed(self._found())
        rows = self._finished() if finished else self._train(resuming=resuming)
        wanted = self.plan.stop_train_loss
        if wanted is not None and rows[0].train_loss > wanted:
            progress.warn(
                f"{variant.name} ended at train loss {rows[0].train_loss:.4g}, above --stop-train-loss {wanted:g}: "
                "give it more --epochs or --steps."
            )
        return rows

    def _found(self) -> tuple[bool, bool]:
        """Return whether the folder holds a state to resume from, and whether it holds a finished run instead."""
        resuming = self.variant.settings.resume and files.is_there(self.place / checkpoints.STATE)
        return resuming, self.variant.settings.resume and not resuming and files.is_there(self.place / "final.pt")

    def _train(self, *, resuming: bool) -> list[TrainRow]:
        setup, began = self.setup, time.perf_counter()
        model = private_copy(setup.model).to(setup.runtime.device)
        if resuming:
            self._require_init()
        else:
            self._prepare()
        cuda = [setup.runtime.device] if setup.runtime.device.type == "cuda" else []
        with torch.random.fork_rng(devices=cuda):
            torch.manual_seed(self.variant.settings.seed)
            run = Run(
                model,
                setup.data,
                setup.loss,
                self.plan,
                setup.runtime,
                self.variant.settings.seed,
                self.place,
                self._identity(),
                lambda path, state, step, rate, about, optimizer: checkpoints.write(
                    path, state, self._metadata(step, rate) | about, optimizer
                ),
                self.variant.settings.state_seconds,
                self.label,
            )
            if resuming:
                run.resume()
            before = run.seconds
            outcome = run.train()
            averages = run.averaged()
        seconds = before + time.perf_counter() - began
        for average in averages:
            about = {"average": average.kind, "averaged": average.count}
            self._write_end(f"{average.kind}.pt", average.state, average.outcome, about)
        kinds = {"averages": [average.kind for average in averages]}
        self._write_end("final.pt", model.state_dict(), outcome, kinds, run.updater.optimizer_state)
        run.close()
        run_folder.forget_aside(self.place)
        rows = [self._row("final.pt", outcome.updates, outcome.stopped_by, outcome.losses(), seconds, None)]
        for average in averages:
            done = average.outcome
            rows.append(self._row(f"{average.kind}.pt", done.updates, done.stopped_by, done.losses(), 0.0, average.kind))
        return rows

    def _prepare(self) -> None:
        """Write the settings and the initial weights; if the folder cannot be written to, this fails before the work."""
        if self.variant.settings.overwrite and self.place.exists():
            run_folder.set_aside(self.place)
        record = {
            "settings": self.variant.settings.to_dict(),
            "plan": self.plan.to_dict(),
            "command": self.variant.command.to_dict(),  # All that --resume needs.
        }
        if self.variant.recipe is not None:
            record["recipe"] = asdict(self.variant.recipe)
        # Written first, because --resume needs this file and can write init.pt again.
        files.write_bytes(self.place / checkpoints.SETTINGS, (json.dumps(record, indent=2) + "\n").encode(), durable=True)
        checkpoints.write(self.place / "init.pt", self.setup.init, self._metadata(0, None))

    def _require_init(self) -> None:
        """Require that init.pt holds the initial weights of the run; write the file again if it is missing.

        Raises:
            InputError: It holds other weights.
        """
        path = self.place / "init.pt"
        if not path.exists():
            checkpoints.write(path, self.setup.init, self._metadata(0, None))
        elif checkpoints.read(path).sha256() != self.setup.init_sha256:
            raise InputError(
                f"{self.shown / 'init.pt'} does not contain the initial weights of the run (its hash differs).",
                "Remove this file; it is then written again.",
            )

    def _write_end(
        self,
        name: str,
        state: Mapping[str, Tensor],
        outcome: Outcome,
        about: dict[str, Any],
        optimizer: checkpoints.OptimizerState | None = None,
    ) -> None:
        metadata = self._metadata(outcome.updates, outcome.last_learning_rate)
        metadata |= {"stopped_by": outcome.stopped_by, "final": outcome.losses(), **about}
        checkpoints.write(self.place / name, state, metadata, optimizer)

    def _metadata(self, step: int, rate: float | None) -> dict[str, Any]:
        """Return the metadata of a checkpoint, without the time and the folder of the run: equal runs give equal bytes."""
        identity, transform = self._identity(), self.setup.data.transform
        if transform:
            identity["data"] = {**identity["data"], "transform": transform}
        return {
            **identity,
            "name": self.variant.name,
            "recipe": self.variant.recipe.name if self.variant.recipe else None,
            "sharpcli": __version__,
            "step": step,
            "epochs": step / self.plan.updates_per_epoch,
            "last_learning_rate": rate,
            "parameters": list(self.setup.space.names),
        }

    def _identity(self) -> dict[str, Any]:
        """Return everything that the weights of a run depend on."""
        settings, data = self.variant.settings, self.setup.data
        answered = chosen_output(self.setup.model)
        return {
            "model": {
                "spec": settings.model,
                "arguments": list(settings.model_arg),
                "input_shape": list(data.input_shape),
                "num_classes": settings.num_classes or data.num_classes,
                **({"output": answered} if answered else {}),
            },
            "data": {
                "spec": settings.data,
                "arguments": list(settings.data_arg),
                "fingerprint": data.fingerprint(),
                "num_train": len(data.train),
                **({} if data.test is None else {"num_test": len(data.test)}),
            },
            "loss": self.setup.loss,
            "mode": self.plan.mode,
            "plan": self.plan.to_dict(),
            "seed": settings.seed,
            "dtype": settings.dtype,
            "init": {"path": "init.pt", "sha256": self.setup.init_sha256},
        }

    def _finished(self) -> list[TrainRow]:
        """Return the rows of a run that is already complete."""
        done = self._ended("final.pt")
        require_same_run(self.place, dict(done), self._identity())
        seconds = run_folder.seconds_of(self.place)
        rows = [self._row("final.pt", done["step"], done["stopped_by"], done["final"], seconds, None)]
        for kind in done.get("averages", []):
            end = self._ended(f"{kind}.pt")
            rows.append(self._row(f"{kind}.pt", end["step"], end["stopped_by"], end["final"], 0.0, kind))
        return rows

    def _ended(self, name: str) -> Ended:
        """Return the metadata of one of the final files of a run."""
        read = checkpoints.read(self.place / name)
        try:
            return files.conform(read.metadata, Ended, "metadata")
        except files.ContentError as error:
            message = f"{read.path} does not contain the result of a finished run: {error}."
            raise InputError(message, "Train it again with --overwrite.") from error

    def _row(
        self, file: str, updates: int, stopped_by: str, final: checkpoints.Losses, seconds: float, average: str | None
    ) -> TrainRow:
        return TrainRow(
            name=self.variant.name,
            mode=self.plan.mode,
            recipe=self.variant.recipe.name if self.variant.recipe else None,
            average=average,
            folder=str(self.shown),
            checkpoint=str(self.shown / file),
            updates=updates,
            epochs=updates / self.plan.updates_per_epoch,
            batch_size=self.plan.batch_size,
            learning_rate=self.plan.lr,
            seed=self.variant.settings.seed,
            **final,
            gap=None if final["test_loss"] is None else final["test_loss"] - final["train_loss"],
            stopped_by=stopped_by,
            seconds=seconds,
        )
