"""A callback for the Trainer of Hugging Face: `Trainer(..., callbacks=[SharpnessCallback("runs/mine")])`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from sharpcli.callbacks.loaders import data_of
from sharpcli.callbacks.tracker import Tracker, track


class SharpnessCallback(TrainerCallback):  # type: ignore[misc]  # transformers has no types.
    """Follows λmax while a Trainer trains; see `sharpcli.track` for the records and the arguments.

    The model must be built with `attn_implementation="eager"`: other kernels of attention have no second derivative.

    Args:
        folder: Folder for the records.
        data: Any form of data that `hessian` accepts. Default: the data sets of the trainer's loaders.
        **options: Further arguments of `sharpcli.track`, such as `every=100` or `measure=("fisher-rao",)`.
    """

    def __init__(self, folder: str | Path, data: object = None, **options: Any) -> None:
        self.folder, self.data, self.options = folder, data, options
        self.tracker: Tracker | None = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Measure the initial weights, or continue the records if the training is continued."""
        data = self.data if self.data is not None else data_of(given.get("train_dataloader"), given.get("eval_dataloader"))
        optimizer = getattr(given.get("optimizer"), "optimizer", given.get("optimizer"))  # Without the wrapper of accelerate.
        known = {"optimizer": optimizer, "first_step": state.global_step}
        self.tracker = track(given["model"], data, self.folder, **{**known, **self.options})

    def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Count the steps of the optimizer."""
        if self.tracker is not None:
            while self.tracker.steps < state.global_step:
                self.tracker.step()

    def on_train_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:  # noqa: ARG002
        """Write the last weights."""
        if self.tracker is not None:
            self.tracker.close()
