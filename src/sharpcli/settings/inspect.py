"""Settings of `inspect`."""

from __future__ import annotations

from dataclasses import dataclass

from sharpcli.errors import SettingsError, closest
from sharpcli.settings.base import AnalysisSettings, option
from sharpcli.settings.losses import is_number

EXPECTED = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")


@dataclass(frozen=True, kw_only=True)
class InspectSettings(AnalysisSettings):
    """The model, data and loss that a file is checked with, and the numbers that are expected."""

    expect: tuple[str, ...] = option(
        (),
        "Numbers that must come out, such as train_loss=0.31,test_accuracy=0.953. They must agree to the given digits.",
        "NAME=X[,NAME=X]",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for text in self.expect:
            name, equals, number = text.partition("=")
            if name not in EXPECTED:
                raise SettingsError(f"--expect has no number '{name}'.", closest(name, EXPECTED))
            if not equals or not is_number(number) or not float("-inf") < float(number) < float("inf"):
                raise SettingsError(f"--expect {text} is not a name and a number.", f"Write it like {name}=0.31.")

    def expected(self) -> dict[str, str]:
        """Return the expected numbers as they were written, by name."""
        return {name: number.strip() for name, _, number in (text.partition("=") for text in self.expect)}
