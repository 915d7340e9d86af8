"""The one training loop: take updates, evaluate, save, stop, and take up again where it was left.

Data order and learning rate are functions of the number of the update, so weights, optimizer and
random state at an update are all that is needed to continue exactly.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sharpcli import files, progress
from sharpcli.batchnorm import batch_norms
from sharpcli.datasets._splits import DataSplits, Split
from sharpcli.errors import NumericalError, SettingsError
from sharpcli.losses import LOSSES
from sharpcli.objective import Evaluation, Objective
from sharpcli.runtime import Runtime, generator
from sharpcli.training.batches import Batches
from sharpcli.training.gradient import clip, mean_gradient
from sharpcli.training.interrupt import deferred
from sharpcli.training.recipe import Recipe

_SAVE_SECONDS = 20.0
_STATE = "last.pt"
_NEAR, _CLOSER = 1.5, 5  # Within half of the wanted loss, evaluate five times as often.
_MODE_DEPENDENT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    updates: int
    train: Evaluation
    test: Evaluation
    last_learning_rate: float
    stopped_by: str


@dataclass(eq=False)
class Run:
    """A model in training and everything its next update depends on.

    Attributes:
        model: Trained in place; already on the device.
        folder: Where metrics, saved steps and the state to resume from go.
        identity: All that the weights depend on; a state of another identity is not resumed.
        save_step: Writes a checkpoint of the model as it is after so many updates, to a file.
    """

    model: nn.Module
    data: DataSplits
    loss: str
    recipe: Recipe
    runtime: Runtime
    seed: int
    folder: Path
    identity: dict[str, Any]
    save_step: Callable[[Path, int, float], None]
    updates: int = 0
    seconds: float = 0.0
    optimizer: torch.optim.Optimizer = field(init=False)
    _stepping: bool = field(default=False, init=False)
    metrics: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.optimizer = _optimizer(self.model, self.recipe)
        self._train, self._test = self._objective(self.data.train), self._objective(self.data.test)
        self._batches = Batches(self._train.num_samples, self.recipe.batch_size, self.seed)
        whole = self.recipe.batch_size >= self._train.num_samples
        # Data are often sorted by class: the blocks that BatchNorm sees in a full batch are drawn once, at random.
        mixed = torch.randperm(self._train.num_samples, generator=generator(self.seed, 5))
        self._blocks = mixed if whole and batch_norms(self.model) else None
        # Then the loss that a full-batch update meets is the training loss itself, at no cost.
        self._loss_is_exact = whole and not any(isinstance(part, _MODE_DEPENDENT) for part in self.model.modules())

    def resume(self) -> None:
        """Go back to the state that was saved last.

        Raises:
            SettingsError: It belongs to another model, data, recipe or seed.
        """
        state = files.read_object(self.folder / _STATE)
        identity = state.get("identity") if isinstance(state, dict) else None
        refuse_other(self.folder, identity if isinstance(identity, dict) else {}, self.identity)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and self.runtime.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], self.runtime.device)
        self.updates, self.seconds, self.metrics = state["updates"], state["seconds"], state["metrics"]

    def train(self) -> Outcome:
        """Run to the end of the recipe or to the wanted training loss.

        Raises:
            NumericalError: The loss is no longer finite; the last good state stays on disk.
            KeyboardInterrupt: Passed on, after the state has been saved.
        """
        started, saved_at = time.perf_counter() - self.seconds, time.perf_counter()
        evaluations, stopped_by = self._evaluate(), "end of schedule"
        length, rate = math.nan, 0.0
        if self.metrics and self.metrics[-1]["step"] == self.updates and self._reached(evaluations[0].loss):
            stopped_by = "training loss"  # It was interrupted after its last update.
        try:
            with deferred() as interrupt, progress.task(f"train {self.recipe.mode}", self.recipe.updates) as shown:
                shown.advance(self.updates)
                while self.updates < self.recipe.updates and stopped_by != "training loss":
                    interrupt.check()
                    loss, length, rate = self._update()
                    self.seconds = time.perf_counter() - started
                    if self._loss_is_exact and self._reached(loss):
                        evaluations = self._evaluate()  # Dropout that is no layer would make the loss above a noisy one.
                        if self._reached(evaluations[0].loss):
                            stopped_by = "training loss"
                            break
                    self._step(rate)
                    shown.advance(1, **self._fields(loss, rate, length, evaluations))
                    if self._is_due():
                        evaluations = self._evaluate()
                        self._record(evaluations, rate, length)
                        if self._reached(evaluations[0].loss):
                            stopped_by = "training loss"
                            break
                    if time.perf_counter() - saved_at > _SAVE_SECONDS:
                        self.save()
                        saved_at = time.perf_counter()
                interrupt.check()
        except KeyboardInterrupt:
            if not self._stepping:  # A second Ctrl-C may come in the middle of an update: that state is not whole.
                self.save()
            raise
        if not self.metrics or self.metrics[-1]["step"] != self.updates:
            evaluations = self._evaluate()
            self._record(evaluations, rate, length)
        last = self.recipe.learning_rate(max(self.updates - 1, 0))
        return Outcome(self.updates, *evaluations, last, stopped_by)

    def save(self) -> None:
        """Write the state to resume from."""
        state: dict[str, Any] = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "updates": self.updates,
            "seconds": self.seconds,
            "metrics": self.metrics,
        }
        if self.runtime.device.type == "cuda":
            state["cuda_random"] = torch.cuda.get_rng_state(self.runtime.device)
        files.write_object(self.folder / _STATE, state)

    def close(self) -> None:
        """Remove the state to resume from: the run is complete."""
        (self.folder / _STATE).unlink(missing_ok=True)

    def _objective(self, part: Split) -> Objective:
        return Objective.of(self.model, part.inputs, part.targets, loss=self.loss, runtime=self.runtime)

    def _update(self) -> tuple[float, float, float]:
        """Compute the clipped gradient of the next update; return loss, norm of the gradient and learning rate."""
        chosen = self._batches.indices(self.updates)
        chosen = self._blocks if chosen is None else chosen
        inputs, targets = self._train.inputs, self._train.targets
        if chosen is not None:
            chosen = chosen.to(self.runtime.device)
            inputs, targets = inputs[chosen], targets[chosen]
        with self._train.arithmetic():
            self.model.train()
            loss = mean_gradient(
                self.model, LOSSES[self.loss], inputs, targets, chunk_size=self.recipe.chunk_size, runtime=self.runtime
            )
        length = clip(self.model, self.recipe.clip)
        if not math.isfinite(loss) or not math.isfinite(length):
            raise self._diverged()
        return loss, length, self.recipe.learning_rate(self.updates)

    def _step(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self._stepping = True
        self.optimizer.step()
        self.updates += 1
        self._stepping = False
        if self.recipe.save_every and self.updates % self.recipe.save_every == 0:
            self.save_step(self.folder / f"step-{self.updates}.pt", self.updates, rate)

    def _is_due(self) -> bool:
        """Tell whether to evaluate now: more often near the wanted loss, which one pass of small batches can overshoot."""
        every, wanted = self.recipe.eval_every, self.recipe.stop_train_loss
        if wanted is not None and self.metrics and self.metrics[-1]["train_loss"] <= _NEAR * wanted:
            every = max(1, every // _CLOSER)
        return self.updates % every == 0 or self.updates == self.recipe.updates

    def _reached(self, loss: float) -> bool:
        return self.recipe.stop_train_loss is not None and loss <= self.recipe.stop_train_loss

    def _evaluate(self) -> tuple[Evaluation, Evaluation]:
        """Return loss and accuracy over both splits, in eval mode, with the model as it is now."""
        theta = self._train.space.flatten(dict(self.model.named_parameters())).detach()
        buffers = dict(self.model.named_buffers())
        evaluations = self._train.evaluate(theta, buffers), self._test.evaluate(theta, buffers)
        if not all(math.isfinite(evaluation.loss) for evaluation in evaluations):
            raise self._diverged()
        return evaluations

    def _diverged(self) -> NumericalError:
        return NumericalError(
            f"The loss of {self.recipe.mode} is not finite after update {self.updates}.",
            f"Use a lower --lr (now {self.recipe.lr:g}) or --clip 1; what was saved in {self.folder} is kept.",
        )

    def _fields(self, loss: float, rate: float, length: float, evaluations: tuple[Evaluation, Evaluation]) -> dict[str, object]:
        train, test = evaluations
        return {
            "loss": f"{loss:.4f}",
            "train_acc": "" if train.accuracy is None else f"{train.accuracy:.4f}",
            "test_acc": "" if test.accuracy is None else f"{test.accuracy:.4f}",
            "lr": f"{rate:.3g}",
            "grad": f"{length:.3g}",
        }

    def _record(self, evaluations: tuple[Evaluation, Evaluation], rate: float, length: float) -> None:
        """Add a line to metrics.jsonl, rewritten whole so that it never holds half a line or a line twice."""
        train, test = evaluations
        self.metrics.append(
            {
                "step": self.updates,
                "epoch": self.updates / self.recipe.updates_per_epoch,
                "train_loss": _number(train.loss),
                "train_accuracy": train.accuracy,
                "test_loss": _number(test.loss),
                "test_accuracy": test.accuracy,
                "lr": rate,
                "gradient_norm": _number(length),
                "seconds": round(self.seconds, 3),
            }
        )
        lines = "".join(json.dumps(line, allow_nan=False) + "\n" for line in self.metrics)
        files.write_bytes(self.folder / "metrics.jsonl", lines.encode())


def refuse_other(folder: Path, saved: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Refuse to continue a run that was made with other settings.

    Raises:
        SettingsError: They differ; what differs is named.
    """
    differing = [key for key in wanted if key != "recipe" and saved.get(key) != wanted[key]]
    differing += [key for key, value in wanted["recipe"].items() if saved.get("recipe", {}).get(key) != value]
    if differing:
        raise SettingsError(
            f"The run in {folder} was made with other settings ({', '.join(differing)}).",
            "Resume it with the command line that started it, or use --overwrite.",
        )


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if recipe.optimizer == "adam":
        return torch.optim.Adam(trained, betas=(recipe.momentum, 0.999), weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        trained, lr=recipe.lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay, nesterov=recipe.momentum > 0
    )
