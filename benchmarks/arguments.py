"""The words of the command line. No torch here, and nothing but the standard library: it runs before anything is installed."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

HERE = Path(__file__).parent
_LONGEST, _SHOWN_ON = ("landscaper", "pyhessian"), "mlp"  # Power iterations, and where --quick shows them.


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes:
        nets: Names of files in nets/.
        tools: Names of files in tools/, and `tools_of` those for one net.
        all_tools: Whether they were not chosen.
        k: How many of the largest eigenvalues.
        rounds: How often everything is measured.
        threads: Of every worker.
        samples: N of a net's Hessian where it is not the one of its recipe.
        quick: Whether nets are small and little trained.
        solvers: Whether to run the tools, and `engines` whether to time products alone.
        patience: Seconds after which a measurement is given up.
        json: Where to write the figures.
    """

    nets: tuple[str, ...]
    tools: tuple[str, ...]
    all_tools: bool
    k: int
    rounds: int
    threads: int
    samples: dict[str, int]
    quick: bool
    solvers: bool
    engines: bool
    patience: float
    json: Path | None

    def tools_of(self, net: str) -> tuple[str, ...]:
        """Return the tools for a net: when in haste, those that take longest run on one net only, unless they were chosen."""
        spared = _LONGEST if self.quick and self.all_tools and net != _SHOWN_ON else ()
        return tuple(tool for tool in self.tools if tool not in spared)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one sentence, and end with code 2."""
        self.exit(2, f"benchmarks: {message}\n")


def parse(words: Sequence[str] | None = None) -> Plan:
    """Return the plan that words describe; a wrong word ends the program with code 2."""
    parser = _build()
    given = parser.parse_args(words)
    if given.json is not None and (given.json.is_dir() or not os.access(given.json.parent, os.W_OK)):
        parser.error(f"cannot write {given.json}: choose a file in a folder that exists and may be written to.")
    return Plan(
        nets=tuple(given.nets),
        tools=tuple(given.tools or names("tools")),
        all_tools=given.tools is None,
        k=given.k or (5 if given.quick else 20),
        rounds=given.rounds or (1 if given.quick else 3),
        threads=given.threads,
        samples=dict(given.samples),
        quick=given.quick,
        solvers=not given.engines_only,
        engines=not given.no_engines,
        patience=given.patience,
        json=given.json and given.json.absolute(),
    )


def names(folder: str) -> list[str]:
    """Return the names of a folder's files as they are written on the command line; sharpcli, if it is there, first."""
    found = sorted(path.stem.replace("_", "-") for path in (HERE / folder).glob("*.py") if path.stem != "__init__")
    return sorted(found, key=lambda name: name != "sharpcli")


def _build() -> argparse.ArgumentParser:
    parser = _Parser(prog="python -m benchmarks", description="Measure sharpcli beside its peers.", allow_abbrev=False)
    nets, tools = names("nets"), names("tools")
    parser.add_argument("--nets", type=_some(nets), default=nets, metavar="A,B", help=f"of {', '.join(nets)}")
    parser.add_argument("--tools", type=_some(tools), metavar="A,B", help=f"of {', '.join(tools)}")
    parser.add_argument("--k", type=_positive, metavar="K", help="how many eigenvalues (20; quick: 5)")
    parser.add_argument("--rounds", type=_positive, metavar="N", help="how often each is measured (3; quick: 1)")
    parser.add_argument("--threads", type=_positive, default=_cores(), metavar="N", help="of every worker (one a core)")
    parser.add_argument(
        "--samples", type=_samples(nets), action="append", default=[], metavar="NET=N", help="of a net's Hessian"
    )
    parser.add_argument("--quick", action="store_true", help="small nets; within 5 minutes on two cores")
    parser.add_argument("--patience", type=_seconds, default=1800.0, metavar="S", help="give a measurement up after S seconds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parts = parser.add_mutually_exclusive_group()
    parts.add_argument("--engines-only", action="store_true", help="products alone, no eigenvalues")
    parts.add_argument("--no-engines", action="store_true", help="eigenvalues only")
    return parser


def _some(known: list[str]) -> Callable[[str], list[str]]:
    """Return what reads a list of names out of the known ones, with commas between them."""

    def read(text: str) -> list[str]:
        chosen = text.split(",")
        for name in chosen:
            if name not in known:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(known)}.")
        return list(dict.fromkeys(chosen))

    return read


def _samples(nets: list[str]) -> Callable[[str], tuple[str, int]]:
    """Return what reads NET=N."""

    def read(text: str) -> tuple[str, int]:
        name, _, number = text.partition("=")
        if name not in nets:
            raise argparse.ArgumentTypeError(f"'{text}' is not NET=N with a net of {', '.join(nets)}.")
        return name, _positive(number)

    return read


def _positive(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number from 1 on.")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds.")
    return value


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
