"""From a path and settings to an objective: what every analysis does first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import checkpoints, progress
from sharpcli.batchnorm import batch_norms
from sharpcli.checkpoints import Checkpoint
from sharpcli.datasets._resolve import resolve as resolve_data
from sharpcli.datasets._splits import DataSplits, Split
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.losses import loss_named
from sharpcli.models._output import chosen_output
from sharpcli.models._resolve import resolve as resolve_model
from sharpcli.modules import private_copy
from sharpcli.objective import Evaluation, Objective
from sharpcli.plausibility import implausible
from sharpcli.plugins import runs_code
from sharpcli.preconditions import require_function
from sharpcli.results import Conditions, Subject
from sharpcli.runtime import Runtime, generator
from sharpcli.settings import AnalysisSettings
from sharpcli.settings.losses import LossSpec, unit_logits

_AGREEMENT = 1e-3  # Relative.
_SPARE = 2**24  # Parameters.
_TINY = 1e-7  # In float64: below it intervals were seen to be too narrow.


@dataclass(frozen=True, eq=False)
class Opened:
    """A checkpoint with its model rebuilt and its data loaded."""

    checkpoint: Checkpoint
    model: nn.Module
    data: DataSplits
    loss: str
    runtime: Runtime
    settings: AnalysisSettings

    def objective(self, split: str | None = None, **how: Any) -> Objective:
        """Return the mean loss over a split, or over the seeded subset that the settings ask for.

        Args:
            split: Default: that of the settings.
            **how: Further arguments of `Objective.of`, such as its BatchNorm policy.
        """
        name = split or self.settings.split
        return self._over(_subset(self._split(name), name, self.settings), **how)

    def held_out(self, *, least: int, **how: Any) -> tuple[Objective, float] | None:
        """Return the mean loss over samples that were left out, at most as many as were taken, and the share s taken.

        None if the whole split is analysed, or so much of it that fewer than `least` samples are left.
        """
        whole = self._split(self.settings.split)
        count = self.settings.samples
        if count is None or count >= len(whole):
            return None
        left = _permutation(whole, self.settings)[count : 2 * count].sort().values
        if len(left) < least:
            return None
        return self._over(Split(whole.inputs[left], whole.targets[left]), **how), count / len(whole)

    def _split(self, name: str) -> Split:
        return self.data.part(name)

    def _over(self, part: Split, **how: Any) -> Objective:
        if how.get("bn") == "batch":  # Data are often sorted by class; a block of one class would be normalised by that class.
            mixed = torch.randperm(len(part), generator=generator(self.settings.seed, 8))
            part = Split(part.inputs[mixed], part.targets[mixed])
        how = {"chunk_size": self.settings.batch_size, **how}
        return Objective.of(self.model, part.inputs, part.targets, loss=self.loss, runtime=self.runtime, **how)

    def subject(self) -> Subject:
        """Return what the file says about itself."""
        return describe(self.checkpoint)

    def conditions(self, objective: Objective, split: str, *, engine: str = "gradients") -> Conditions:
        """Return what the numbers of this objective hold under."""
        return Conditions(
            split=split,
            num_samples=objective.num_samples,
            num_parameters=objective.space.dimension,
            loss_function=objective.loss_name,
            device=str(self.runtime.device),
            dtype=self.settings.dtype,
            batch_size=objective.chunk_size,
            batch_norm=objective.bn_policy,
            engine=engine,
            output=chosen_output(self.model),
            preprocessing=self.data.preprocessing,
        )

    def check_loss(self, objective: Objective, evaluation: Evaluation, split: str, *, comparable: bool = True) -> None:
        """Check the loss against the one stored when the checkpoint was made; warn of what makes numbers meaningless.

        Args:
            objective: The mean loss.
            evaluation: What it is at the weights of the file.
            split: Of which samples.
            comparable: Whether it was measured as the stored one was, with the BatchNorm statistics of the file.

        Raises:
            NumericalError: The loss is not finite.
        """
        if not math.isfinite(evaluation.loss):
            raise NumericalError(
                f"The {split} loss of {self.checkpoint.path} is not finite.", "Check the data, or try --dtype float64."
            )
        stored = self.stored_loss(split, evaluation.num_samples)
        comparable = comparable or not batch_norms(self.model)
        same = comparable and stored is not None and agree(stored, evaluation.loss)
        if comparable and stored is not None and not same:
            progress.warn(
                f"{self.checkpoint.path} was stored with {split} loss {stored:.6g}, but it is {evaluation.loss:.6g} here: "
                "model, data or loss differ from those it was trained with."
            )
        if evaluation.loss == 0:
            progress.warn(f"The {split} loss is exactly 0 in {self.settings.dtype}; curvature means nothing there.")
        elif evaluation.loss < _TINY and self.settings.dtype == "float64":
            progress.warn(
                f"The {split} loss is {evaluation.loss:.2g}: even float64 has lost digits of such probabilities, and there is "
                "no wider type to measure by, so intervals may be too narrow."
            )
        if self.checkpoint.metadata.get("step") != 0:  # Initial weights have learned nothing.
            doubt = implausible(objective, evaluation, as_stored=same)
            if doubt:
                progress.warn(f"{self.checkpoint.path}: on the {split} split {doubt} (inputs {self.data.preprocessing}).")

    def stored_loss(self, split: str, num_samples: int) -> float | None:
        """Return the loss the checkpoint was stored with, if it is of the same loss function and as many samples."""
        metadata = self.checkpoint.metadata
        data = metadata.get("data", {})
        same_loss = "loss" in metadata and loss_name(self.checkpoint, None) == self.loss
        same = same_loss and data.get(f"num_{split}") == num_samples
        return metadata.get("final", {}).get(f"{split}_loss") if same else None


def outputs_in_float64(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return what a copy of a model answers in eval mode, in float64 if it can, to tell two models from each other."""
    copied = private_copy(model).eval()
    with torch.no_grad():
        try:
            outputs: Tensor = private_copy(copied).double()(inputs.double() if inputs.is_floating_point() else inputs.clone())
        except Exception:  # A foreign model may know one precision only.
            outputs = copied(inputs.clone()).double()
    return outputs


def agree(stored: float, found: float) -> bool:
    """Tell whether a loss is the one a checkpoint has stored, up to another device or number of threads."""
    return abs(stored - found) <= _AGREEMENT * max(abs(stored), 1e-3)


def open_checkpoint(path: str | Path, settings: AnalysisSettings) -> Opened:
    """Read a checkpoint, load its data, rebuild its model and put the weights in.

    Raises:
        InputError: Something is missing or does not fit; a model that is code is only run when `settings.model` names it.
        NumericalError: The weights are not finite; buffers, such as masks, may be infinite.
        SettingsError: An unknown name, or `samples` larger than the split.
    """
    with progress.task("open"):
        Runtime.open(settings.device, settings.dtype)  # A missing device is told before any file is read.
        checkpoint = checkpoints.read(path, settings.weights)
        opened = assemble(checkpoint, load_data(checkpoint, settings), settings)
        checkpoints.require_finite(opened.model, checkpoint.path)
        require_function(opened.model, opened.data.train.inputs, opened.runtime)
        return opened


def assemble(checkpoint: Checkpoint, data: DataSplits, settings: AnalysisSettings) -> Opened:
    """Rebuild the model of a checkpoint for its data and put the weights in.

    Raises:
        InputError: They do not fit, or the model is code that the settings do not name.
    """
    runtime = Runtime.open(settings.device, settings.dtype)
    model = build_model(checkpoint, data, settings).to(runtime.dtype)  # Before the weights: float64 ones stay as they are.
    checkpoints.fit(checkpoint, model)
    loss = loss_name(checkpoint, settings.loss)
    smoothing = checkpoint.metadata.get("recipe", {}).get("label_smoothing", 0)
    if smoothing and unit_logits(loss):
        progress.warn(
            f"{checkpoint.path} was trained with label smoothing {smoothing:g}; what is measured is the plain cross-entropy, "
            "whose gradient does not vanish there."
        )
    return Opened(checkpoint, model, data, loss, runtime, settings)


def loss_name(checkpoint: Checkpoint, asked: str | None) -> str:
    """Return the loss that was asked for, else that of the checkpoint, else cross-entropy; with its options."""
    with _blamed(checkpoint, "loss", on_file=asked is None):
        return str(LossSpec.parse(str(asked or checkpoint.metadata.get("loss") or "ce")))


def load_data(checkpoint: Checkpoint, settings: AnalysisSettings) -> DataSplits:
    """Return the data that the settings name, else those the checkpoint was trained on."""
    recorded = checkpoint.metadata.get("data", {})
    spec = settings.data or recorded.get("spec")
    if spec is None:
        raise InputError(
            f"{checkpoint.path} does not say which data it was trained on.",
            "Name them with --data, such as --data cifar10 or --data npz:FILE.",
        )
    same = settings.data is None or settings.data == recorded.get("spec")
    arguments = settings.data_arg or (tuple(recorded.get("arguments", ())) if same else ())
    loss = loss_name(checkpoint, settings.loss)
    try:
        with _blamed(checkpoint, "data", on_file=settings.data is None and not settings.data_arg):
            data = resolve_data(spec, root=settings.data_root, download=settings.download, arguments=arguments, loss=loss)
    except InputError as error:
        if settings.data is None:
            error.hint = f"{checkpoint.path} was trained on '{spec}'; say where that is now with --data or --data-root."
        raise
    fingerprint = recorded.get("fingerprint")
    if settings.data is None and fingerprint is not None and fingerprint != data.fingerprint():
        progress.warn(f"The data '{spec}' are not the ones {checkpoint.path} was trained on: their fingerprint differs.")
    return data


def build_model(checkpoint: Checkpoint, data: DataSplits, settings: AnalysisSettings) -> nn.Module:
    """Return the freshly built model that the settings name, else the checkpoint's own if that runs no code."""
    recorded = checkpoint.metadata.get("model", {})
    spec = settings.model or recorded.get("spec")
    if spec is None:
        raise InputError(
            f"{checkpoint.path} does not say which model its weights belong to.",
            "Name it with --model: a built-in name, torchvision:NAME or file.py:fn.",
        )
    if settings.model is None and runs_code(spec):
        raise InputError(
            f"{checkpoint.path} needs model code, {spec}, which is never run because a file names it.",
            f"If you trust that code, say so: --model {spec}.",
        )
    same = settings.model is None or settings.model == recorded.get("spec")
    arguments = settings.model_arg or (tuple(recorded.get("arguments", ())) if same else ())
    output = settings.output or (recorded.get("output") if same else None)
    width = num_outputs(loss_name(checkpoint, settings.loss), data, spec)
    asked = settings.model or settings.model_arg or settings.output
    with torch.random.fork_rng(), _blamed(checkpoint, "model", on_file=not asked):
        return resolve_model(
            spec,
            input_shape=data.input_shape,
            num_classes=width,
            arguments=arguments,
            output=output,
            most=most_parameters(checkpoint),
        )


def most_parameters(checkpoint: Checkpoint) -> int:
    """Return how many parameters a model may have that is to be filled with the weights of a file.

    With some to spare, so that a wrong model of an ordinary size is told from the right one by the names of its tensors.
    """
    return _SPARE + 2 * sum(tensor.numel() for tensor in checkpoint.state.values())


@contextmanager
def _blamed(checkpoint: Checkpoint, what: str, *, on_file: bool) -> Iterator[None]:
    """Blame the file for a setting that cannot be used, where it was recorded there and not given by the user."""
    try:
        yield
    except SettingsError as error:
        if not on_file:
            raise
        message = f"{checkpoint.path} records {'data' if what == 'data' else f'a {what}'} that cannot be used: {error.message}"
        raise InputError(message, f"Say what to use with --{what}.") from error


def num_outputs(loss: str, data: DataSplits, spec: str) -> int:
    """Return how many outputs a model needs; own code is told the number of classes also where it is to have one logit."""
    wanted = loss_named(loss).num_outputs(data.train.targets, data.num_classes)
    return data.num_classes if wanted == 1 and runs_code(spec) else wanted


def describe(checkpoint: Checkpoint) -> Subject:
    """Return what a file says about itself."""
    metadata: dict[str, Any] = checkpoint.metadata
    recipe = metadata.get("recipe", {})
    return Subject(
        path=checkpoint.address,
        sha256=checkpoint.sha256(),
        label=label(checkpoint),
        model=metadata.get("model", {}).get("spec"),
        data=metadata.get("data", {}).get("spec"),
        data_fingerprint=metadata.get("data", {}).get("fingerprint"),
        mode=metadata.get("mode"),
        step=metadata.get("step"),
        epochs=metadata.get("epochs"),
        batch_size=recipe.get("batch_size"),
        seed=metadata.get("seed"),
        optimizer=recipe.get("optimizer"),
        learning_rate=recipe.get("lr"),
        last_learning_rate=metadata.get("last_learning_rate"),
        momentum=recipe.get("momentum"),
        momentum_rule=recipe.get("momentum_rule", "nesterov") if recipe else None,
        weights=checkpoint.weights,
    )


def label(checkpoint: Checkpoint) -> str:
    """Return a short name for tables and legends: that of the run for its final checkpoint, else with the file's name."""
    path, metadata = checkpoint.path, checkpoint.metadata
    if checkpoint.chosen:
        return f"{path.stem}::{checkpoint.weights}"
    name = metadata.get("name", metadata.get("mode"))
    if name and path.name == "final.pt":
        return str(name)
    return f"{name} {path.stem}" if name else path.stem


def _subset(split: Split, name: str, settings: AnalysisSettings) -> Split:
    """Return a seeded random subset without replacement, or the whole split."""
    count = settings.samples
    if count is None or count == len(split):
        return split
    if count > len(split):
        if name == "test" and settings.split != "test":  # The number was meant for the training split, which is larger.
            return split
        raise SettingsError(
            f"--samples {count} is more than the {len(split)} {name} samples.", "Leave --samples out to use all of them."
        )
    chosen = _permutation(split, settings)[:count].sort().values
    return Split(split.inputs[chosen], split.targets[chosen])


def _permutation(split: Split, settings: AnalysisSettings) -> torch.Tensor:
    return torch.randperm(len(split), generator=generator(settings.seed, 7))
