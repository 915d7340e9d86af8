"""The common part of all results, and the JSON document that contains them."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

SCHEMA = "sharpcli/2"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The weights of a result: their file and the settings of their training, as far as these are known."""

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
    """The conditions under which the numbers of a result were computed.

    Attributes:
        loss_function: Name of the loss with its options, and the axis of the classes if outputs have more than two axes.
        loss_unit: Unit of the mean loss, such as "nats", or "nats per token" if a sample has several loss terms; "" if it is
            not known. The accuracy is over the same loss terms.
        terms_per_sample: Mean number of loss terms of a sample; 1 without several, such as the tokens of a text.
        output: Key of the outputs in the dict or tuple that the model returns; None if it returns a tensor.
        preprocessing: Transformation of the inputs between file and model, as a formula or in words.
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
    loss_unit: str = ""
    terms_per_sample: float = 1.0
    output: str | None = None
    preprocessing: str = ""


@dataclass(frozen=True, kw_only=True, repr=False)
class Result:
    """Base class of all results, with settings and provenance."""

    _headline: ClassVar[tuple[str, ...]] = ()  # Names of the fields that `repr` shows.
    settings: dict[str, Any]
    provenance: dict[str, Any]
    seconds: float
    warnings: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the result without settings, provenance and warnings as plain JSON values; NaN and infinity become None."""
        answer = plain(asdict(self))
        for key in ("settings", "provenance", "warnings"):
            del answer[key]
        return dict(answer)

    def records(self) -> list[dict[str, Any]]:
        """Return the main table of the result, one dictionary per row; for a result without a table, one row of its numbers."""
        kinds = (str, int, float, bool, type(None))
        values = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return [{name: value for name, value in values.items() if isinstance(value, kinds) and name != "seconds"}]

    def to_frame(self) -> Any:
        """Return `records` as a pandas DataFrame.

        Raises:
            InputError: pandas is not installed.
        """
        return _presentation().frame(self.records())

    def plot(self, *others: Result, style: str | None = None, size: tuple[float, float] | None = None) -> Any:
        """Return the figure of this result and of others of the same kind, as a matplotlib Figure.

        A notebook shows it; `.savefig("out.png")` writes it.

        Args:
            *others: Results of the same kind.
            style: screen, paper or talk.
            size: Width and height in inches; by default what the contents need.

        Raises:
            SettingsError: There is no figure for this kind of result, or style or size are not valid.
        """
        return _presentation().figure([self, *others], style, size)

    def __repr__(self) -> str:
        """Return the kind of the result and its main numbers on one line; `print` shows the tables."""
        parts = (_in_short(name, getattr(self, name)) for name in self._headline)
        return f"{type(self).__name__}({', '.join(part for part in parts if part)})"

    def __str__(self) -> str:
        """Return the tables of the result, as the command line prints them."""
        text: str = _presentation().text(self)
        return text

    def _repr_html_(self) -> str:
        """Return the tables of the result as HTML, for a notebook."""
        page: str = _presentation().html(self)
        return page


def _in_short(name: str, value: Any) -> str:
    """Return a field for `repr`: checkpoints by their label, tuples by their length; "" for an empty tuple."""
    if isinstance(value, Subject):
        return repr(value.label)
    if isinstance(value, tuple):
        return f"{len(value)} {name}" if value else ""
    return f"{name}={value:.5g}" if isinstance(value, float) else f"{name}={value!r}"


def _presentation() -> Any:
    """Return the module that shows results in a notebook; it is loaded by name, because a result does not depend on it."""
    return importlib.import_module("sharpcli.render.notebook")


def plain(value: Any) -> Any:
    """Return a value as JSON types: tuples become lists, NaN and infinity None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def comma_separated(results: Sequence[Result]) -> str:
    """Return the main tables of the results as comma-separated values with one header, numbers with all digits.

    Each row begins with the path of its checkpoint, or with those of both ends of its path. A value that is None or not
    finite is empty, and one that is no number and no text is written as JSON.
    """
    rows = [_named(result) | row for result in results for row in result.records()]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([_cell(row.get(name)) for name in columns] for row in rows)
    return buffer.getvalue()


def _named(result: Result) -> dict[str, Any]:
    """Return the paths of the weights of a result by the names of their fields, and the split if there is one."""
    values = {entry.name: getattr(result, entry.name) for entry in fields(result)}
    named = {name: value.path for name, value in values.items() if isinstance(value, Subject)}
    split = next((value.split for value in values.values() if isinstance(value, Conditions)), None)
    return named | ({} if split is None else {"split": split})


def _cell(value: Any) -> object:
    value = plain(value)
    if value is None or isinstance(value, str | int | float):
        return "" if value is None else str(value).lower() if isinstance(value, bool) else value
    return json.dumps(value, ensure_ascii=False)


def document(command: str, results: list[Result], plural: str, *, status: str = "ok", several: bool = False) -> str:
    """Return one JSON document for the results of a command.

    With one result, "result" is this result; with several, or with `several`, it is {plural: [...]}. Settings, versions and
    warnings are separate keys. `status` is "ok", or "incomplete" if a later part of the command has failed.
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
