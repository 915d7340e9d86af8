"""Kill a training run again and again at random moments, and go on with it each time; run by test_never_lose_a_run.py.

One process loads torch once and forks: a fork that trains may be killed at any instruction, as by a power cut. Its
threads are one, since a fork of a process whose threads have worked must not use threads again.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time

import torch

import sharpcli


def train(words: dict[str, object], *, resume: bool) -> None:
    torch.set_num_threads(1)
    sharpcli.train(**words, resume=resume)


def fork(words: dict[str, object]) -> int:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(words, resume=True)
            code = 0
        finally:
            os._exit(code)
    return child


def main() -> None:
    data, net, out, kills = sys.argv[1:]
    words = {
        "data": f"npz:{data}",
        "model": f"{net}:net",
        "out": out,
        "mode": "sgd",
        "steps": 600,
        "batch_size": 8,
        "eval_every": 50,
        "save_every": 97,
        "track_sharpness": 200,
        "track": ("gradient-norm@60", "critical@150"),
        "state_seconds": 0.02,
        "augment": ("crop", "flip"),
        "average": ("tail:0.3", "ema:0.99", "swa:0.2"),
        "sam": 0.02,
        "example_noise": 0.3,
        "additive_noise": 0.01,
    }
    chance, count = random.Random(0), 0
    while count < int(kills):
        child = fork(words)
        time.sleep(chance.uniform(0, 0.5))
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0, "a run that was not killed failed"
            break
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        count += 1
    print(count)
    train(words, resume=True)


if __name__ == "__main__":
    main()
