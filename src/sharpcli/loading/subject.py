"""The description of a checkpoint in a result: the fields of `Subject`, and a short name for tables."""

from __future__ import annotations

from typing import Any

from sharpcli.checkpoints import LIVE, Checkpoint
from sharpcli.results import Subject


def subject_of(checkpoint: Checkpoint) -> Subject:
    """Return the path, the hash and the label of a checkpoint, and the settings of its training that its file records."""
    metadata: dict[str, Any] = checkpoint.metadata
    plan = metadata.get("plan", {})
    return Subject(
        path=checkpoint.address,
        sha256=checkpoint.sha256(),
        label=label(checkpoint),
        model=metadata.get("model", {}).get("spec"),
        data=metadata.get("data", {}).get("spec"),
        data_fingerprint=metadata.get("data", {}).get("fingerprint"),
        mode=metadata.get("mode"),
        step=metadata.get("step"),
        epochs=metadata.get("epochs"),
        batch_size=plan.get("batch_size"),
        seed=metadata.get("seed"),
        optimizer=plan.get("optimizer"),
        learning_rate=plan.get("lr"),
        last_learning_rate=metadata.get("last_learning_rate"),
        momentum=plan.get("momentum"),
        momentum_rule=plan.get("momentum_rule", "nesterov") if plan else None,
        weights=checkpoint.weights,
    )


def label(checkpoint: Checkpoint) -> str:
    """Return a short name for tables and legends.

    The name is that of a model in memory; file name and key for one of several sets of weights; the name of the run for its
    final.pt; and for any other file the name of the run, if there is one, and the file name without its ending.
    """
    path, metadata = checkpoint.path, checkpoint.metadata
    if checkpoint.container == LIVE:
        return str(path)
    if checkpoint.chosen:
        return f"{path.stem}::{checkpoint.weights}"
    name = metadata.get("name", metadata.get("mode"))
    if name and path.name == "final.pt":
        return str(name)
    return f"{name} {path.stem}" if name else path.stem
