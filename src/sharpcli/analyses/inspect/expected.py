"""Comparison of computed losses and accuracies with numbers that the user expects, such as those in a paper or a log."""

from __future__ import annotations

from collections.abc import Mapping

from sharpcli.results import Check

_LEAST = 1e-3  # Relative difference that another device or another order of samples can make.


def check_expected(expected: Mapping[str, str], measured: Mapping[str, float | None]) -> list[Check]:
    """Return one check for each expected number: it must agree to the given digits, or to a relative difference of 1e-3.

    Args:
        expected: Numbers as they were written, by name, such as {"test_accuracy": "0.953"}.
        measured: Numbers by name; None if there is no such number.
    """
    checks = []
    for name, text in expected.items():
        value, label = measured.get(name), f"expected {name.replace('_', ' ')}"
        if value is None:
            checks.append(Check(name=label, passed=False, detail=f"expected {text}, but there is no such number here"))
            continue
        agrees = abs(value - float(text)) <= max(_half_unit(text), _LEAST * abs(float(text)))
        detail = f"{value:.6g}, as expected ({text})" if agrees else f"{value:.6g}, but expected {text}"
        checks.append(Check(name=label, passed=agrees, detail=detail))
    return checks


def _half_unit(text: str) -> float:
    """Return half of one unit in the last digit of a number that is given as text."""
    digits, _, exponent = text.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.5000001 * 10.0 ** (int(exponent or 0) - decimals)
