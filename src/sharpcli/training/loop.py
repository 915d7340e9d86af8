"""The training loop: take updates, evaluate, save, stop, and resume.

Data order, augmentation, noise and learning rate are functions of the update number. So weights, optimizer state,
averages and the random state of dropout are sufficient to continue exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sharpcli import files, progress
from sharpcli.checkpoints import LAST_GOOD, OptimizerState
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import NumericalError
from sharpcli.files import ContentError
from sharpcli.losses import loss_of, smoothed
from sharpcli.runtime import Runtime
from sharpcli.training.averaged import AveragedWeights, Outcome, finished
from sharpcli.training.critical_tracking import CriticalTracker
from sharpcli.training.evaluator import BothSplits, Evaluator, losses_of
from sharpcli.training.interrupt import Interrupt, deferred
from sharpcli.training.measure_tracking import MeasureTracker
from sharpcli.training.methods.averaging import averages_of
from sharpcli.training.plan import TrainingPlan
from sharpcli.training.records import Records
from sharpcli.training.run_state import (
    RunState,
    forget_state,
    read_state,
    require_alike,
    require_slots,
    unusable,
    write_or_warn,
    write_state,
)
from sharpcli.training.tracking import DistanceTracker, SharpnessTracker, is_log_spaced, loss_of_training, theta_of
from sharpcli.training.update import Updater

_END, _LOSS = "end of schedule", "training loss"


@dataclass(eq=False)
class Run:
    """A model in training and everything its next update depends on.

    Attributes:
        model: Trained in place; already on the device.
        folder: Folder for records, saved steps and the state to resume from.
        identity: All settings that the weights depend on; a state with another identity is not resumed.
        save_step: Writes a checkpoint; takes path, weights, number of updates, learning rate, further metadata, and the state
            of the optimizer or None.
        state_seconds: Seconds between two saves of the state.
        label: Name in the progress display.
    """

    model: nn.Module
    data: DataSplits
    loss: str
    plan: TrainingPlan
    runtime: Runtime
    seed: int
    folder: Path
    identity: dict[str, Any]
    save_step: Callable[[Path, Mapping[str, Tensor], int, float, dict[str, Any], OptimizerState | None], None]
    state_seconds: float = 20.0
    label: str = "training"
    updates: int = 0
    seconds: float = 0.0
    records: Records = field(init=False)
    _whole: bool = field(default=True, init=False)
    _started: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        self.records = Records(self.folder)
        self._evaluator = Evaluator.of(
            self.model, self.data, loss=self.loss, plan=plan, runtime=self.runtime, folder=self.folder
        )
        train = self._evaluator.train
        inputs, targets = train.inputs, train.targets
        descended = train.criterion
        if plan.label_smoothing:
            descended = loss_of(smoothed(train.loss_name, plan.label_smoothing), targets)
        self.updater = Updater(self.model, inputs, targets, descended, plan, self.seed, train.processes)
        self._distance = DistanceTracker(train.space, theta_of(train.space, self.model))
        self._sharpness: SharpnessTracker | None = None
        if plan.track_sharpness:
            self._sharpness = SharpnessTracker.of(
                self.model, inputs, targets, loss=self.loss, plan=plan, runtime=self.runtime, batches=self.updater.batches
            )
        self._critical: CriticalTracker | None = None
        if plan.track_critical:
            batches = self.updater.batches
            followed = loss_of_training(
                self.model, inputs, targets, loss=self.loss, plan=plan, runtime=self.runtime, batches=batches
            )
            self._critical = CriticalTracker(followed, plan)
        self._measures = MeasureTracker.of(train, plan.track_measures, self.seed) if plan.track_measures else None
        self._averages = averages_of(plan.average, updates=plan.updates, updates_per_epoch=plan.updates_per_epoch)
        for average in self._averages:
            average.see(0, self.updater.parameters)

    def resume(self) -> None:
        """Restore the last saved state.

        Raises:
            InputError: The state cannot be read, or is not the state of a run.
            SettingsError: It belongs to another model, data, plan or seed.
        """
        state = read_state(self.folder, self.identity, self.runtime.device)
        try:
            self._restore(state)
        except ContentError as error:
            raise unusable(self.folder, str(error)) from error

    def _restore(self, state: RunState) -> None:
        own = self.model.state_dict()
        require_alike(state["model"], own, "model")
        for number, parts in state["optimizer"]["state"].items():
            if not 0 <= number < len(self.updater.parameters):
                raise ContentError(f"there is no parameter {number}")
            require_slots(parts, self.updater.parameters[number], self.plan.optimizer)
        if state["updates"] > self.plan.updates or len(state["averages"]) != len(self._averages):
            raise ContentError("its updates or averages are not those of the plan")
        for average, kept in zip(self._averages, state["averages"], strict=True):
            average.restore(kept["kind"], kept["count"], kept["means"], self.updater.parameters)
        if self._sharpness is not None:
            self._sharpness.restore(state["eigenvector"], state.get("preconditioned_eigenvector"))
        self.model.load_state_dict(state["model"])
        settings = self.updater.optimizer.state_dict()["param_groups"]
        self.updater.optimizer.load_state_dict({"state": state["optimizer"]["state"], "param_groups": settings})
        self.updates, self.seconds = state["updates"], state["seconds"]
        lines: dict[str, Any] = {**self.records.lines, **state["records"]}
        self.records.lines = lines

    def train(self) -> Outcome:
        """Train to the end of the plan or to the target training loss.

        Raises:
            NumericalError: The loss is no longer finite; the last good state stays on disk.
            KeyboardInterrupt: Raised again after the state is saved.
        """
        self._started = time.perf_counter() - self.seconds
        evaluations = self._evaluator.evaluate(self.updates)
        # After a resume, stop here only if an uninterrupted run would have evaluated at this update too.
        evaluated_before = not self.updates or self.records.has("metrics", self.updates)
        stopped_by = _LOSS if evaluated_before and self._evaluator.is_reached(evaluations[0].loss) else _END
        if not self.updates and not any(self.records.has(kind, 0) for kind in ("sharpness", "critical", "measures")):
            self._track()
        try:
            with deferred() as interrupt, self._evaluator.train.arithmetic(), self._task() as shown:
                evaluations, stopped_by = self._go(evaluations, stopped_by, interrupt, shown)
                interrupt.check()
        except KeyboardInterrupt:
            if self._whole:  # A second Ctrl-C may come during an update; then the previous saved state is used.
                self.save()
            raise
        except NumericalError:
            self._keep_good()
            raise
        write_or_warn(self.records.write, "the records")
        with suppress(NumericalError):  # The averages and the final files are made later, and that may be interrupted.
            write_or_warn(self.save, "the state to resume from")
        return Outcome(self.updates, *evaluations, self._last_rate(), stopped_by)

    def _go(
        self,
        evaluations: BothSplits,
        stopped_by: str,
        interrupt: Interrupt,
        shown: progress.Task,
    ) -> tuple[BothSplits, str]:
        """Take updates until the end; return the last evaluation and the reason for the end."""
        saved_at = time.perf_counter()
        while self.updates < self.plan.updates and stopped_by == _END:
            interrupt.check()
            self._whole = False
            loss = self._gradient()
            self.seconds = time.perf_counter() - self._started
            if self.updater.loss_is_exact and self._evaluator.is_reached(loss):
                # Functional dropout, which is not a module, would make the loss above noisy.
                evaluations = self._evaluator.evaluate(self.updates)
                if self._evaluator.is_reached(evaluations[0].loss):
                    stopped_by = _LOSS
                    break
            self._step()
            shown.advance(1, batch_loss=loss)
            if self._evaluator.is_due(self.updates, self.records.lines["metrics"]):
                evaluations = self._evaluator.evaluate(self.updates)
                self._record(evaluations)
                self._show(evaluations, shown)
                if self._evaluator.is_reached(evaluations[0].loss):
                    stopped_by = _LOSS
            self._whole = True
            if time.perf_counter() - saved_at > self.state_seconds:
                write_or_warn(self.save, "the state to resume from")
                saved_at = time.perf_counter()
        if not self.records.has("metrics", self.updates):
            evaluations = self._evaluator.evaluate(self.updates)
            self._record(evaluations)
        return evaluations, stopped_by

    def save(self) -> None:
        """Write the state to resume from.

        Raises:
            InputError: The state cannot be written.
            NumericalError: A weight is not finite.
        """
        self._evaluator.require_finite(self.updates)
        self.seconds = time.perf_counter() - self._started
        parts = {
            "model": self.model.state_dict(),
            "optimizer": self.updater.optimizer.state_dict(),
            "averages": [average.state() for average in self._averages],
            **(SharpnessTracker.NOTHING if self._sharpness is None else self._sharpness.state()),
            "updates": self.updates,
            "seconds": self.seconds,
            "records": self.records.lines,
        }
        write_state(self.folder, self.identity, parts, self.runtime.device)
        files.remove(self.folder / LAST_GOOD)  # From a divergence before this run was resumed.

    def close(self) -> None:
        """Remove the state to resume from: the run is complete."""
        forget_state(self.folder)

    def averaged(self) -> list[AveragedWeights]:
        """Return the averages that have begun, each with BatchNorm's statistics recomputed over the training data."""
        return finished(self._averages, self._evaluator, self.updater.parameters, self.updates, self._last_rate())

    def _task(self) -> Any:
        return progress.task(self.label, self.plan.updates, units="updates", done=self.updates)

    def _gradient(self) -> float:
        """Compute the gradient of the next update, and return its loss."""
        loss = float(self.updater.gradient(self.updates))  # The host waits for the device here, once an update.
        if not math.isfinite(loss):
            raise self._evaluator.diverged(self.updates)
        return loss

    def _step(self) -> None:
        self.updater.step(self.updates)
        self.updates += 1
        for average in self._averages:
            average.see(self.updates, self.updater.parameters)
        self._track()
        if self.plan.save_every and self.updates % self.plan.save_every == 0:
            self._evaluator.require_finite(self.updates)
            path = self.folder / f"step-{self.updates}.pt"
            write_or_warn(
                lambda: self.save_step(
                    path, self.model.state_dict(), self.updates, self._last_rate(), {}, self.updater.optimizer_state
                ),
                path.name,
            )

    def _track(self) -> None:
        """Record distance and sharpness if they are due after this number of updates."""
        every, often = self.plan.track_sharpness, self.plan.track_critical
        sharp = self._sharpness is not None and every and self.updates % every == 0
        critical = self._critical is not None and often and self.updates % often == 0
        due = self._measures is not None and self._measures.due(self.updates)
        if not sharp and not critical and not due and not is_log_spaced(self.updates):
            return
        theta = self._evaluator.require_finite(self.updates)
        if is_log_spaced(self.updates):
            self.records.add("distances", self._distance.measure(self.updates, theta))
        if sharp and self._sharpness is not None:
            self.records.add("sharpness", self._sharpness.measure(self.updates, theta, self.updater.optimizer_state))
        if critical and self._critical is not None:
            known = self.records.lines["critical"]
            self.records.add("critical", self._critical.measure(self.updates, theta, self.updater.optimizer_state, known))
        if due and self._measures is not None:
            for line in self._measures.measure(self.updates, theta, self.model):
                self.records.add("measures", line)

    def _keep_good(self) -> None:
        """Write the weights of the last evaluation, and the records."""
        if self._evaluator.good is not None:
            step, state = self._evaluator.good
            rate = self.plan.learning_rate(max(step - 1, 0))
            about = {"diverged_at": self.updates}
            write_or_warn(lambda: self.save_step(self.folder / LAST_GOOD, state, step, rate, about, None), LAST_GOOD)
        write_or_warn(self.records.write, "the records")

    def _last_rate(self) -> float:
        return self.plan.learning_rate(max(self.updates - 1, 0))

    def _show(self, evaluations: BothSplits, shown: progress.Task) -> None:
        """Report an evaluation and the updates left; with a target loss, they are estimated from the decrease of the loss."""
        train, test = evaluations
        left = self.plan.updates - self.updates
        if self.plan.stop_train_loss:
            wanted = self.plan.stop_train_loss
            known = [
                (line["step"], math.log(max(line["train_loss"], wanted) / wanted)) for line in self.records.lines["metrics"]
            ]
            likely = progress.left_of_fall(known)
            shown.expect(left if likely is None else min(left, likely))
        both = [evaluation.accuracy for evaluation in evaluations if evaluation is not None]
        accuracies = [f"{100 * accuracy:.1f}" for accuracy in both if accuracy is not None]
        shown.evaluated(
            train_loss=train.loss,
            test_loss=None if test is None else test.loss,
            accuracy=f"{' / '.join(accuracies)} %" if accuracies else None,
            lr=self._last_rate(),
        )

    def _record(self, evaluations: BothSplits) -> None:
        """Add a line to metrics.jsonl."""
        line = {
            "step": self.updates,
            "epoch": self.updates / self.plan.updates_per_epoch,
            **losses_of(evaluations),
            "lr": self._last_rate() if self.updates else 0.0,
            "gradient_norm": self.updater.gradient_norm if self.updates else math.nan,
            "seconds": round(self.seconds, 3),
        }
        self.records.add("metrics", line)
        write_or_warn(self.records.write, "the records")
