"""Damage many files and ask every door: `python -m tests.fuzz --seed 1 --count 10000`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.running import run


def main() -> int:
    """Run the cases that are asked for, and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="other seeds damage files otherwise")
    parser.add_argument("--count", type=int, default=10_000, help="cases; the kinds of files take turns")
    parser.add_argument("--start", type=int, default=0, help="number of the first case")
    parser.add_argument("--only", type=int, help="repeat the case of this number alone")
    asked = parser.parse_args()
    numbers = range(asked.start, asked.start + asked.count) if asked.only is None else range(asked.only, asked.only + 1)
    began = time.perf_counter()
    report = run(asked.seed, numbers)
    for finding in report.findings:
        print(finding)
    print(report.table())
    print(f"{len(report.findings)} of {len(numbers)} escaped; {time.perf_counter() - began:.0f} s; slowest: {report.slowest}")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
