"""ε-sharpness by L-BFGS-B and by ascent on the device: `python -m benchmarks.sharpness [CKPT...]`, with sharpcli installed.

Both run in turn in one process, on the sample checkpoints unless others are named; each value is a lower bound of the
same maximum, so the higher one is nearer to it.
"""

from __future__ import annotations

import argparse
import statistics

import torch

import sharpcli

_SAMPLES = tuple(f"sample_checkpoints/{mode}" for mode in ("sgd", "largebatch", "fullbatch"))


def main() -> None:
    """Print a line for each checkpoint and box."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sharpness", description=__doc__)
    parser.add_argument("checkpoints", nargs="*", default=_SAMPLES)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    for checkpoint in asked.checkpoints:
        for epsilon in (1e-3, 5e-4):
            words = [f"epsilon-sharpness:epsilon={epsilon},solver={solver}" for solver in ("lbfgsb", "ascent")]
            rounds = [sharpcli.sharpness(checkpoint, measure=tuple(words)).readings for _ in range(asked.rounds)]
            first, second = rounds[0]
            ratio = statistics.median(one.seconds / other.seconds for one, other in rounds)
            assert first.value is not None
            assert second.value is not None
            told = [f"{name} {one.value:.4f} in {one.seconds:.2f} s" for name, one in (("L-BFGS-B", first), ("ascent", second))]
            share = second.value / first.value
            print(f"{checkpoint} ε={epsilon:g}: {', '.join(told)}: {share:.4f} of the value, {ratio:.1f} times as fast")


if __name__ == "__main__":
    main()
