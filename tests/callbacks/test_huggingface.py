"""The callback in a real Trainer of Hugging Face, with a small text classifier and a small language model."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import sharpcli

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

    from sharpcli.callbacks.huggingface import SharpnessCallback

SIZE = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8, "vocab_size": 20}


def texts(count: int) -> list[dict[str, Any]]:
    random = torch.Generator().manual_seed(count)
    rows = torch.randint(1, 20, (count, 6), generator=random)
    masks = torch.ones(count, 6, dtype=torch.long)
    masks[::3, 4:] = 0
    return [
        {"input_ids": row, "attention_mask": mask, "labels": torch.tensor(number % 3)}
        for number, (row, mask) in enumerate(zip(rows, masks, strict=True))
    ]


def bert() -> Any:
    torch.manual_seed(0)
    config = transformers.BertConfig(**SIZE, num_labels=3, max_position_embeddings=8, attn_implementation="eager")
    return transformers.BertForSequenceClassification(config)


def trained(model: Any, folder: Path, data: list[dict[str, Any]], callbacks: list[Any], **options: Any) -> Any:
    words = {"per_device_train_batch_size": 4, "num_train_epochs": 2, "learning_rate": 1e-2, "use_cpu": True, "seed": 0}
    quiet = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "logging_strategy": "no"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = transformers.TrainingArguments(str(folder), **{**words, **quiet, **options})
        trainer = transformers.Trainer(model, arguments, train_dataset=data, callbacks=callbacks)
        trainer.train()
    return trainer


def lines(folder: Path, kind: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / f"{kind}.jsonl").read_text().splitlines()]


def stacked(data: list[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
    return [{name: torch.stack([row[name] for row in data]) for name in data[0]}]


def test_the_trainer_is_followed(tmp_path: Path) -> None:
    model, data = bert(), texts(20)
    trained(model, tmp_path, data, [SharpnessCallback(tmp_path / "run", every=4)])
    sharp = lines(tmp_path / "run", "sharpness")
    assert [line["step"] for line in sharp] == [0, 4, 8, 10]
    result = sharpcli.hessian(model, stacked(data), topk=1)
    assert sharp[-1]["lambda_max"] == pytest.approx(result.lambda_max, rel=2e-3)
    assert lines(tmp_path / "run", "metrics")[-1]["train_loss"] == pytest.approx(result.loss, rel=1e-5)
    assert sharp[1]["lr"] == pytest.approx(1e-2 * (1 - 4 / 10))
    assert sharp[1]["threshold"] == pytest.approx(38 / sharp[1]["lr"])  # AdamW.
    assert sharp[0]["threshold"] is None  # Before the first step.
    again = bert()
    trained(again, tmp_path, data, [])
    for name, part in again.state_dict().items():
        assert torch.equal(part, model.state_dict()[name])


def test_a_language_model_whose_labels_are_its_tokens(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        vocab_size=20, n_positions=8, n_embd=8, n_layer=1, n_head=2, attn_implementation="eager", use_cache=False
    )
    model = transformers.GPT2LMHeadModel(config)
    rows = [row["input_ids"] for row in texts(16)]
    data = [{"input_ids": row, "labels": row} for row in rows]
    trained(model, tmp_path, data, [SharpnessCallback(tmp_path / "run", every=100)])
    metrics = lines(tmp_path / "run", "metrics")
    assert [line["step"] for line in metrics] == [0, 8]
    model.eval()
    with torch.no_grad():
        wanted = float(model(input_ids=torch.stack(rows), labels=torch.stack(rows)).loss)
    assert metrics[-1]["train_loss"] == pytest.approx(wanted, rel=1e-5)
