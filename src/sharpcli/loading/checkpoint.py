"""From a path and settings to a model and its data: the first step of every analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from sharpcli import checkpoints, progress
from sharpcli.checkpoints import Checkpoint
from sharpcli.datasets.splits import DataSplits, Split
from sharpcli.loading.data import load_data
from sharpcli.loading.live import LiveModel
from sharpcli.loading.loss_weights import warn_of_loss_weights
from sharpcli.loading.model import build_model
from sharpcli.loading.recorded import loss_name
from sharpcli.loading.samples import held_out, in_random_order, subset
from sharpcli.loading.subject import subject_of
from sharpcli.models.output import chosen_output
from sharpcli.objective import Objective
from sharpcli.preconditions import require_function
from sharpcli.results import Conditions, Subject
from sharpcli.runtime import Runtime
from sharpcli.settings import AnalysisSettings
from sharpcli.settings.losses import unit_logits


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A checkpoint with its model rebuilt and its data loaded."""

    checkpoint: Checkpoint
    model: nn.Module
    data: DataSplits
    loss: str
    runtime: Runtime
    settings: AnalysisSettings

    def objective(self, split: str | None = None, **options: Any) -> Objective:
        """Return the mean loss over a split, or over the seeded subset that the settings ask for.

        Args:
            split: Default: that of the settings.
            **options: Further arguments of `Objective.of`, such as its BatchNorm policy.
        """
        name = split or self.settings.split
        return self._mean_over(subset(self.data.part(name), name, self.settings), **options)

    def held_out(self, *, least: int, **options: Any) -> tuple[Objective, float] | None:
        """Return the mean loss over samples that were left out, at most as many as were taken, and the share s taken.

        None if the whole split is analysed, or so much of it that fewer than `least` samples are left.
        """
        others = held_out(self.data.part(self.settings.split), self.settings, least=least)
        return None if others is None else (self._mean_over(others[0], **options), others[1])

    def _mean_over(self, samples: Split, **options: Any) -> Objective:
        if options.get("bn") == "batch":
            samples = in_random_order(samples, self.settings)
        options = {"chunk_size": self.settings.chunk_size, **options}
        return Objective.of(self.model, samples.inputs, samples.targets, loss=self.loss, runtime=self.runtime, **options)

    def subject(self) -> Subject:
        """Return what the file says about itself."""
        return subject_of(self.checkpoint)

    def conditions(self, objective: Objective, split: str, *, engine: str = "gradients") -> Conditions:
        """Return the conditions under which the numbers of this objective hold."""
        return Conditions(
            split=split,
            num_samples=objective.num_samples,
            num_parameters=objective.space.dimension,
            loss_function=objective.loss_name,
            device=str(self.runtime.device),
            dtype=self.settings.dtype,
            chunk_size=objective.chunk_size,
            batch_norm=objective.bn_policy,
            engine=engine,
            output=chosen_output(self.model),
            preprocessing=self.data.preprocessing,
        )


def load_checkpoint(path: str | Path | LiveModel, settings: AnalysisSettings) -> LoadedCheckpoint:
    """Read a checkpoint, load its data, rebuild its model and put the weights in; or take a model in memory.

    Raises:
        InputError: Something is missing or does not fit; a model that is code is only run when `settings.model` names it.
        NumericalError: The weights are not finite; buffers, such as masks, may be infinite.
        SettingsError: An unknown name, or `samples` larger than the split.
    """
    with progress.task("open"):
        Runtime.open(settings.device, settings.dtype)  # A missing device is reported before any file is read.
        if isinstance(path, LiveModel):
            loaded = _of_live(path, settings)
        else:
            checkpoint = checkpoints.read(
                path, settings.weights, ignore=settings.ignore_keys, allow_pickle=settings.allow_pickle
            )
            loaded = rebuild(checkpoint, load_data(checkpoint, settings), settings)
        checkpoints.require_finite(loaded.model, loaded.checkpoint.path)
        require_function(loaded.model, loaded.data.train.inputs, loaded.runtime)
        return loaded


def _of_live(live: LiveModel, settings: AnalysisSettings) -> LoadedCheckpoint:
    runtime, checkpoint = Runtime.open(settings.device, settings.dtype), live.checkpoint()
    data = live.splits(checkpoint, settings)
    model = live.rebuilt(data, settings).to(runtime.dtype)
    loss = loss_name(checkpoint, settings.loss)
    warn_of_loss_weights(checkpoint, loss)
    return LoadedCheckpoint(checkpoint, model, data, loss, runtime, settings)


def rebuild(checkpoint: Checkpoint, data: DataSplits, settings: AnalysisSettings) -> LoadedCheckpoint:
    """Rebuild the model of a checkpoint for its data and put the weights in.

    Raises:
        InputError: They do not fit, or the model is code that the settings do not name.
    """
    runtime = Runtime.open(settings.device, settings.dtype)
    model = build_model(checkpoint, data, settings).to(runtime.dtype)  # Before the weights: float64 ones stay as they are.
    checkpoints.fit(checkpoint, model)
    loss = loss_name(checkpoint, settings.loss)
    warn_of_loss_weights(checkpoint, loss)
    smoothing = checkpoint.metadata.get("plan", {}).get("label_smoothing", 0)
    if smoothing and unit_logits(loss):
        progress.warn(
            f"{checkpoint.path} was trained with label smoothing {smoothing:g}. The measured loss is cross-entropy without "
            "smoothing, whose gradient is not 0 at these weights."
        )
    return LoadedCheckpoint(checkpoint, model, data, loss, runtime, settings)
