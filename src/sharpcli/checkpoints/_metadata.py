"""The types of the metadata in checkpoints of sharpcli; `PlannedRun` of training writes the metadata."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from torch import Tensor

from sharpcli import files
from sharpcli.checkpoints._optimizer import OptimizerContent, OptimizerState
from sharpcli.errors import InputError
from sharpcli.files import Range

Count = Annotated[int, Range(0)]
Positive = Annotated[int, Range(1)]
Amount = Annotated[float, Range(0)]


class Model(TypedDict, total=False):
    """The model that the weights belong to."""

    spec: str | None
    arguments: list[str]
    input_shape: list[Count]
    num_classes: Positive
    output: str | None


class Data(TypedDict, total=False):
    """The data that the model was trained on."""

    spec: str | None
    arguments: list[str]
    fingerprint: str
    transform: str
    num_train: Count
    num_test: Count


class Plan(TypedDict, total=False):
    """The resolved settings of a run that are used again; other settings are stored unchanged."""

    batch_size: Positive
    optimizer: str
    lr: Amount
    momentum: Annotated[float, Range(0, below=1)]
    momentum_rule: Literal["nesterov", "polyak"]
    label_smoothing: Annotated[float, Range(0, below=1)]
    schedule: str


class Losses(TypedDict):
    """Losses and accuracies at the end of a run, None without a test split; its last files have them under "final"."""

    train_loss: float
    train_accuracy: float | None
    test_loss: float | None
    test_accuracy: float | None


class Start(TypedDict):
    """The weights that a run started from."""

    path: str
    sha256: str


class Metadata(TypedDict, total=False):
    """All that is known about the weights."""

    model: Model
    data: Data
    loss: str
    mode: str
    plan: Plan
    seed: Count
    dtype: str
    init: Start
    name: str
    recipe: str | None
    step: Count
    epochs: Amount
    last_learning_rate: Amount | None
    parameters: list[str]
    stopped_by: str
    final: dict[str, float | None]
    averages: list[str]
    average: str
    averaged: Count


class Content(TypedDict):
    """The content of a checkpoint file."""

    format: str
    format_version: int
    state_dict: dict[str, Tensor]
    metadata: Metadata
    optimizer: NotRequired[OptimizerContent]


_FORMER = {"recipe": "plan", "preset": "recipe"}  # Names in files of version 1.


def with_present_names(record: dict[Any, Any]) -> dict[Any, Any]:
    """Return a record of a run with the names of version 2, in the same order.

    Version 1 called the resolved settings "recipe" and the recipe of a paper "preset".
    """
    if "plan" in record or not ("preset" in record or isinstance(record.get("recipe"), dict)):
        return record
    return {_FORMER.get(name, name): value for name, value in record.items()}


def own_content(place: Path, content: dict[Any, Any]) -> tuple[dict[str, Tensor], dict[str, Any], OptimizerState | None]:
    """Return the tensors, the metadata and the state of the optimizer of a checkpoint of sharpcli.

    Raises:
        InputError: The content does not have the types of such a checkpoint.
    """
    if content.get("format_version") == 1 and isinstance(content.get("metadata"), dict):
        content = {**content, "metadata": with_present_names(content["metadata"])}
    try:
        checked = files.conform(content, Content, "file")
        state, metadata = checked["state_dict"], dict(checked["metadata"])
        names = checked["metadata"].get("parameters", [])
        unknown = set(names) - set(state)
        if not state or unknown or len(set(names)) < len(names):
            raise files.ContentError(
                "'file.metadata.parameters' does not list tensors of the file, each once" if state else "there are no tensors"
            )
    except files.ContentError as error:
        raise InputError(
            f"{place} says that it is a sharpcli checkpoint, but its content is not valid: {error}.",
            "Write it again with 'sharpcli train'.",
        ) from error
    optimizer = OptimizerState.from_content(checked["optimizer"]) if "optimizer" in checked else None
    return state, metadata, optimizer
