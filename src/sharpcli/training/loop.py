"""The one training loop: take updates, evaluate, save, stop, and take up again where it was left.

Data order, augmentation, noise and learning rate are functions of the number of the update, so weights, optimizer,
averages and the random state of dropout are all that is needed to continue exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import files, progress
from sharpcli.batchnorm import batch_norms
from sharpcli.datasets._splits import DataSplits, Split
from sharpcli.errors import InputError, NumericalError, SettingsError
from sharpcli.losses import loss_of, smoothed
from sharpcli.objective import Evaluation, Objective
from sharpcli.runtime import Runtime
from sharpcli.training.interrupt import Interrupt, deferred
from sharpcli.training.methods.averaging import averages_of
from sharpcli.training.recipe import Recipe
from sharpcli.training.records import Records
from sharpcli.training.tracking import DistanceTracker, SharpnessTracker, is_log_spaced, theta_of
from sharpcli.training.update import Updater

STATE = "last.pt"
# Near the wanted loss evaluate more often, and very near to it more often still: one pass of small batches can overshoot,
# and runs are to be compared at one loss.
_NEAR = ((1.1, 25), (1.5, 5))
_END, _LOSS = "end of schedule", "training loss"


@dataclass(frozen=True)
class Outcome:
    """How a run ended."""

    updates: int
    train: Evaluation
    test: Evaluation
    last_learning_rate: float
    stopped_by: str


@dataclass(frozen=True, eq=False)
class AveragedWeights:
    """An average of the weights, with BatchNorm's statistics recomputed for it.

    Attributes:
        kind: "tail", "ema" or "swa".
        count: Iterates in it.
        state: Parameters and buffers by name.
        outcome: Its losses.
    """

    kind: str
    count: int
    state: dict[str, Tensor]
    outcome: Outcome


@dataclass(eq=False)
class Run:
    """A model in training and everything its next update depends on.

    Attributes:
        model: Trained in place; already on the device.
        folder: Where records, saved steps and the state to resume from go.
        identity: All that the weights depend on; a state of another identity is not resumed.
        save_step: Writes a checkpoint of some weights as they are after so many updates, to a file.
        state_seconds: Between two saves of the state.
    """

    model: nn.Module
    data: DataSplits
    loss: str
    recipe: Recipe
    runtime: Runtime
    seed: int
    folder: Path
    identity: dict[str, Any]
    save_step: Callable[[Path, Mapping[str, Tensor], int, float], None]
    state_seconds: float = 20.0
    updates: int = 0
    seconds: float = 0.0
    records: Records = field(init=False)
    _stepping: bool = field(default=False, init=False)
    _good: tuple[int, dict[str, Tensor]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        recipe = self.recipe
        self.records = Records(self.folder)
        self._train, self._test = self._objective(self.data.train), self._objective(self.data.test)
        inputs, targets = self._train.inputs, self._train.targets
        descended = loss_of(smoothed(self.loss, recipe.label_smoothing), targets)
        self.updater = Updater(self.model, inputs, targets, descended, recipe, self.seed)
        self._distance = DistanceTracker(self._train.space, theta_of(self._train.space, self.model))
        self._sharpness: SharpnessTracker | None = None
        if recipe.track_sharpness:
            self._sharpness = SharpnessTracker.of(
                self.model, inputs, targets, loss=self.loss, recipe=recipe, runtime=self.runtime, batches=self.updater.batches
            )
        self._averages = averages_of(recipe.average, updates=recipe.updates, updates_per_epoch=recipe.updates_per_epoch)
        for average in self._averages:
            average.see(0, self.updater.parameters)

    def resume(self) -> None:
        """Go back to the state that was saved last.

        Raises:
            SettingsError: It belongs to another model, data, recipe or seed.
        """
        state = files.read_object(self.folder / STATE)
        identity = state.get("identity") if isinstance(state, dict) else None
        refuse_other(self.folder, identity if isinstance(identity, dict) else {}, self.identity)
        self.model.load_state_dict(state["model"])
        self.updater.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if "cuda_random" in state and self.runtime.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_random"], self.runtime.device)
        for average, kept in zip(self._averages, state["averages"], strict=True):
            average.restore(kept, self.runtime.device)
        if self._sharpness is not None:
            self._sharpness.restore(state["eigenvector"])
        self.updates, self.seconds, self.records.lines = state["updates"], state["seconds"], state["records"]

    def train(self) -> Outcome:
        """Run to the end of the recipe or to the wanted training loss.

        Raises:
            NumericalError: The loss is no longer finite; the last good state stays on disk.
            KeyboardInterrupt: Passed on, after the state has been saved.
        """
        started = time.perf_counter() - self.seconds
        evaluations = self._evaluate()
        stopped_by = _LOSS if self.records.has("metrics", self.updates) and self._reached(evaluations[0].loss) else _END
        if not self.updates:
            self._track()
        try:
            with deferred() as interrupt, self._train.arithmetic(), self._task() as shown:
                shown.advance(self.updates)
                evaluations, stopped_by = self._go(evaluations, stopped_by, started, interrupt, shown)
                interrupt.check()
        except KeyboardInterrupt:
            if not self._stepping:  # A second Ctrl-C may come in the middle of an update: that state is not whole.
                self.save()
            raise
        except NumericalError:
            self._keep_good()
            raise
        self._try(self.records.write, "the records")
        return Outcome(self.updates, *evaluations, self._last_rate(), stopped_by)

    def _go(
        self,
        evaluations: tuple[Evaluation, Evaluation],
        stopped_by: str,
        started: float,
        interrupt: Interrupt,
        shown: progress.Task,
    ) -> tuple[tuple[Evaluation, Evaluation], str]:
        """Take updates until the end; return the last evaluation and why it is the end."""
        saved_at = time.perf_counter()
        while self.updates < self.recipe.updates and stopped_by == _END:
            interrupt.check()
            loss = self._gradient()
            self.seconds = time.perf_counter() - started
            if self.updater.loss_is_exact and self._reached(loss):
                evaluations = self._evaluate()  # Dropout that is no layer would make the loss above a noisy one.
                if self._reached(evaluations[0].loss):
                    stopped_by = _LOSS
                    break
            self._step()
            shown.advance(1, **self._fields(loss, evaluations))
            if self._is_due():
                evaluations = self._evaluate()
                self._record(evaluations)
                if self._reached(evaluations[0].loss):
                    stopped_by = _LOSS
            if time.perf_counter() - saved_at > self.state_seconds:
                self._try(self.save, "the state to resume from")
                saved_at = time.perf_counter()
        if not self.records.has("metrics", self.updates):
            evaluations = self._evaluate()
            self._record(evaluations)
        return evaluations, stopped_by

    def save(self) -> None:
        """Write the state to resume from.

        Raises:
            InputError: It cannot be written.
            NumericalError: It is not finite.
        """
        self._require_finite()
        state: dict[str, Any] = {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizer": self.updater.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "averages": [average.state() for average in self._averages],
            "eigenvector": None if self._sharpness is None else self._sharpness.state(),
            "updates": self.updates,
            "seconds": self.seconds,
            "records": self.records.lines,
        }
        if self.runtime.device.type == "cuda":
            state["cuda_random"] = torch.cuda.get_rng_state(self.runtime.device)
        files.write_object(self.folder / STATE, state)

    def close(self) -> None:
        """Remove the state to resume from: the run is complete."""
        (self.folder / STATE).unlink(missing_ok=True)

    def averaged(self) -> list[AveragedWeights]:
        """Return the averages that have begun, each with BatchNorm's statistics recomputed over the training data."""
        found = []
        for average in self._averages:
            if not average.means:
                progress.warn(f"The average {average.kind} begins after update {average.start}, which the run did not reach.")
                continue
            means = [mean.to(old.dtype) for mean, old in zip(average.means, self.updater.parameters, strict=True)]
            theta = self._train.space.flatten(means)
            buffers = dict(self.model.named_buffers())
            if batch_norms(self.model):
                buffers |= self._train.recompute_buffers(theta)
            try:
                evaluations = self._evaluate_at(theta, buffers)
            except NumericalError:  # The last weights are good, and must not be lost with their average.
                progress.warn(f"The average {average.kind} has no finite loss, and is not kept.")
                continue
            state = {**self.model.state_dict(), **self._train.space.split(theta), **buffers}
            known = {name: tensor for name, tensor in state.items() if name in self.model.state_dict()}
            outcome = Outcome(self.updates, *evaluations, self._last_rate(), "average")
            found.append(AveragedWeights(average.kind, average.count, known, outcome))
        return found

    def _task(self) -> Any:
        return progress.task(f"train {self.recipe.mode}", self.recipe.updates)

    def _objective(self, part: Split) -> Objective:
        return Objective.of(self.model, part.inputs, part.targets, loss=self.loss, runtime=self.runtime)

    def _gradient(self) -> float:
        """Compute the gradient of the next update, and return the loss that it met."""
        loss = self.updater.gradient(self.updates)
        if not math.isfinite(loss):
            raise self._diverged()
        return loss

    def _step(self) -> None:
        self._stepping = True
        self.updater.step(self.updates)
        self.updates += 1
        for average in self._averages:
            average.see(self.updates, self.updater.parameters)
        self._stepping = False
        self._track()
        if self.recipe.save_every and self.updates % self.recipe.save_every == 0:
            self._require_finite()
            path = self.folder / f"step-{self.updates}.pt"
            self._try(lambda: self.save_step(path, self.model.state_dict(), self.updates, self._last_rate()), path.name)

    def _track(self) -> None:
        """Follow what is due after this many updates."""
        every = self.recipe.track_sharpness
        sharp = self._sharpness is not None and every and self.updates % every == 0
        if not sharp and not is_log_spaced(self.updates):
            return
        theta = self._require_finite()
        if is_log_spaced(self.updates):
            self.records.add("distances", self._distance.measure(self.updates, theta))
        if sharp and self._sharpness is not None:
            self.records.add("sharpness", self._sharpness.measure(self.updates, theta))

    def _require_finite(self) -> Tensor:
        """Return the weights (P,), of which nothing is kept that is not finite: the next loss would only show it later.

        Raises:
            NumericalError: They are not.
        """
        theta = theta_of(self._train.space, self.model)
        if not bool(torch.isfinite(theta).all()):
            raise self._diverged()
        return theta

    def _is_due(self) -> bool:
        """Tell whether to evaluate now."""
        every, wanted, metrics = self.recipe.eval_every, self.recipe.stop_train_loss, self.records.lines["metrics"]
        if wanted is not None and metrics:
            closer = next((times for factor, times in _NEAR if metrics[-1]["train_loss"] <= factor * wanted), 1)
            every = max(1, every // closer)
        return self.updates % every == 0 or self.updates == self.recipe.updates

    def _reached(self, loss: float) -> bool:
        return self.recipe.stop_train_loss is not None and loss <= self.recipe.stop_train_loss

    def _evaluate(self) -> tuple[Evaluation, Evaluation]:
        """Return loss and accuracy over both splits, in eval mode, with the model as it is now, which is kept as good."""
        theta = theta_of(self._train.space, self.model)
        evaluations = self._evaluate_at(theta, dict(self.model.named_buffers()))
        self._good = self.updates, {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        return evaluations

    def _evaluate_at(self, theta: Tensor, buffers: dict[str, Tensor]) -> tuple[Evaluation, Evaluation]:
        evaluations = self._train.evaluate(theta, buffers), self._test.evaluate(theta, buffers)
        if not all(math.isfinite(evaluation.loss) for evaluation in evaluations):
            raise self._diverged()
        return evaluations

    def _diverged(self) -> NumericalError:
        kept = "" if self._good is None else f"; the weights after update {self._good[0]} are in {self.folder}/last-good.pt"
        return NumericalError(
            f"Training '{self.recipe.mode}' diverged at update {self.updates}: the loss is no longer finite{kept}.",
            "Use a lower --lr, a longer --warmup, or --clip 1.",
        )

    def _keep_good(self) -> None:
        """Write the weights that were evaluated last, and the records."""
        if self._good is not None:
            step, state = self._good
            rate = self.recipe.learning_rate(max(step - 1, 0))
            self._try(lambda: self.save_step(self.folder / "last-good.pt", state, step, rate), "last-good.pt")
        self._try(self.records.write, "the records")

    def _try(self, write: Callable[[], None], what: str) -> None:
        """Write something that the run can do without; a full disk loses no more than that."""
        try:
            write()
        except InputError as error:
            progress.warn(f"Could not save {what}, and trained on: {error.message}")

    def _last_rate(self) -> float:
        return self.recipe.learning_rate(max(self.updates - 1, 0))

    def _fields(self, loss: float, evaluations: tuple[Evaluation, Evaluation]) -> dict[str, str]:
        """Return what is shown beside the bar."""
        train, test = evaluations
        accuracies = [evaluation.accuracy for evaluation in (train, test)]
        return {
            "batch": f"{loss:.4f}",
            "train": f"{train.loss:.4f}",
            "test": f"{test.loss:.4f}",
            "acc": "" if None in accuracies else " / ".join(f"{100 * (accuracy or 0):.1f}" for accuracy in accuracies),
            "lr": f"{self._last_rate():.3g}",
        }

    def _record(self, evaluations: tuple[Evaluation, Evaluation]) -> None:
        """Add a line to metrics.jsonl."""
        train, test = evaluations
        line = {
            "step": self.updates,
            "epoch": self.updates / self.recipe.updates_per_epoch,
            "train_loss": train.loss,
            "train_accuracy": train.accuracy,
            "test_loss": test.loss,
            "test_accuracy": test.accuracy,
            "lr": self._last_rate() if self.updates else 0.0,
            "gradient_norm": self.updater.gradient_norm if self.updates else math.nan,
            "seconds": round(self.seconds, 3),
        }
        self.records.add("metrics", line)
        self._try(self.records.write, "the records")


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
