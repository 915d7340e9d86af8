"""Loading of the model and the data of a checkpoint: the first step of every analysis."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sharpcli import checkpoints, progress
from sharpcli.checkpoints import Checkpoint
from sharpcli.curvature.next_update import next_update
from sharpcli.curvature.preconditioner import Preconditioner, preconditioner_of, warn_of_batch_norm
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
from sharpcli.parameters import ParameterSpace
from sharpcli.preconditions import require_function
from sharpcli.results import Conditions, Subject
from sharpcli.runtime import Runtime
from sharpcli.settings import AnalysisSettings
from sharpcli.settings.losses import unit_logits


@dataclass(frozen=True, eq=False)
class LoadedCheckpoint:
    """A checkpoint with its model and its data.

    Attributes:
        checkpoint: The weights and their metadata.
        model: The model with these weights, in the precision of the runtime.
        data: The training split and, if there is one, the test split.
        loss: Name of the loss with its options; see `LossSpec`.
        runtime: Device and precision of the analysis.
        settings: Settings of the analysis.
    """

    checkpoint: Checkpoint
    model: nn.Module
    data: DataSplits
    loss: str
    runtime: Runtime
    settings: AnalysisSettings

    def objective(self, split: str | None = None, **options: Any) -> Objective:
        """Return the mean loss over a split, or over a seeded random subset of it if the settings have `samples`.

        Args:
            split: Name of the split. Default: the split in the settings.
            **options: Further arguments of `Objective.of`, such as `bn`.

        Raises:
            InputError: The data have no such split, or do not fit the model.
            SettingsError: `samples` is larger than the split, or an option is unknown or contradicts another one.
        """
        name = split or self.settings.split
        return self._mean_over(subset(self.data.part(name), name, self.settings), **options)

    def held_out(self, *, least: int, **options: Any) -> tuple[Objective, float] | None:
        """Return the mean loss over held-out samples, and the analysed fraction s of the split.

        Held-out samples are samples of the split that `objective` does not use, at most as many as it uses. Return None if
        the whole split is analysed, or if fewer than `least` held-out samples remain.
        """
        others = held_out(self.data.part(self.settings.split), self.settings, least=least)
        return None if others is None else (self._mean_over(others[0], **options), others[1])

    def _mean_over(self, samples: Split, **options: Any) -> Objective:
        if options.get("bn") == "batch":
            samples = in_random_order(samples, self.settings)
        options = {"chunk_size": self.settings.chunk_size, **options}
        return Objective.of(self.model, samples.inputs, samples.targets, loss=self.loss, runtime=self.runtime, **options)

    def preconditioner(self) -> Preconditioner:
        """Return the P of the optimizer whose state is in the file.

        Raises:
            InputError: The file has no state of an adaptive optimizer, or it does not fit the model.
        """
        names = tuple(name for name, _ in self.model.named_parameters())
        return preconditioner_of(self.checkpoint.optimizer, ParameterSpace.of(self.model), self.checkpoint.address, names)

    def next_update(self, objective: Objective, theta: Tensor, direction: str, split: str) -> Tensor:
        """Return the direction u of a step θ - η u, shape (P,).

        Args:
            objective: The analysed loss.
            theta: The weights, shape (P,).
            direction: "gradient", or "optimizer" for the next update of the optimizer whose state is in the file, divided by
                its learning rate.
            split: The split whose loss gives the gradient; "" for that of the analysed loss.

        Raises:
            InputError: There is no such split, or the file has no state of an optimizer that fits the model.
        """
        gradient = (self.objective(split) if split else objective).gradient(theta)
        if direction == "gradient":
            return gradient
        names = tuple(name for name, _ in self.model.named_parameters())
        space = objective.space
        warn_of_batch_norm(objective.bn)
        return next_update(self.checkpoint.optimizer, theta, gradient, space, self.checkpoint.address, names)

    def subject(self) -> Subject:
        """Return the description of the weights for a result."""
        return subject_of(self.checkpoint)

    def conditions(self, objective: Objective, split: str, *, engine: str = "gradients") -> Conditions:
        """Return the conditions under which the numbers of an objective on a split were computed."""
        return Conditions(
            split=split,
            num_samples=objective.num_samples,
            num_parameters=objective.space.dimension,
            loss_function=objective.loss_name,
            **objective.unit(),
            device=objective.processes.on(str(self.runtime.device)),
            dtype=self.settings.dtype,
            chunk_size=objective.chunk_size,
            batch_norm=objective.bn_policy,
            engine=engine,
            output=chosen_output(self.model),
            preprocessing=self.data.preprocessing,
        )


def load_checkpoint(path: str | Path | LiveModel, settings: AnalysisSettings) -> LoadedCheckpoint:
    """Read a checkpoint, load its data, rebuild its model and load the weights into it; or use a model in memory.

    Args:
        path: A file, a run folder, or a model in memory.
        settings: Settings of the analysis. They have priority over the model, data and loss that the checkpoint records.

    Raises:
        InputError: The device, a file, the model or the data are missing or unusable, the weights do not fit, the checkpoint
            names code that the settings do not name, or an output depends on more than the weights and its sample.
        NumericalError: A parameter is NaN or infinite, or a buffer is NaN. Infinite buffers, such as masks, are allowed.
        SettingsError: A name or an option is unknown, or the device does not support the precision.
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
    """Rebuild the model of a checkpoint for its data, and load the weights into it.

    Raises:
        InputError: No model is named, the weights or the data do not fit the model, or the checkpoint names code that the
            settings do not name.
        SettingsError: A name or an option is unknown.
    """
    runtime = Runtime.open(settings.device, settings.dtype)
    # Conversion before the weights are loaded: float64 weights are not rounded in an analysis in float64.
    model = build_model(checkpoint, data, settings).to(runtime.dtype)
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
