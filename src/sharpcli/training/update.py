"""One update: its samples, its gradient with the methods of the plan, and the steps of the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sharpcli.batchnorm import batch_norms, block_sizes
from sharpcli.checkpoints import OptimizerState
from sharpcli.errors import SettingsError
from sharpcli.inputs import Index, Inputs, InputSource, described_shapes, first_sample, main_tensor, mapped
from sharpcli.losses import Loss, UserLoss
from sharpcli.placement import samples_at
from sharpcli.processes import SOLO, Processes
from sharpcli.training.augmenting import Augmentation
from sharpcli.training.batches import Batches
from sharpcli.training.division import Division
from sharpcli.training.gradient import Block, Plain, Share, Slopes, clip, gradient_norm, mean_gradient, trained
from sharpcli.training.methods.adversarial import Adversarial
from sharpcli.training.methods.gradient_penalty import GradientPenalty
from sharpcli.training.methods.noise import disturb, example_weights
from sharpcli.training.methods.proximal import Anchor
from sharpcli.training.methods.sam import SharpnessAware
from sharpcli.training.plan import TrainingPlan

_FEW = 4  # Samples that show whether a pass can be divided.
_IMAGES = 4  # Axes: (B, C, H, W).
_MODE_DEPENDENT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@dataclass(eq=False)
class Updater:
    """Takes the updates of a plan; an update depends on its number, the weights and the optimizer's state.

    Attributes:
        model: Trained in place, on the device of the data.
        inputs: Inputs of all training samples.
        targets: Targets of all training samples.
        loss: The loss that is minimized, smoothing included.
        plan: The plan of the run.
        seed: Seed of all random numbers except those of dropout.
        processes: The processes that share the samples of each update.
    """

    model: nn.Module
    inputs: Inputs | InputSource
    targets: Tensor
    loss: Loss
    plan: TrainingPlan
    seed: int
    optimizer: torch.optim.Optimizer = field(init=False)
    batches: Batches = field(init=False)
    processes: Processes = SOLO
    _length: Tensor | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        if plan.channels_last:
            self.model.to(memory_format=torch.channels_last)
        self.parameters = trained(self.model)
        self.optimizer = _optimizer(self.parameters, plan)
        self.batches = Batches(
            len(self.targets),
            plan.batch_size,
            self.seed,
            plan.shuffle,
            max(plan.augment_copies, 1),
            in_blocks=bool(batch_norms(self.model)) or plan.grad_penalty > 0,
        )
        self._augmentation = Augmentation(plan.augment, len(self.targets), plan.augment_copies, self.seed, self.targets.device)
        plain = Plain(self.model, self.loss, plan.amp)
        self._slopes: Slopes = plain
        if plan.adversarial:
            self._slopes = Adversarial(self._slopes, plain, plan.adversarial)
        if plan.grad_penalty:
            self._slopes = GradientPenalty(self._slopes, self.model, plan.grad_penalty)
        if plan.example_noise and isinstance(self.loss, UserLoss) and self.loss.summed:
            raise SettingsError(
                "--example-noise needs the loss of each sample, but the loss returns a sum.",
                "Leave it out, or return one loss for each sample.",
            )
        self._terms_each = self.loss.terms_each(self.targets) if self.loss.counts_all(self.targets) else 0
        self._division = Division(SOLO, self.model, self.batches.in_blocks)
        if self.processes.size > 1:
            self.model.train()
            few = self._blocks(torch.arange(min(len(self.targets), _FEW), device=self.targets.device), [], None)
            self._division = Division.of(
                self.processes, self.model, lambda: self._slopes(next(few), 0.0), whole_blocks=self.batches.in_blocks
            )

    @staticmethod
    def check(plan: TrainingPlan, inputs: Inputs | InputSource) -> None:
        """Raise SettingsError if a method of the plan does not work with these inputs."""
        main = main_tensor(inputs)
        several = not isinstance(first_sample(inputs), Tensor)
        if plan.augment and (several or main.ndim != _IMAGES or not main.is_floating_point()):
            raise SettingsError(
                f"--augment {','.join(plan.augment)} is for images, but a sample has the shape {described_shapes(inputs)}.",
                "Leave it out, or give images of shape (C, H, W).",
            )
        if plan.adversarial and (several or not main.is_floating_point()):
            kind = "several tensors" if several else "tokens"
            message = f"--adversarial needs floating-point inputs in one tensor, but these are {kind}."
            raise SettingsError(message, "Leave it out.")

    @property
    def loss_is_exact(self) -> bool:
        """Whether the loss of a full-batch update is exactly the training loss, so that it needs no extra evaluation."""
        plan = self.plan
        changed = plan.augment or plan.adversarial or plan.label_smoothing or plan.amp
        return (
            self.batches.is_full and not changed and not any(isinstance(part, _MODE_DEPENDENT) for part in self.model.modules())
        )

    @property
    def gradient_norm(self) -> float:
        """The norm of the current gradient before clipping; computed only for clipping or when this property is read."""
        return float(gradient_norm(self.parameters) if self._length is None else self._length)

    @property
    def optimizer_state(self) -> OptimizerState:
        """What the optimizer remembers of each parameter, by name."""
        return OptimizerState.of(self.optimizer, self.model.named_parameters())

    def gradient(self, update: int, anchor: Anchor | None = None) -> Tensor:
        """Put the clipped gradient of an update into `.grad`, and return the loss, a scalar; the host does not wait for it.

        Order: the mean over blocks (with penalty, adversarial inputs, weighted examples), at the perturbed weights for SAM;
        the gradient of the proximal term; noise; clipping. The optimizer then applies weight decay and momentum.
        """
        plan, rate = self.plan, self.plan.learning_rate(update)
        indices = self.batches.indices(update)
        indices = None if indices is None else indices.to(self.targets.device)
        drawn = self._augmentation.drawn(update, indices) if plan.augment else []
        weights = None
        if plan.example_noise:
            count = len(self.targets) if indices is None else len(indices)
            weights = example_weights(count, plan.example_noise, self.seed, update).to(self.targets.device)

        def plain() -> Tensor:
            blocks = self._blocks(indices, drawn, weights)
            return mean_gradient(self._slopes, blocks, self.parameters, rate=rate, share=self._share(indices))

        self.model.train()
        radius = plan.sam or plan.asam
        loss = SharpnessAware(plain, self.model, radius, adaptive=plan.asam > 0)() if radius else plain()
        if anchor is not None:
            anchor.pull()
        disturb(
            self.parameters,
            coordinate=plan.coordinate_noise,
            additive=plan.additive_noise,
            seed=self.seed,
            update=update,
        )
        self._length = clip(self.parameters, plan.clip) if plan.clip else None
        return loss

    def step(self, update: int) -> None:
        """Take the optimizer's step with the current gradient, and the further steps of a proximal update."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.learning_rate(update)
        if not self.plan.proximal:
            self.optimizer.step()
            return
        anchor = Anchor.at(self.parameters, self.plan.proximal)
        self.optimizer.step()
        for _ in range(self.plan.proximal_steps - 1):
            self.gradient(update, anchor)
            self.optimizer.step()

    def _blocks(self, indices: Tensor | None, drawn: list[Tensor], weights: Tensor | None) -> Iterator[Block]:
        """Split the samples of an update into blocks; each block is read and augmented only when it is needed."""
        num_samples = len(self.targets)
        count = num_samples if indices is None else len(indices)
        divisor = self._total_weight(count, indices)
        for part in self._division.parts(count, self.plan.chunk_size):
            if indices is None:
                inputs, targets = self._read(part)
            else:
                inputs, targets = self._read(indices[part] % num_samples)
            if drawn and isinstance(inputs, Tensor):
                inputs = self._augmentation(inputs, [numbers[part] for numbers in drawn])
            if self.plan.channels_last:
                inputs = mapped(inputs, _channels_last)
            total = self._terms_each * (part.stop - part.start) or self.loss.total_weight(targets)
            z = None if weights is None else weights[part].to(self.parameters[0].dtype)
            yield Block(inputs, targets, total, divisor, z)

    def _share(self, indices: Tensor | None) -> Share | None:
        if self._division.processes.size == 1:
            return None
        count = len(self.targets) if indices is None else len(indices)
        return Share(self._division, len(block_sizes(count, self.plan.chunk_size)), self._total_weight(count, indices))

    def _read(self, index: Index) -> tuple[Inputs, Tensor]:
        return samples_at(self.inputs, self.targets, index, self.targets.device, self.parameters[0].dtype)

    def _total_weight(self, count: int, indices: Tensor | None) -> float:
        """Return what the mean over a batch divides by; 1 instead of 0, because all targets of a batch may be ignored."""
        if self._terms_each:
            return self._terms_each * count
        chosen = self.targets if indices is None else self.targets[indices % len(self.targets)]
        return self.loss.total_weight(chosen) or 1


def _channels_last(part: Tensor) -> Tensor:
    return part.contiguous(memory_format=torch.channels_last) if part.ndim == _IMAGES else part


def _optimizer(parameters: list[nn.Parameter], plan: TrainingPlan) -> torch.optim.Optimizer:
    # One fused kernel per tensor halves the time of a step on a CPU, which matters for small networks.
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    if plan.optimizer == "adam":
        return torch.optim.Adam(parameters, betas=(plan.momentum, 0.999), weight_decay=plan.weight_decay, fused=fused)
    if plan.optimizer == "adamw":
        return torch.optim.AdamW(parameters, betas=(plan.momentum, 0.999), weight_decay=plan.weight_decay, fused=fused)
    if plan.optimizer == "rmsprop":
        return torch.optim.RMSprop(parameters, momentum=plan.momentum, weight_decay=plan.weight_decay)
    return torch.optim.SGD(
        parameters,
        lr=plan.lr,
        momentum=plan.momentum,
        weight_decay=plan.weight_decay,
        nesterov=plan.momentum > 0 and plan.momentum_rule == "nesterov",
        fused=fused,
    )
