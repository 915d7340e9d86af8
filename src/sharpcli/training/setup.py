"""The parts that all runs of one command share: the data and the initial weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import checkpoints, progress
from sharpcli.batchnorm import batch_norms
from sharpcli.datasets.resolve import resolve as resolve_data
from sharpcli.datasets.splits import DataSplits
from sharpcli.inputs import select
from sharpcli.loading import num_outputs
from sharpcli.losses import loss_of
from sharpcli.models.resolve import resolve as resolve_model
from sharpcli.objective import Objective
from sharpcli.parameters import ParameterSpace
from sharpcli.preconditions import require_function
from sharpcli.runtime import Runtime
from sharpcli.settings import TrainSettings
from sharpcli.settings.losses import LossSpec
from sharpcli.training.plan import TrainingPlan, make_plan
from sharpcli.training.variants import Variant

_SAMPLES = 1000  # Maximum number of samples used to determine the chunk size.


@dataclass(frozen=True, eq=False)
class TrainingSetup:
    """The parts that runs share.

    Attributes:
        settings: Settings of the first run.
        model: The model with the initial weights; it is never trained itself.
        init: The initial weights and buffers by name.
        init_sha256: SHA-256 of `init`.
    """

    settings: TrainSettings
    runtime: Runtime
    data: DataSplits
    model: nn.Module
    init: dict[str, Tensor]
    init_sha256: str

    @staticmethod
    def open(settings: TrainSettings) -> TrainingSetup:
        """Load the data and build the model, with random weights from the seed or with the weights of a checkpoint.

        Raises:
            SharpcliError: Either is unusable; see `sharpcli.errors`.
        """
        with progress.task("open"):
            return TrainingSetup._open(settings)

    @staticmethod
    def _open(settings: TrainSettings) -> TrainingSetup:
        runtime = Runtime.open(settings.device, settings.dtype)
        loss, spec = _loss_name(settings), settings.model or ""
        data = resolve_data(
            settings.data or "",
            root=settings.data_root,
            download=settings.download,
            arguments=settings.data_arg,
            transform=settings.transform,
            loss=loss,
        )
        if data.test is None:
            progress.warn("The data have no test split, so the generalization gap is not measured.")
        with torch.random.fork_rng():
            torch.manual_seed(settings.seed)
            model = resolve_model(
                spec,
                input_shape=data.input_shape,
                inputs=data.first_samples,
                num_classes=settings.num_classes or num_outputs(loss, data, spec),
                arguments=settings.model_arg,
                output=settings.output,
            )
        model.to(runtime.dtype)
        if settings.init_from:
            start = checkpoints.read(settings.init_from, settings.weights, allow_pickle=settings.allow_pickle)
            checkpoints.fit(start, model)
            checkpoints.require_finite(model, start.path)
        require_function(model, data.train.inputs, runtime)
        init = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        return TrainingSetup(settings, runtime, data, model, init, checkpoints.state_sha256(init))

    @property
    def space(self) -> ParameterSpace:
        """Layout of the trainable parameters."""
        return ParameterSpace.of(self.model)

    @property
    def loss(self) -> str:
        """Name of the loss, without smoothing."""
        return _loss_name(self.settings)

    def loss_unit(self) -> dict[str, Any]:
        """Return the unit of the training loss, and the mean number of its terms in a sample, as fields of a result."""
        train = self.data.train
        return loss_of(self.loss, train.targets).described_terms(train.inputs, train.targets)

    def plan(self, variant: Variant) -> TrainingPlan:
        """Return the plan of a run, with a value for each setting that was not given."""
        has_batch_norm = bool(batch_norms(self.model))
        inputs, targets = self.data.train.inputs, self.data.train.targets
        counted = loss_of(self.loss, targets).has_terms(targets).nonzero()[:_SAMPLES, 0]
        few = select(inputs, counted), targets[counted]
        tried = Objective.of(self.model, *few, loss=self.loss, runtime=self.runtime)
        chunk = tried.processes.least(tried.chunk_size)
        return make_plan(variant.mode, variant.settings, len(self.data.train), chunk_size=chunk, has_batch_norm=has_batch_norm)


def _loss_name(settings: TrainSettings) -> str:
    return str(LossSpec.parse(settings.loss or "ce"))
