"""Small random nets of timm and transformers, in the files that they write, against eigenvalues computed in plain torch."""

from __future__ import annotations

import json
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torchvision.datasets import ImageFolder
from torchvision.models import resnet18

from tests.datasets.test_transforms import picture_folder
from tests.nets import double_differentiation

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import timm
    import transformers

Run = Callable[..., Any]
VOCABULARY, LENGTH, TEXTS = 11, 8, 12


def eigenvalues(model: nn.Module, inputs: Tensor, targets: Tensor, count: int, **more: Tensor) -> list[float]:
    """Return the largest eigenvalues of the Hessian of the mean cross-entropy in float64, by ARPACK on products of autograd."""
    model = model.double().eval()
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    weights = {name: part.detach().requires_grad_() for name, part in model.named_parameters()}
    parts = list(weights.values())
    with double_differentiation():
        answer = functional_call(model, weights, (inputs,), more)
        logits = getattr(answer, "logits", answer)
        loss = functional.cross_entropy(logits.flatten(0, -2), targets.flatten())
        slopes = torch.autograd.grad(loss, parts, create_graph=True, allow_unused=True, materialize_grads=True)

        def product(vector: np.ndarray) -> np.ndarray:
            pieces = torch.split(torch.from_numpy(vector.ravel()), [part.numel() for part in parts])
            along = [piece.view_as(part) for piece, part in zip(pieces, parts, strict=True)]
            made = torch.autograd.grad(slopes, parts, along, retain_graph=True, allow_unused=True, materialize_grads=True)
            return torch.cat([part.flatten() for part in made]).numpy()

        size = sum(part.numel() for part in parts)
        found = eigsh(
            LinearOperator((size, size), product, dtype=float), k=count, which="LA", tol=1e-10, return_eigenvectors=False
        )
    return sorted(found.tolist(), reverse=True)


def answered(sharpcli: Run, *words: object, count: int = 2) -> list[float]:
    options = ["--topk", count, "--tol", 1e-8, "--dtype", "float64", "--json"]
    answer = sharpcli("hessian", *words, *options)
    assert answer.exit_code == 0, answer.stderr
    return [row["value"] for row in json.loads(answer.stdout)["result"]["eigenvalues"]]


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("texts")
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (TEXTS, LENGTH))
    labels = np.arange(TEXTS) % 3
    np.savez(folder / "next.npz", x_train=ids[:, :-1], y_train=ids[:, 1:])
    np.savez(folder / "class.npz", x_train=ids, y_train=labels)
    return {"folder": folder, "ids": torch.from_numpy(ids), "labels": torch.from_numpy(labels)}


def gpt() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"n_positions": LENGTH, "n_embd": 8, "n_layer": 1, "n_head": 2, "bos_token_id": 0, "eos_token_id": 0}
    return transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=VOCABULARY, **sizes))


def bert() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.BertConfig(vocab_size=VOCABULARY, max_position_embeddings=LENGTH, num_labels=3, **sizes)
    return transformers.BertForSequenceClassification(config)


@pytest.mark.parametrize("shards", [False, True])
def test_a_language_model_in_a_folder_of_hugging_face(sharpcli: Run, texts: dict[str, Any], tmp_path: Path, shards: bool):
    """The folder says all: no --model is needed. The head is tied to the embedding, and counted once."""
    model = gpt()
    model.save_pretrained(tmp_path, **({"max_shard_size": "2KB"} if shards else {}))
    assert (tmp_path / "model.safetensors.index.json").exists() == shards
    found = answered(sharpcli, tmp_path, "--data", f"npz:{texts['folder'] / 'next.npz'}")
    wanted = eigenvalues(model, texts["ids"][:, :-1], texts["ids"][:, 1:].reshape(-1), 2)
    assert found == pytest.approx(wanted, rel=1e-7)


def test_a_classifier_of_texts(sharpcli: Run, texts: dict[str, Any], tmp_path: Path):
    model = bert()
    model.save_pretrained(tmp_path)
    data = f"npz:{texts['folder'] / 'class.npz'}"
    wanted = pytest.approx(eigenvalues(model, texts["ids"], texts["labels"], 2), rel=1e-7)
    assert answered(sharpcli, tmp_path, "--data", data) == wanted
    weights = tmp_path / "model.safetensors"
    assert answered(sharpcli, weights, "--model", "hf:BertForSequenceClassification", "--data", data) == wanted


MASKED = """
from pathlib import Path
import torch
saved = torch.load(Path(__file__).with_name("texts.pt"))
class Texts(torch.utils.data.Dataset):
    def __len__(self): return len(saved["input_ids"])
    def __getitem__(self, i): return {name: part[i] for name, part in saved.items()}
def texts(): return torch.utils.data.DataLoader(Texts(), batch_size=5)
"""


@pytest.mark.parametrize("kind", ["bert", "gpt"])
def test_texts_of_different_lengths_with_a_mask(sharpcli: Run, texts: dict[str, Any], tmp_path: Path, kind: str):
    """A loader of dictionaries, as a collator of Hugging Face gives them: the mask goes to the model by its name."""
    model = bert() if kind == "bert" else gpt()
    model.save_pretrained(tmp_path)
    lengths = torch.arange(TEXTS) % 5 + 4
    mask = (torch.arange(LENGTH) < lengths[:, None]).long()
    ids = texts["ids"] * mask
    labels = texts["labels"] if kind == "bert" else ids.masked_fill(mask == 0, -100)
    torch.save({"input_ids": ids, "attention_mask": mask, "labels": labels}, tmp_path / "texts.pt")
    (tmp_path / "mine.py").write_text(MASKED)
    found = answered(sharpcli, tmp_path, "--data", f"{tmp_path / 'mine.py'}:texts")
    if kind == "gpt":  # The tokens are their own labels, so the targets are the next ones.
        ids, mask, labels = ids[:, :-1], mask[:, :-1], labels[:, 1:]
    wanted = eigenvalues(model, ids, labels.reshape(-1), 2, attention_mask=mask)
    assert found == pytest.approx(wanted, rel=1e-7)
    without = eigenvalues(model, ids, labels.reshape(-1), 2)
    assert (found == pytest.approx(without, rel=1e-5)) == (kind == "gpt")  # Padding on the right changes no earlier token.


def test_a_folder_that_is_damaged_or_says_too_little(sharpcli: Run, texts: dict[str, Any], tmp_path: Path):
    gpt().save_pretrained(tmp_path, max_shard_size="2KB")
    words = ["hessian", tmp_path, "--data", f"npz:{texts['folder'] / 'next.npz'}"]
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())

    def refused(*more: object) -> str:
        answer = sharpcli(*words, *more)
        assert answer.exit_code in (2, 3)
        assert answer.stdout == ""
        return answer.stderr.replace("\n", " ")

    assert "no model class called 'GPT'" in refused("--model", "hf:GPT")
    for name in ("../elsewhere.safetensors", "gone.safetensors"):
        index.write_text(json.dumps({"weight_map": {**content["weight_map"], "transformer.wte.weight": name}}))
        assert "which is not in its folder" in refused() or "which is missing" in refused()
    some = next(iter(set(content["weight_map"].values()) - {content["weight_map"]["transformer.wte.weight"]}))
    index.write_text(json.dumps({"weight_map": {**content["weight_map"], "transformer.wte.weight": some}}))
    assert "does not contain the tensor 'transformer.wte.weight'" in refused()
    index.write_text(json.dumps(content))
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "no-such"}))
    assert "describes no model that transformers knows" in refused()
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": None}))
    assert "does not name the class of the model" in refused()
    (tmp_path / "config.json").unlink()
    assert "does not name the model of its weights" in refused()


def test_code_that_a_config_names_is_not_run(sharpcli: Run, texts: dict[str, Any], tmp_path: Path):
    gpt().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    named = {"model_type": "mine", "auto_map": {"AutoConfig": "evil.Config", "AutoModel": "evil.Model"}}
    (tmp_path / "config.json").write_text(json.dumps({**config, **named}))
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Config: pass\n")
    answer = sharpcli("hessian", tmp_path, "--data", f"npz:{texts['folder'] / 'next.npz'}")
    assert answer.exit_code == 3
    assert not (tmp_path / "ran").exists()


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return picture_folder(tmp_path_factory.mktemp("pictures") / "animals")


@pytest.mark.slow
def test_a_net_of_timm_over_a_folder_of_images(sharpcli: Run, pictures: Path, tmp_path: Path):
    """In a plain state dict and in a training file with two sets of weights; the transform is that of timm."""
    name = "test_vit"
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=2)
    settings = timm.data.resolve_data_config(model.pretrained_cfg)
    data = ImageFolder(pictures / "train", timm.data.create_transform(**settings))
    inputs, targets = torch.stack([image for image, _ in data]), torch.tensor(data.targets)
    torch.save(model.state_dict(), tmp_path / "net.pt")
    average = {key: value * 1.01 if value.is_floating_point() else value for key, value in model.state_dict().items()}
    content = {"epoch": 3, "arch": name, "state_dict": model.state_dict(), "state_dict_ema": average, "version": 2}
    torch.save({**content, "args": Namespace(lr=0.1)}, tmp_path / "train.pth.tar")
    wanted = pytest.approx(eigenvalues(model, inputs, targets, 1), rel=1e-6)
    words = ["--data", f"folder:{pictures}"]
    assert answered(sharpcli, tmp_path / "net.pt", "--model", f"timm:{name}", *words, count=1) == wanted
    assert answered(sharpcli, f"{tmp_path / 'train.pth.tar'}::state_dict", *words, count=1) == wanted
    model.load_state_dict(average)
    wanted = pytest.approx(eigenvalues(model, inputs, targets, 1), rel=1e-6)
    assert answered(sharpcli, tmp_path / "train.pth.tar", "--weights", "state_dict_ema", *words, count=1) == wanted


def test_a_net_that_timm_does_not_have(sharpcli: Run, pictures: Path, tmp_path: Path):
    torch.save({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, tmp_path / "net.pt")
    words = ["hessian", tmp_path / "net.pt", "--data", f"folder:{pictures}"]
    answer = sharpcli(*words, "--model", "timm:resnet1")
    assert (answer.exit_code, answer.stdout) == (2, "")
    assert "Did you mean resnet" in answer.stderr
    answer = sharpcli(*words, "--model", "timm:test_vit", "--model-arg", "pretrained=True")
    assert answer.exit_code == 2
    assert "The option 'pretrained' is not allowed." in answer.stderr


@pytest.mark.slow
def test_the_number_of_outputs_is_that_of_the_file_in_any_order_of_its_tensors(sharpcli: Run, pictures: Path, tmp_path: Path):
    """safetensors sorts names, so that the last vector is none of the classifier; and the data have two classes of seven."""
    torch.manual_seed(0)
    model = resnet18(num_classes=7)
    save_file(model.state_dict(), tmp_path / "net.safetensors")
    torch.save({f"module.{name}": tensor for name, tensor in model.state_dict().items()}, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        words = ["--model", "torchvision:resnet18", "--data", f"folder:{pictures}", "--transform", "resize=40,crop=32"]
        answer = sharpcli("inspect", tmp_path / name, *words, "--json")
        assert answer.exit_code == 0, answer.stderr
        alone = sharpcli("distance", tmp_path / name, "--init", tmp_path / name, "--model", "torchvision:resnet18", "--json")
        assert alone.exit_code == 0, alone.stderr
