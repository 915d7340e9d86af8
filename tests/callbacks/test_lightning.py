"""The callback in a real Trainer of Lightning."""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import sharpcli

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning

    from sharpcli.callbacks.lightning import SharpnessCallback

INPUTS = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
TARGETS = torch.arange(60) % 3


class Net(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x)

    def training_step(self, batch: Any) -> torch.Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), 0.1, momentum=0.9)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)]

    def train_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS[:40], TARGETS[:40]), 8, shuffle=True)

    def validation_step(self, batch: Any, index: int) -> None:
        pass

    def val_dataloader(self) -> Any:
        return DataLoader(TensorDataset(INPUTS[40:], TARGETS[40:]), 8)


def fitted(callbacks: list[Any], epochs: int = 3, checkpoint: Path | None = None, **options: Any) -> tuple[Net, Any]:
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightning.seed_everything(0, verbose=False)
        net = Net()
        trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", callbacks=callbacks, **quiet, **options)
        trainer.fit(net, ckpt_path=checkpoint)
    return net, trainer


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def test_the_trainer_is_followed(tmp_path: Path) -> None:
    callback = SharpnessCallback(tmp_path / "run", every=5, save_every=10)
    net, trainer = fitted([callback])
    sharp = lines(tmp_path / "run", "sharpness")
    assert [line["step"] for line in sharp] == [0, 5, 10, 15]
    rates = [0.1, 0.05, 0.025, 0.0125]  # Of the next step: the scheduler has changed the rate at the end of the epoch.
    assert [line["threshold"] for line in sharp] == pytest.approx([3.8 / rate for rate in rates])
    data = {"train": (INPUTS[:40], TARGETS[:40]), "test": (INPUTS[40:], TARGETS[40:])}
    net.trainer = None
    result = sharpcli.hessian(net, data, topk=1)
    assert sharp[-1]["lambda_max"] == pytest.approx(result.lambda_max, rel=1e-3)
    assert float(trainer.callback_metrics["lambda_max"]) == pytest.approx(sharp[-1]["lambda_max"], rel=1e-6)
    assert lines(tmp_path / "run", "metrics")[-1]["train_loss"] == pytest.approx(result.loss, rel=1e-6)
    assert {path.name for path in (tmp_path / "run").glob("*.pt")} == {"init.pt", "step-10.pt", "final.pt"}
    plain, _ = fitted([])
    for name, part in plain.state_dict().items():
        assert torch.equal(part, net.state_dict()[name])


def test_accumulated_gradients_are_one_step(tmp_path: Path) -> None:
    fitted([SharpnessCallback(tmp_path / "run", every=2)], accumulate_grad_batches=5)
    assert [line["step"] for line in lines(tmp_path / "run", "sharpness")] == [0, 2, 3]


def test_a_training_that_is_continued(tmp_path: Path) -> None:
    _, trainer = fitted([SharpnessCallback(tmp_path / "run", every=5)], epochs=2)
    trainer.save_checkpoint(tmp_path / "two.ckpt")
    fitted([SharpnessCallback(tmp_path / "run", every=5)], epochs=3, checkpoint=tmp_path / "two.ckpt")
    assert [line["step"] for line in lines(tmp_path / "run", "sharpness")] == [0, 5, 10, 15]


def test_ctrl_c_keeps_what_there_is(tmp_path: Path) -> None:
    class Stop(lightning.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            if trainer.global_step == 7:
                raise ValueError("stopped")

    with pytest.raises(ValueError, match="stopped"):
        fitted([SharpnessCallback(tmp_path / "run", every=5), Stop()])
    assert [line["step"] for line in lines(tmp_path / "run", "sharpness")] == [0, 5, 7]
    assert torch.load(tmp_path / "run" / "final.pt")["metadata"]["step"] == 7
