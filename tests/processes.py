"""Command lines in processes of their own that start at once; see tests/server.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Answer:
    """What a command left behind in its two streams, and its exit code."""

    exit_code: int
    stdout: str
    stderr: str

    def said(self) -> str:
        """Return stderr but for the warning that small nets of tests are no better than guessing."""
        return "".join(line for line in self.stderr.splitlines(keepends=True) if "constant prediction" not in line)


LONGEST = 60.0  # Seconds.


class Machine:
    """Starts command lines one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        line = [sys.executable, "-m", "tests.server"]
        root = Path(__file__).parents[1]
        alone = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        places = {"PYTHONPATH": os.pathsep.join(map(str, (root, *sys.path)))}
        self.server = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, env=os.environ | alone | places
        )

    def start(
        self,
        *words: object,
        cwd: Path | None = None,
        stdout: str | None = None,
        stderr: str | None = None,
        limits: dict[str, int] | None = None,
        kill_after: float = LONGEST,
        **environment: str | None,
    ) -> int:
        """Start one and return the number of its process; a variable of the environment that is None is taken out."""
        self.count += 1
        self.files = [str(given or self.folder / f"{self.count}.{name}") for given, name in ((stdout, "out"), (stderr, "err"))]
        asked = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or self.folder),
            "stdout": self.files[0],
            "stderr": self.files[1],
            "limits": limits or {},
            "environment": environment,
            "kill_after": kill_after,
        }
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(asked) + "\n")
        self.server.stdin.flush()
        return int(self._told("process"))

    def end(self) -> Answer:
        """Wait for its end."""
        code = int(self._told("code"))
        stdout, stderr = (
            "" if name.startswith("/dev") else Path(name).read_text(encoding="utf-8", errors="replace") for name in self.files
        )
        return Answer(code, stdout, stderr)

    def __call__(self, *words: object, **how: object) -> Answer:
        self.start(*words, **how)  # type: ignore[arg-type]
        return self.end()

    def stopped(self, when: Callable[[], bool], *words: object, by: signal.Signals = signal.SIGINT, **how: object) -> Answer:
        """Start one, send it a signal as soon as something is so, and wait for its end."""
        process, end = self.start(*words, **how), time.monotonic() + LONGEST - 10  # type: ignore[arg-type]
        while not when() and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(process, by)
        return self.end()

    def _told(self, name: str) -> object:
        assert self.server.stdout is not None
        return json.loads(self.server.stdout.readline())[name]

    def close(self) -> None:
        assert self.server.stdin is not None
        self.server.stdin.close()
        self.server.wait(timeout=60)
        assert self.server.stdout is not None
        self.server.stdout.close()


def two_processes(script: str, folder: Path) -> list[str]:
    """Run a script in two processes that get their rank and a folder as arguments, and return what each wrote to stdout.

    A process ends at the end of its script, without the shutdown of the interpreter. A thread of
    torch.distributed that is still at work then sometimes ends the process with "terminate called without an
    active exception", although the script is done.
    """
    (folder / "go.py").write_text(f"{script}\nimport os\nsys.stdout.flush()\nos._exit(0)\n")
    started = [
        subprocess.Popen(
            [sys.executable, str(folder / "go.py"), str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        for rank in range(2)
    ]
    said = [process.communicate(timeout=120) for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    return [stdout for stdout, _ in said]
