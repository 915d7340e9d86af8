"""Every command of docs/your-model.md runs as it stands, in a folder with files like those that it speaks of."""

from __future__ import annotations

import json
import logging
import re
import shlex
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

PAGE = Path(__file__).parents[2] / "docs" / "your-model.md"
CLASSES = 3
NET = """
import torch
from torch import nn
x, y = torch.randn(60, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 3
class Part(torch.utils.data.Dataset):
    def __init__(self, start, stop): self.rows = range(start, stop)
    def __len__(self): return len(self.rows)
    def __getitem__(self, number): return x[self.rows[number]], y[self.rows[number]]
train_loader = torch.utils.data.DataLoader(Part(0, 40), 8, shuffle=True)
test_loader = torch.utils.data.DataLoader(Part(40, 60), 8)
"""
IMAGES = """
from torch import nn
from torchvision import transforms
def make(num_classes): return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, num_classes))
transform = transforms.Compose([transforms.Resize(20), transforms.CenterCrop(16), transforms.ToTensor()])
"""
LIGHTNING = """
import lightning, torch
from torch import nn
class Net(lightning.LightningModule):
    def __init__(self, width=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(nn.Linear(5, width), nn.Tanh(), nn.Linear(width, 3))
    def forward(self, x): return self.net(x)
    def training_step(self, batch, index): return nn.functional.cross_entropy(self(batch[0]), batch[1])
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.1)
class DataModule(lightning.LightningDataModule):
    def train_dataloader(self):
        x, y = torch.randn(40, 5, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
        return torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), 8)
"""
TEXTS = """
import torch
def data():
    random = torch.Generator().manual_seed(0)
    rows, masks = torch.randint(1, 20, (24, 8), generator=random), torch.ones(24, 8, dtype=torch.long)
    masks[::3, 5:] = 0
    return {"train": [{"input_ids": rows, "attention_mask": masks, "labels": torch.arange(24) % 3}]}
"""


def block(after: str) -> str:
    """Return the code block of the page that begins with a line, without its indentation."""
    lines = PAGE.read_text().splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip().startswith(after))
    indent = len(lines[start]) - len(lines[start].lstrip())
    end = next(
        number for number in range(start, len(lines)) if lines[number].strip() and not lines[number].startswith(" " * indent)
    )
    return "\n".join(line[indent:] for line in lines[start:end])


def save(model: nn.Module, name: str = "net.pt") -> None:
    torch.save(model.state_dict(), name)


def plain() -> None:
    Path("net.py").write_text(f"{NET}\n{block('def make(): return nn.Sequential')}\n")
    Path("mine.py").write_text("from net import make as model, data\n")
    save(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)))


def pickled() -> None:
    plain()
    torch.save(nn.Sequential(nn.Flatten(), nn.Linear(784, 10)), "whole-model.pt")


def physics() -> None:
    code = "import torch\nfrom torch import nn\n"
    code += "def make(): return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1))\n"
    Path("net.py").write_text(f"{code}{block('def points(): return')}\ndata = points\n")
    save(nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 1)))


def numbers() -> None:
    Path("net.py").write_text(
        "from torch import nn\ndef make(): return nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3))\n"
    )
    save(nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    inputs, targets = np.random.default_rng(0).normal(size=(40, 4)).astype("float32"), np.arange(40) % CLASSES
    np.savez("arrays.npz", x_train=inputs, y_train=targets)
    torch.save({"x_train": torch.from_numpy(inputs), "y_train": torch.from_numpy(targets)}, "tensors.pt")


def table() -> None:
    Path("net.py").write_text("from torch import nn\ndef make(): return nn.Linear(2, 1)\n")
    save(nn.Linear(2, 1))
    rows = [f"{number % 7},{2 * number + 1},{number / 9:.3f}" for number in range(30)]
    Path("table.csv").write_text("\n".join(["rooms,price,age", *rows]) + "\n")


def images() -> None:
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog", "eel"):
            Path("pictures", part, name).mkdir(parents=True)
            for number in range(2):
                pixels = random.integers(0, 256, (24, 24, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(Path("pictures", part, name, f"{number}.png"))
    Path("net.py").write_text(IMAGES)
    save(nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, CLASSES)))


def torchvision_net() -> None:
    from torchvision.models import resnet18

    images()
    torch.manual_seed(0)
    save(resnet18(num_classes=CLASSES), "resnet.pth")


def timm_nets() -> None:
    images()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import timm
    torch.manual_seed(0)
    save(timm.create_model("vit_tiny_patch16_224", num_classes=CLASSES), "net.pth")
    small = timm.create_model("resnet10t", num_classes=CLASSES).state_dict()
    content = {"arch": "resnet10t", "args": {"lr": 0.1}, "version": 2, "state_dict": small, "state_dict_ema": small}
    torch.save(content, "model_best.pth.tar")


def texts() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import transformers
    logging.getLogger("transformers.configuration_utils").setLevel(logging.ERROR)
    torch.manual_seed(0)
    gpt = transformers.GPT2Config(vocab_size=20, n_positions=128, n_embd=8, n_layer=1, n_head=2)
    transformers.GPT2LMHeadModel(gpt).save_pretrained("gpt2-folder")
    size = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}
    bert = transformers.BertForSequenceClassification(transformers.BertConfig(**size, num_labels=3, max_position_embeddings=8))
    bert.save_pretrained("bert-folder")
    for name in ("model.safetensors", "config.json"):
        Path(name).write_bytes(Path("bert-folder", name).read_bytes())
    Path("net.py").write_text(TEXTS)
    rows = np.random.default_rng(0).integers(0, 20, (12, 9))
    np.savez("tokens.npz", x_train=rows[:, :-1], y_train=rows[:, 1:])
    np.save("text.npy", np.random.default_rng(0).integers(0, 20, 1500))


def lightning_file() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import lightning

        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        Path("net.py").write_text(LIGHTNING)
        space: dict[str, Any] = {"__name__": "net"}
        exec(LIGHTNING, space)
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
        trainer = lightning.Trainer(max_epochs=1, accelerator="cpu", **quiet)
        trainer.fit(space["Net"](width=6), space["DataModule"]())
        trainer.save_checkpoint("epoch=9.ckpt")


def distributed() -> None:
    import torch.distributed.checkpoint as dcp

    plain()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save({"model": torch.load("net.pt")}, checkpoint_id="checkpoint-folder")


MAKERS: dict[str, Callable[[], None]] = {
    "A training script of your own": plain,
    "Before anyone waits": plain,
    "One file, and defaults of a folder": plain,
    "A loss of your own": physics,
    "Images in folders": images,
    "torchvision": torchvision_net,
    "timm": timm_nets,
    "Hugging Face": texts,
    "Lightning": lightning_file,
    "A file that holds the model itself": pickled,
    "A folder of torch.distributed.checkpoint": distributed,
}
OTHERS: dict[str, Callable[[], None]] = {"csv:": table, "tokens:": texts, "npz:arrays": numbers, "pt:tensors": numbers}
SLOW = ("torchvision:resnet18", "vit_tiny", "model_best")
LONG = SLOW[:2]  # A minute each, for the checks of a model on images of 224 x 224 pixels.


def commands() -> list[Any]:
    """Return every command of the page with what makes its files; one in three is fast."""
    found = []
    for section in re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)[1:]:
        title, _, text = section.partition("\n")
        joined = re.sub(r"\\\n\s*", "", text)
        for line in re.findall(r"^ {4,}(sharpcli [a-z].*)$", joined, re.MULTILINE):
            maker = next((make for word, make in OTHERS.items() if word in line), None) or MAKERS[title]
            marks = [pytest.mark.slow] if len(found) % 3 or any(word in line for word in SLOW) else []
            marks = [pytest.mark.long] if any(word in line for word in LONG) else marks
            found.append(pytest.param(line, maker, id=line[9:70], marks=marks))
    return found


@pytest.mark.parametrize(("line", "maker"), commands())
def test_the_command_runs(
    line: str, maker: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sharpcli: Callable[..., Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    maker()
    name, *words = shlex.split(line)[1:]
    if name == "inspect":
        answer = sharpcli(name, *words)
        assert answer.exit_code == 3  # The numbers that it expects are those of nobody's net.
        assert "but expected 0.31" in answer.stdout
        return
    few = ["--samples", 2, "--max-hvp", 4, "--confirm", 0] if any(word in line for word in SLOW) else ["--samples", 6]
    answer = sharpcli(name, *words, "--topk", 1, *few, "--json")
    assert answer.exit_code == 0, answer.stderr
    result = json.loads(answer.stdout)["result"]
    assert len(result["eigenvalues"]) == 1
    assert result["conditions"]["num_samples"] == few[1]


def test_every_section_with_a_command_is_here() -> None:
    assert len(commands()) >= 19
    titles = re.findall(r"^## (.*)$", PAGE.read_text(), re.MULTILINE)
    assert set(MAKERS) <= set(titles)
