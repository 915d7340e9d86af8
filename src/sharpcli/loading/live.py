"""A model and data in memory, as Python code has them, in place of a file: nothing of the caller's model is changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import nn

from sharpcli.checkpoints import Checkpoint
from sharpcli.datasets.resolve import require_classes
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.transforms import transform_named
from sharpcli.datasets.user_data import splits_of
from sharpcli.errors import SettingsError
from sharpcli.loading.data import load_data
from sharpcli.models.resolve import choose_outputs_of
from sharpcli.models.user_models import inside, unwrapped
from sharpcli.modules import private_copy
from sharpcli.settings import AnalysisSettings
from sharpcli.settings.losses import LossSpec

_DATA = "the data"


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A model with the data that it is analysed on.

    Attributes:
        model: Any module; a copy of it is analysed.
        data: What `datasets.user_data` takes; None where the settings name the data.
    """

    model: nn.Module
    data: Any

    @property
    def name(self) -> str:
        """Its name in results, such as "<ResNet in memory>"."""
        return f"<{type(inside(self.model)).__name__} in memory>"

    def checkpoint(self) -> Checkpoint:
        """Return its weights as those of a file."""
        state = {name: tensor.detach().clone() for name, tensor in self._copy.state_dict().items()}
        return Checkpoint(Path(self.name), state, container="a model in memory")

    def splits(self, checkpoint: Checkpoint, settings: AnalysisSettings) -> DataSplits:
        """Return its data.

        Args:
            checkpoint: That of the model.
            settings: They name the data where these are not in memory.
        """
        if self.data is None:
            return load_data(checkpoint, settings)
        spec = LossSpec.parse(settings.loss or "ce")
        transform = None if settings.transform is None else transform_named(settings.transform)
        data = splits_of(self.data, _DATA, transform, spec.ignore_index, unlabelled=spec.is_code)
        require_classes(data, spec)
        return data

    def rebuilt(self, data: DataSplits, settings: AnalysisSettings) -> nn.Module:
        """Return a private copy on the CPU that answers with one tensor.

        Raises:
            InputError: The model does not take the data.
        """
        model = private_copy(self._copy)
        choose_outputs_of(model, self.name, data.input_shape, data.first_samples, settings.output)
        return model

    @cached_property
    def _copy(self) -> nn.Module:
        """A copy on the CPU without wrappers, such as that of torch.compile."""
        return unwrapped(private_copy(inside(self.model)).cpu())


def live_or_file(
    checkpoint: str | Path | nn.Module, data: object, options: Mapping[str, object]
) -> tuple[str | Path | LiveModel, dict[str, object]]:
    """Return what to analyse, and the options of the analysis.

    Args:
        checkpoint: A file, a run folder, or a model.
        data: Data for the model, or the name of a data set; None for those that the file records.
        options: Of the analysis.

    Raises:
        SettingsError: A model without data, or data in memory for a file.
    """
    named = {**options, "data": data} if isinstance(data, str) else dict(options)
    if isinstance(checkpoint, nn.Module):
        if data is None:
            raise SettingsError("A model in memory needs data.", "Give them behind the model: hessian(model, data).")
        if "model" in options:
            raise SettingsError("The option model names a model, but one is given.", "Leave the option out.")
        return LiveModel(checkpoint, None if isinstance(data, str) else data), named
    if data is not None and not isinstance(data, str):
        raise SettingsError(
            f"Data in memory need a model in memory, and {checkpoint} is a file.", "Load it into a model, or name a data set."
        )
    return checkpoint, named
