"""Follow λmax, measures, losses and the distance from the start while other code trains a model, and keep them in a folder."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from sharpcli import __version__, checkpoints, files, progress
from sharpcli.analyses.hessian import largest, planner_for
from sharpcli.analyses.sharpness import RequestedMeasure, applicable_measures, requested_measures
from sharpcli.callbacks.optimizers import Rates
from sharpcli.checkpoints import OptimizerState
from sharpcli.curvature.planner import Planner
from sharpcli.curvature.preconditioner import ADAPTIVE, preconditioner_of, warn_of_batch_norm
from sharpcli.datasets.splits import DataSplits
from sharpcli.errors import InputError, SettingsError, SharpcliError, described
from sharpcli.loading import LiveModel, LoadedCheckpoint, live_or_file, load_checkpoint
from sharpcli.models.user_models import inside
from sharpcli.objective import Objective
from sharpcli.processes import is_first_process
from sharpcli.random_states import random_states_kept
from sharpcli.settings import HessianSettings, chosen
from sharpcli.training.records import NAMES, Records
from sharpcli.training.run_folder import forget_aside, refuse_to_overwrite, set_aside
from sharpcli.training.run_state import write_or_warn
from sharpcli.training.tracking import DistanceTracker, adaptive_line, is_log_spaced, sharpness_line

_INIT, _FINAL = "init.pt", "final.pt"


@dataclass(eq=False)
class Tracker:
    """Follows a model that the caller trains; made by `track`. As a context manager it closes itself.

    Attributes:
        model: The model in training, without outer wrappers. It is only read.
        data: The data of the losses.
        objectives: The mean loss over each split, with a copy of the model.
        settings: Settings of the eigenvalues.
        folder: Folder of the records.
        every: Steps between two measurements.
        measures: Measures in addition to λmax.
        save_every: Steps between two saved checkpoints; 0 for none.
        rates: Learning rate and threshold of the optimizer.
        steps: Number of steps so far.
    """

    model: nn.Module
    data: DataSplits
    objectives: dict[str, Objective]
    settings: HessianSettings
    folder: Path
    every: int
    measures: tuple[RequestedMeasure, ...]
    save_every: int
    rates: Rates
    steps: int = 0
    records: Records = field(init=False)
    _planner: Planner = field(init=False)
    _vectors: Tensor | None = field(default=None, init=False)
    _preconditioned: Tensor | None = field(default=None, init=False)
    _started: float = field(default_factory=time.perf_counter, init=False)
    _closed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        main = self._main
        self.records, self._planner = Records(self.folder), planner_for(self.settings)
        self._trained_at_start = self._trained()
        wanted = main.model.state_dict()
        self._names = checkpoints.aligned(self.model.state_dict(), wanted)
        state = self._take_weights()
        if self.steps and files.is_there(self.folder / _INIT):
            start = checkpoints.read(self.folder / _INIT)
            self._require_same(start)
            self._init_sha256 = start.sha256()
            theta = main.space.flatten({name: start.state[name] for name in main.space.names}).to(main.parameters())
            self._continue()
        else:
            self._init_sha256 = checkpoints.state_sha256(state)
            self._write(_INIT, state, {})
            theta = main.parameters()
        self._distance = DistanceTracker(main.space, theta)
        if not self.records.has("sharpness", self.steps):
            with _apart():
                self._measure()
        self.records.write()

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.close()

    def step(self) -> None:
        """Count a step of the optimizer, and measure and save if this is due.

        A measurement that fails is reported with a warning, and training goes on.
        """
        self.steps += 1
        measured, near = self.steps % self.every == 0, is_log_spaced(self.steps)
        saved = self.save_every > 0 and self.steps % self.save_every == 0
        if not (measured or near or saved):
            return
        state = self._take_weights()
        if near:
            self.records.add("distances", self._distance.measure(self.steps, self._main.parameters()))
        if measured:
            self._attempt()
        with _apart():  # A full disk must not end the training.
            if saved:
                name = f"step-{self.steps}.pt"
                write_or_warn(lambda: self._write(name, state, {}), name)
            if measured or saved:
                write_or_warn(self.records.write, "the records")

    def close(self) -> None:
        """Measure at the last step, and write the records and the last weights with their losses."""
        if self._closed:
            return
        self._closed = True
        state = self._take_weights()
        if not self.records.has("metrics", self.steps):
            self._attempt()
        last = self.records.lines["metrics"][-1] if self.records.has("metrics", self.steps) else {}
        losses = {name: value for name, value in last.items() if name.startswith(("train_", "test_"))}
        forget_aside(self.folder)
        self._write(_FINAL, state, {"stopped_by": "end of training", **({"final": losses} if losses else {})})
        self.records.write()

    @property
    def lambda_max(self) -> float | None:
        """The last λmax; None if no measurement has succeeded."""
        lines = self.records.lines["sharpness"]
        value: float | None = lines[-1]["lambda_max"] if lines else None
        return value

    @property
    def _main(self) -> Objective:
        """The loss that is followed."""
        return self.objectives[self.settings.split]

    def _take_weights(self) -> dict[str, Tensor]:
        """Copy the present weights and buffers of the model into the objectives, and return them, on the CPU."""
        present = self.model.state_dict()
        state = {self._names[name]: part.detach().cpu().clone() for name, part in present.items() if isinstance(part, Tensor)}
        unsaved = {name: part for name, part in self.model.named_buffers() if name not in present}
        for objective in self.objectives.values():
            objective.model.load_state_dict(state)
            for name, part in objective.model.named_buffers():
                if name in unsaved and unsaved[name].shape == part.shape:
                    part.copy_(unsaved[name])
        return state

    def _trained(self) -> frozenset[str]:
        """Return the names of the parameters that have a gradient."""
        return frozenset(name for name, part in self.model.named_parameters() if part.requires_grad)

    def _attempt(self) -> None:
        try:
            with _apart():
                self._measure()
        except SharpcliError as error:
            _warn(f"sharpcli has not measured at step {self.steps}: {error.message}")
        except RuntimeError as error:  # Such as a device without free memory: the training of the caller goes on.
            _warn(f"sharpcli has not measured at step {self.steps}: {described(error)}.")

    def _measure(self) -> None:
        """Add a line to the metrics and one to the sharpness."""
        objective, rate = self._main, self.rates.now()
        if self._trained() != self._trained_at_start:
            progress.warn("Other parameters are trained than at the start; the tracker still follows those of the start.")
        losses: dict[str, float | None] = {}
        for split, part in self.objectives.items():
            evaluation = part.evaluate(part.parameters())
            losses |= {f"{split}_loss": evaluation.loss, f"{split}_accuracy": evaluation.accuracy}
        seconds = round(time.perf_counter() - self._started, 3)
        self.records.add("metrics", {"step": self.steps, **losses, "lr": rate, "seconds": seconds})
        theta = objective.parameters()
        pairs = largest(objective, self.settings, self._planner, theta=theta, warm=self._vectors)
        self._vectors = pairs.vectors
        line = self._against_adaptive(sharpness_line(self.steps, pairs, rate, self.rates.threshold()), theta)
        if len(pairs.values) > 1:
            line["eigenvalues"] = [float(value) for value in pairs.values]
        if self.measures:
            line["measures"] = {one.label: one.read(objective, theta, self.settings.seed).value for one in self.measures}
        self.records.add("sharpness", line)

    def _against_adaptive(self, line: dict[str, Any], theta: Tensor) -> dict[str, Any]:
        """Return a line of sharpness.jsonl, with the preconditioned Hessian if the optimizer is adaptive."""
        state, space = self._optimizer_state(), self._main.space
        full = self.settings.operator == "hessian" and not self.settings.params
        if state is None or state.name not in ADAPTIVE or not state.tensors or not full:
            return line
        try:
            adaptive = preconditioner_of(state, space, "this process", space.names)
        except InputError as error:
            progress.warn(f"The threshold of stability is not known: {error.message}")
            return line
        if self._preconditioned is None:  # The first time.
            warn_of_batch_norm(self._main.bn)
        wanted = replace(self.settings, operator="preconditioned", topk=1, bottomk=0)
        pairs = largest(self._main, wanted, self._planner, theta=theta, warm=self._preconditioned, scale=adaptive.scale(space))
        self._preconditioned = pairs.vectors
        return adaptive_line(line, pairs, adaptive, space)

    def _optimizer_state(self) -> OptimizerState | None:
        """Return the state of the optimizer by the names of the parameters in the records."""
        if self.rates.optimizer is None:
            return None
        return OptimizerState.of(
            self.rates.optimizer, ((self._names.get(name, name), part) for name, part in self.model.named_parameters())
        )

    def _require_same(self, start: checkpoints.Checkpoint) -> None:
        """Refuse to continue the records of another model, loss or data set."""
        shapes = {name: part.shape for name, part in self._main.model.state_dict().items()}
        about = start.metadata
        same_data = about.get("data", {}).get("fingerprint") == self.data.fingerprint()
        if {name: part.shape for name, part in start.state.items()} != shapes:
            what = "model"
        elif about.get("loss") != self._main.loss_name or not same_data:
            what = "loss" if same_data else "data"
        else:
            return
        raise SettingsError(f"The records in {self.folder} are of another {what}.", "Use another folder.")

    def _continue(self) -> None:
        """Read the records up to the present number of steps, which earlier sessions have written."""
        for kind in NAMES:
            place = self.folder / f"{kind}.jsonl"
            lines = files.read_lines(place, dict[str, Any], "Use another folder.") if files.is_there(place) else []
            self.records.lines[kind] = [line for line in lines if line.get("step", 0) <= self.steps]

    def _write(self, name: str, state: dict[str, Tensor], about: dict[str, Any]) -> None:
        sizes = {f"num_{split}": len(part) for split, part in self.data.parts().items()}
        metadata = {
            "name": self.folder.name,
            "sharpcli": __version__,
            "loss": self._main.loss_name,
            "data": {"fingerprint": self.data.fingerprint(), **sizes},
            "plan": self.rates.plan(),
            "step": self.steps,
            "last_learning_rate": self.rates.now(),
            "parameters": list(self._main.space.names),
            "init": {"path": _INIT, "sha256": self._init_sha256},
        }
        optimizer = None if name == _INIT else self._optimizer_state()
        checkpoints.write(self.folder / name, state, {**metadata, **about}, optimizer)


class IdleTracker(Tracker):
    """The tracker of all processes of a parallel training except the first: it only counts steps."""

    def __init__(self, first_step: int) -> None:
        self.steps = first_step

    def step(self) -> None:
        """Count a step."""
        self.steps += 1

    def close(self) -> None:
        """Do nothing."""

    @property
    def lambda_max(self) -> float | None:
        """None."""
        return None


def track(
    model: nn.Module,
    data: object,
    folder: str | Path,
    *,
    every: int = 100,
    measure: Sequence[str] = (),
    save_every: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    first_step: int = 0,
    overwrite: bool = False,
    settings: HessianSettings | None = None,
    **options: object,
) -> Tracker:
    """Follow a model that the caller trains, in three lines:

        tracker = sharpcli.track(model, data, "runs/mine", optimizer=optimizer)
        tracker.step()  # After each optimizer.step().
        tracker.close()

    At the start and every N-th step, λmax is computed on a copy of the model in eval mode, with the losses of all splits and
    the requested measures. Each search starts at the previous eigenvectors. Model, optimizer and random numbers of the caller
    do not change. Parameters and buffers are read at each measurement; other attributes of the model are those of the start,
    and data are not copied. The folder gets the files of a run of `sharpcli train`, which the commands read:

    - `sharpness.jsonl`: λmax with its interval, the threshold of stability for SGD, and the measures; for Adam, AdamW, NAdam,
      RMSprop and Adagrad also λmax of the preconditioned Hessian, which their threshold is about;
    - `metrics.jsonl`: losses and accuracies; `distances.jsonl`: the distance from the start at log-spaced steps;
    - `init.pt`, `step-N.pt` every `save_every` steps, and `final.pt`, for `distance` and `hessian --along-run`.

    Of several processes (torch.distributed) only the first one measures, while the others wait at their next exchange.

    Args:
        model: The model in training; wrappers such as that of torch.compile are removed from the copy.
        data: Any form of data that `hessian` accepts, without augmentation; a part "test" is optional.
        folder: Folder for the records.
        every: Steps between two measurements.
        measure: Measures of `sharpness`, such as "fisher-rao" or "average-case:sigma=0.01".
        save_every: Steps between two saved checkpoints; 0 for none.
        optimizer: Gives the learning rate, the threshold of stability, and the state that is saved with the weights.
        first_step: Number of steps that the model has already been trained; above 0 the records in the folder are continued.
        overwrite: Whether a run in the folder is replaced.
        settings: Settings of the eigenvalues; by default the largest one of the training loss.
        **options: Fields of the settings, instead of `settings`, such as `loss="mse"`, `samples=1000` or `topk=5`.

    Raises:
        SettingsError: A setting is not valid, or the folder holds a run.
        InputError: The parameters are distributed over several processes.
        SharpcliError: Model and data cannot be analysed; see `hessian`.
    """
    if every < 1 or save_every < 0 or first_step < 0:
        raise SettingsError("every must be at least 1, save_every and first_step at least 0.", "Correct these arguments.")
    if not is_first_process():
        return IdleTracker(first_step)
    _require_whole(model)
    place, options = live_or_file(model, data, options if settings else {"topk": 1, **options})
    assert isinstance(place, LiveModel)
    settings = chosen(HessianSettings, settings, options)
    if settings.topk < 1 or settings.split == "both" or settings.along_run:
        raise SettingsError("A tracker follows the largest eigenvalues on one split.", "Use topk=1 or more, and one split.")
    measures = tuple(requested_measures([measure] if isinstance(measure, str) else measure))
    where = files.from_root(folder)
    if not first_step and not overwrite:
        refuse_to_overwrite(where)
    with _apart():
        loaded = load_checkpoint(place, settings)
        objectives = {split: _objective(loaded, split, settings) for split in loaded.data.parts()}
        if "all" in measure:
            measures = tuple(applicable_measures(measures, objectives[settings.split]))
        if first_step and not files.is_there(where / _INIT):
            progress.warn(f"{where} has no records of the first {first_step} steps: distances are those from this step on.")
        if overwrite and where.exists():  # Only now: the model can be followed.
            set_aside(where)
        return Tracker(
            inside(model), loaded.data, objectives, settings, where, every, measures, save_every, Rates(optimizer), first_step
        )


def _objective(loaded: LoadedCheckpoint, split: str, settings: HessianSettings) -> Objective:
    """Return the mean loss over a split; the options of the matrix are for the split that is followed."""
    if split == settings.split:
        return loaded.objective(split, **settings.matrix())
    if settings.samples is not None:
        settings = replace(settings, samples=min(settings.samples, len(loaded.data.part(split))))
    return replace(loaded, settings=settings).objective(split)


def _require_whole(model: nn.Module) -> None:
    """Refuse parameters of which each process has only a part."""
    kinds = {type(part).__name__ for part in (*model.parameters(), *model.modules())}
    if kinds & {"DTensor", "FullyShardedDataParallel", "FSDPModule", "FlatParameter"}:
        raise InputError(
            "The parameters are distributed over several processes, and a tracker needs all of them in one.",
            "Save checkpoints, and analyse these with sharpcli hessian.",
        )


@contextmanager
def _apart() -> Iterator[None]:
    """Give the warnings of an analysis as warnings of Python, and leave the random numbers of the caller as they are."""
    with progress.gathering() as messages, random_states_kept():
        try:
            yield
        finally:
            for message in dict.fromkeys(messages):
                _warn(message)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=4)
