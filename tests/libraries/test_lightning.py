"""A module trained by Lightning, in the file that its Trainer writes: the class and the data module are all that is named."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sharpcli.user_code import imported

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import lightning

Run = Callable[..., Any]
CODE = """
import lightning, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

class Net(lightning.LightningModule):
    def __init__(self, width=4, dropout=0.0, num_classes=3):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, num_classes))
        self.criterion = nn.CrossEntropyLoss(weight=torch.ones(num_classes))
    def forward(self, x): return self.net(x)
    def training_step(self, batch, index): return self.criterion(self(batch[0]), batch[1])
    def configure_optimizers(self): return torch.optim.Adam(self.parameters(), 1e-2)

class Data(lightning.LightningDataModule):
    def setup(self, stage):
        self.x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
        self.y = torch.arange(60) % 3
    def train_dataloader(self): return DataLoader(TensorDataset(self.x[:40], self.y[:40]), 8, shuffle=True)
    def val_dataloader(self): return DataLoader(TensorDataset(self.x[40:], self.y[40:]), 8)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, ModuleType, Any]]:
    """Return the file of a short training, its code, and the module in memory."""
    folder = tmp_path_factory.mktemp("lightning")
    code = folder / "litnet.py"
    code.write_text(CODE)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(), imported(f"{code}:Net") as (module, kind):
        warnings.simplefilter("ignore")
        lightning.seed_everything(0, verbose=False)
        net = kind(width=6)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=2, accelerator="cpu", **quiet)
        trainer.fit(net, module.Data())
        trainer.save_checkpoint(folder / "net.ckpt")
    net.trainer = None
    yield folder / "net.ckpt", module, net
    sys.modules.pop("litnet", None)


def values(sharpcli: Run, *words: object) -> list[float]:
    answer = sharpcli("hessian", *words, "--topk", 3, "--dtype", "float64", "--tol", 1e-8, "--json")
    assert answer.exit_code == 0, answer.stderr
    return [row["value"] for row in json.loads(answer.stdout)["result"]["eigenvalues"]]


def test_a_file_of_the_trainer(sharpcli: Run, trained: tuple[Path, ModuleType, Any]):
    """The width is 6 only in the file; λ against a dense Hessian by plain torch."""
    file, module, net = trained
    code = file.with_name("litnet.py")
    data = module.Data()
    data.setup("fit")
    x, y = data.x[:40].double(), data.y[:40]
    net = net.double().eval()
    names = [name for name, _ in net.named_parameters()]
    sizes = [part.numel() for part in net.parameters()]
    theta = torch.cat([part.detach().flatten() for part in net.parameters()])

    def wanted(weight: torch.Tensor | None = None) -> list[float]:
        def loss(vector: torch.Tensor) -> torch.Tensor:
            pieces = zip(names, net.parameters(), vector.split(sizes), strict=True)
            parts = {name: piece.view_as(part) for name, part, piece in pieces}
            return torch.nn.functional.cross_entropy(torch.func.functional_call(net, parts, (x,)), y, weight=weight)

        return torch.linalg.eigvalsh(torch.autograd.functional.hessian(loss, theta)).flip(0)[:3].tolist()

    for model in (f"{code}:Net", f"lightning:{code}:Net"):
        assert values(sharpcli, file, "--model", model, "--data", f"{code}:Data") == pytest.approx(wanted(), rel=1e-6)

    # The same file with class weights that are not all 1.
    weight, whole = torch.tensor([1.0, 2.0, 0.5]), torch.load(file, weights_only=False)
    whole["state_dict"]["criterion.weight"] = weight
    torch.save(whole, file.with_name("weighted.ckpt"))
    words = [file.with_name("weighted.ckpt"), "--model", f"{code}:Net", "--data", f"{code}:Data"]
    answer = sharpcli("hessian", *words, "--topk", 1)
    assert answer.exit_code == 0, answer.stderr
    assert "add --loss ce:weight=1/2/0.5." in " ".join(answer.stderr.split())
    assert values(sharpcli, *words, "--loss", "ce:weight=1/2/0.5") == pytest.approx(wanted(weight.double()), rel=1e-6)


def test_a_data_module_without_validation_data(tmp_path: Path) -> None:
    """The base class has a `val_dataloader` that only raises."""
    from sharpcli.datasets.user_data import splits_of

    class OnlyTraining(lightning.LightningDataModule):
        def train_dataloader(self) -> Any:
            return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.randn(9, 5), torch.arange(9) % 3), 4)

    data = splits_of(OnlyTraining(), "the data", None, -100, unlabelled=False)
    assert len(data.train) == 9
    assert data.parts().keys() == {"train"}


def test_an_argument_goes_before_the_record(sharpcli: Run, trained: tuple[Path, ModuleType, Any]):
    file, *_ = trained
    code = file.with_name("litnet.py")
    words = ["inspect", file, "--model", f"{code}:Net", "--data", f"{code}:Data"]
    answer = sharpcli(*words, "-v")
    assert answer.exit_code == 0, answer.stderr
    told = " ".join(answer.stderr.split())
    assert "width=6" in told
    assert "as the file records" in told
    answer = sharpcli(*words, "--model-arg", "width=5")
    assert answer.exit_code == 3
    assert "of another shape" in " ".join(answer.stdout.split())
