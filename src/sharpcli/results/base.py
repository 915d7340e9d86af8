"""What every answer has in common, and the JSON document that answers become."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import Any

SCHEMA = "sharpcli/2"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """Which weights a result is about, and what is known of how they were made."""

    path: str
    sha256: str
    label: str
    model: str | None = None
    data: str | None = None
    data_fingerprint: str | None = None
    mode: str | None = None
    step: int | None = None
    epochs: float | None = None
    batch_size: int | None = None
    seed: int | None = None
    optimizer: str | None = None
    learning_rate: float | None = None
    last_learning_rate: float | None = None
    momentum: float | None = None
    momentum_rule: str | None = None
    weights: str | None = None


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Under what conditions the numbers of a result hold.

    Attributes:
        loss_function: Its name with its options, and the axis of the classes where outputs have more than two.
        output: Which part of the model's answer is its outputs; None where that is a tensor.
        preprocessing: What was done to the inputs between the file and the model, in words.
    """

    split: str
    num_samples: int
    num_parameters: int
    loss_function: str
    device: str
    dtype: str
    chunk_size: int
    batch_norm: str
    engine: str
    output: str | None = None
    preprocessing: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The root of every answer: settings and provenance travel with the numbers."""

    settings: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the answer alone as plain JSON values; a number that is not finite becomes None."""
        answer = plain(asdict(self))
        for key in ("settings", "provenance", "warnings"):
            del answer[key]
        return dict(answer)


def plain(value: Any) -> Any:
    """Return a value as JSON knows it: tuples as lists, a number that is not finite as None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def document(command: str, results: list[Result], plural: str, *, status: str = "ok", several: bool = False) -> str:
    """Return one JSON document for the answer of a command.

    With one result, "result" is that result; with several, or if `several` were asked for, it is {plural: [...]}. Each
    keeps its own place; settings, versions and warnings are beside it. `status` is "ok", or "incomplete" where something
    else that was asked for has failed after the answer was computed.
    """
    answers = [result.to_dict() for result in results]
    return json.dumps(
        {
            "schema": SCHEMA,
            "command": command,
            "status": status,
            "settings": plain(results[0].settings),
            "provenance": plain(results[0].provenance),
            "warnings": [warning for result in results for warning in result.warnings],
            "result": answers[0] if len(answers) == 1 and not several else {plural: answers},
        },
        indent=2,
        allow_nan=False,
    )
