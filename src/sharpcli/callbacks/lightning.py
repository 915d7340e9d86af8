"""A callback for Lightning: `Trainer(callbacks=[SharpnessCallback("runs/mine")])`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

try:
    from lightning.pytorch import Callback
except ImportError:  # The same library under its older name.
    from pytorch_lightning import Callback

from sharpcli.callbacks.loaders import data_of
from sharpcli.callbacks.tracker import Tracker, track


class SharpnessCallback(Callback):  # type: ignore[misc]  # One of two libraries.
    """Follows λmax while a Trainer trains; see `sharpcli.track` for the records and the arguments.

    The last λmax is logged as "lambda_max" of the module.

    Args:
        folder: Folder for the records.
        data: Any form of data that `hessian` accepts. Default: the data sets of the trainer's loaders.
        **options: Further arguments of `sharpcli.track`, such as `every=100`, `loss="mse"` or `measure=("fisher-rao",)`.
    """

    def __init__(self, folder: str | Path, data: object = None, **options: Any) -> None:
        super().__init__()
        self.folder, self.data, self.options = folder, data, options
        self.tracker: Tracker | None = None

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Measure the initial weights, or continue the records if the training is continued."""
        data = self.data if self.data is not None else data_of(trainer.train_dataloader, trainer.val_dataloaders)
        optimizer = trainer.optimizers[0] if len(trainer.optimizers) == 1 else None
        known = {"optimizer": optimizer, "first_step": trainer.global_step}
        self.tracker = track(pl_module, data, self.folder, **{**known, **self.options})

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        """Count the steps of the optimizer, and log λmax."""
        if self.tracker is None:
            return
        while self.tracker.steps < trainer.global_step:
            self.tracker.step()
        if self.tracker.lambda_max is not None:
            pl_module.log("lambda_max", self.tracker.lambda_max, rank_zero_only=True)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:  # noqa: ARG002
        """Write the last weights."""
        self._close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:  # noqa: ARG002
        """Write the last weights, also after Ctrl-C."""
        self._close()

    def _close(self) -> None:
        if self.tracker is not None:
            self.tracker.close()
