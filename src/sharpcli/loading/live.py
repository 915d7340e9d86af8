"""Models, weights and data in memory instead of files. The objects of the caller are not changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli.checkpoints import LIVE, Checkpoint, OptimizerState
from sharpcli.datasets.resolve import require_classes
from sharpcli.datasets.splits import DataSplits
from sharpcli.datasets.transforms import transform_named
from sharpcli.datasets.user_data import splits_of
from sharpcli.errors import InputError, SettingsError
from sharpcli.loading.data import load_data
from sharpcli.models.resolve import choose_outputs_of
from sharpcli.models.user_models import inside, require_numbers, unwrapped
from sharpcli.modules import private_copy
from sharpcli.settings import AnalysisSettings
from sharpcli.settings.losses import LossSpec

_DATA = "the data"
_OF_FILES = ("model_arg", "num_classes", "weights", "ignore_keys", "allow_pickle")  # Options for a model in a file.
_INITIAL = "<initial weights in memory>"


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A model in memory, with the data for its analysis.

    Attributes:
        model: The model; a copy of it is analysed.
        name: Name of the model in results, such as "<ResNet in memory>".
        data: Data in a form that `datasets.user_data` describes; None if the settings name the data, or if no data are
            needed.
        optimizer: The optimizer that trains the model; its state gives the preconditioned Hessian and the next update.
    """

    model: nn.Module
    name: str
    data: Any = None
    optimizer: torch.optim.Optimizer | None = None

    @staticmethod
    def of(model: nn.Module) -> LiveModel:
        """Return a model in memory whose name is made from its class."""
        return LiveModel(model, f"<{type(inside(model)).__name__} in memory>")

    def copy(self) -> nn.Module:
        """Return a private copy of the model on the CPU, without wrappers such as that of `torch.compile`."""
        return private_copy(self._copy)

    def checkpoint(self) -> Checkpoint:
        """Return a copy of the weights as a `Checkpoint`, with the state of the optimizer.

        Raises:
            InputError: The optimizer has parameters, but none of this model.
        """
        made = _in_memory(self.name, self._copy.state_dict())
        return made if self.optimizer is None else replace(made, optimizer_of=partial(self._optimizer_state, self.optimizer))

    def _optimizer_state(self, optimizer: torch.optim.Optimizer) -> OptimizerState:
        named = list(inside(self.model).named_parameters())
        ours = {id(parameter) for _, parameter in named}
        if not any(id(parameter) in ours for group in optimizer.param_groups for parameter in group["params"]):
            raise InputError(
                f"The optimizer trains no parameter of {self.name}.",
                "Give the optimizer that was made from the parameters of this model.",
            )
        return OptimizerState.of(optimizer, named)

    def splits(self, checkpoint: Checkpoint, settings: AnalysisSettings) -> DataSplits:
        """Return the training split and, if there is one, the test split of the data.

        Args:
            checkpoint: The weights of the model.
            settings: Loss and transform; also the name of the data if no data are in memory.

        Raises:
            InputError: The data are missing, damaged or do not fit the loss.
            SettingsError: A name or an option in the settings is unknown.
        """
        if self.data is None:
            return load_data(checkpoint, settings)
        spec = LossSpec.parse(settings.loss or "ce")
        transform = None if settings.transform is None else transform_named(settings.transform)
        data = splits_of(self.data, _DATA, transform, spec.ignore_index, unlabelled=spec.is_code)
        require_classes(data, spec)
        return data

    def rebuilt(self, data: DataSplits, settings: AnalysisSettings) -> nn.Module:
        """Return a private copy of the model on the CPU that returns one tensor, the chosen output.

        Raises:
            InputError: The model cannot process the data, or its output is not unique; see `choose_outputs_of`.
            SettingsError: `settings.output` is given, but the model returns one tensor.
        """
        model = self.copy()
        choose_outputs_of(model, self.name, data.input_shape, data.first_samples, settings.output)
        return model

    @cached_property
    def _copy(self) -> nn.Module:
        require_numbers(self.model, f"the model {self.name}")
        return unwrapped(private_copy(inside(self.model)).cpu())


Place = str | Path | LiveModel


def live_or_file(
    checkpoint: str | Path | nn.Module,
    data: object,
    options: Mapping[str, object],
    *,
    name: str | None = None,
    needs_data: bool = True,
    optimizer: torch.optim.Optimizer | None = None,
) -> tuple[Place, dict[str, object]]:
    """Return the file or the model to analyse, and the options of the analysis, with `data` in them if it is a name.

    Args:
        checkpoint: A file, a run folder, or a model.
        data: Data for the model, or the name of a data set; None for the data that the file records.
        options: Options of the analysis.
        name: Name of the model in results; None for a name made from its class.
        needs_data: Whether the analysis of a model in memory needs data.
        optimizer: The optimizer of a model in memory.

    Raises:
        SettingsError: The arguments contradict each other: a model without data, a model and the option "model", data in
            memory for a file, or a name or an optimizer for a file. Or `checkpoint` is neither a path nor a model, or
            `optimizer` is not one of torch.
    """
    if isinstance(checkpoint, list | tuple | set):
        raise SettingsError(
            f"One checkpoint is needed, but a {type(checkpoint).__name__} is given.",
            "Call the function for each of them; hessian_all() and compare() take several.",
        )
    given = [checkpoint] if name is None else {name: checkpoint}
    (place,), named = live_or_files(given, data, options, needs_data=needs_data)
    if optimizer is None:
        return place, named
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise SettingsError(f"A {type(optimizer).__name__} is no optimizer.", "Give a torch.optim.Optimizer.")
    if not isinstance(place, LiveModel):
        raise SettingsError(
            f"An optimizer in memory needs a model in memory, and {place} is a file.",
            "Leave it out: the state of an optimizer in the file is used.",
        )
    return replace(place, optimizer=optimizer), named


def live_or_files(
    checkpoints: object, data: object, options: Mapping[str, object], *, needs_data: bool = True
) -> tuple[list[Place], dict[str, object]]:
    """Return the files or models to analyse, in order, and the options of the analysis, with `data` in them if it is a name.

    Args:
        checkpoints: One file or model, a sequence of them, or a mapping from names in results to models.
        data: Data for the models, or the name of a data set; None for the data that the files record.
        options: Options of the analysis.
        needs_data: Whether the analysis of a model in memory needs data.

    Raises:
        SettingsError: The arguments contradict each other: a model without data, a model and the option "model", data in
            memory for a file, or a name for a file. Or a checkpoint is neither a path nor a model.
    """
    named = {**options, "data": data} if isinstance(data, str) else dict(options)
    in_memory = None if isinstance(data, str) else data
    if isinstance(checkpoints, Mapping):
        places = [_named(one, str(name)) for name, one in checkpoints.items()]
    else:
        several = isinstance(checkpoints, Sequence) and not isinstance(checkpoints, str | nn.Module)
        given: Sequence[object] = checkpoints if several else [checkpoints]  # type: ignore[assignment]
        places = _numbered([_place(one) for one in given])
    live = [place for place in places if isinstance(place, LiveModel)]
    if live and "model" in options:
        raise SettingsError("The option model names a model, but one is given.", "Leave the option out.")
    of_files = next((name for name in (*_OF_FILES, *(("data_arg",) if in_memory is not None else ())) if name in options), None)
    if live and of_files is not None:
        raise SettingsError(f"The option {of_files} has no effect on what is in memory.", "Leave the option out.")
    if live and needs_data and "data" not in named and in_memory is None:
        raise SettingsError("A model in memory needs data.", "Give them after the model, as in hessian(model, data).")
    if in_memory is not None and len(live) < len(places):
        file = next(place for place in places if not isinstance(place, LiveModel))
        raise SettingsError(
            f"Data in memory need a model in memory, and {file} is a file.", "Load it into a model, or name a data set."
        )
    return [replace(place, data=in_memory) if isinstance(place, LiveModel) else place for place in places], named


def weights_in_memory(weights: nn.Module | Mapping[str, Tensor]) -> Checkpoint:
    """Return a copy of the weights of a model, or of its state dict, as a `Checkpoint`.

    Raises:
        SettingsError: A value of the state dict is not a tensor.
    """
    if isinstance(weights, nn.Module):
        return LiveModel(weights, _INITIAL).checkpoint()
    wrong = next((name for name, part in weights.items() if not isinstance(part, Tensor)), None)
    if wrong is not None:
        raise SettingsError(f"'{wrong}' of the given weights is no tensor.", "Give a model, or its state_dict().")
    return _in_memory(_INITIAL, weights)


def _in_memory(name: str, state: Mapping[str, Tensor]) -> Checkpoint:
    return Checkpoint(Path(name), {key: part.detach().clone().cpu() for key, part in state.items()}, container=LIVE)


def _place(given: object) -> Place:
    if isinstance(given, nn.Module):
        return LiveModel.of(given)
    if isinstance(given, str | Path):
        return given
    raise SettingsError(f"A {type(given).__name__} is neither a file nor a model.", "Give a path, or a torch.nn.Module.")


def _named(given: object, name: str) -> Place:
    place = _place(given)
    if not name.strip():
        raise SettingsError("The name of a model is empty.", "Give another name.")
    if not isinstance(place, LiveModel):
        raise SettingsError(f"'{name}' names the file {place}, and files have their own names.", "Give files as a list.")
    return replace(place, name=name)


def _numbered(places: list[Place]) -> list[Place]:
    """Return the places; if several models have the same name, add a number to each of these names."""
    names = Counter(place.name for place in places if isinstance(place, LiveModel))
    seen = Counter[str]()
    answer: list[Place] = []
    for place in places:
        if isinstance(place, LiveModel) and names[place.name] > 1:
            seen[place.name] += 1
            answer.append(replace(place, name=f"{place.name[:-1]}, {seen[place.name]}>"))
        else:
            answer.append(place)
    return answer
