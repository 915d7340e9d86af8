"""Run command lines in processes of their own, quickly: this process loads torch once, and forks for each of them.

Its threads are one, since a fork of a process whose threads have worked must not use threads again. One line of JSON comes
in for each command line, one goes out when it has started, and one when it has ended.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import signal
import sys
import time
from typing import Any

import torch

COMMANDS = ("train", "hessian", "sharpness", "interpolate", "distance", "compare", "inspect", "reparam", "surface", "doctor")


def prepared() -> None:
    torch.set_num_threads(1)
    importlib.import_module("sharpcli.cli.app")
    importlib.import_module("sharpcli.render.tables")
    importlib.import_module("torch._dynamo")
    for command in COMMANDS:
        importlib.import_module(f"sharpcli.analyses.{command}")


def streams(asked: dict[str, Any]) -> list[int]:
    """Open what the process reads and writes; before it is made, so that a terminal is in use when its number is told."""
    write = os.O_WRONLY | os.O_CREAT
    return [os.open(os.devnull, os.O_RDONLY), os.open(asked["stdout"], write), os.open(asked["stderr"], write)]


def child(asked: dict[str, Any], opened: list[int]) -> int:
    """Become the process of one command line: its streams, folder, environment and limits; return its exit code."""
    for number, descriptor in enumerate(opened):
        os.dup2(descriptor, number)
        os.close(descriptor)
    for name, value in asked["environment"].items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    coding = os.environ.get("PYTHONIOENCODING") or None  # As Python does when it starts.
    sys.stdout, sys.stderr = (open(number, "w", closefd=False, encoding=coding) for number in (1, 2))  # noqa: SIM115
    os.chdir(asked["cwd"])
    for name, value in asked["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    sys.argv = ["sharpcli", *asked["words"]]
    try:
        importlib.import_module("sharpcli.cli.entry").main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def serve() -> None:
    prepared()
    for line in sys.stdin:
        asked = json.loads(line)
        opened = streams(asked)
        pid = os.fork()
        if pid == 0:
            code = 99
            try:
                code = child(asked, opened)
            except BaseException as error:
                os.write(2, f"Traceback: {error!r}\n".encode())
            finally:
                for stream in (sys.stdout, sys.stderr):  # As Python does at its end.
                    with contextlib.suppress(Exception):
                        stream.flush()
                os._exit(code)
        for descriptor in opened:
            os.close(descriptor)
        print(json.dumps({"process": pid}), flush=True)
        began, status = time.monotonic(), None
        while status is None:
            done, found = os.waitpid(pid, os.WNOHANG)
            status = os.waitstatus_to_exitcode(found) if done else None
            late = time.monotonic() - began > asked["kill_after"]
            if status is None and late:
                os.kill(pid, signal.SIGKILL)
            time.sleep(0 if done else 0.002)
        print(json.dumps({"code": status}), flush=True)


if __name__ == "__main__":
    serve()
