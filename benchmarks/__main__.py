"""The entry: check the words, make the environment, and go on within it. Standard library only."""

from __future__ import annotations

import os
import sys

from benchmarks import arguments, environment
from benchmarks.progress import tell


def main() -> None:
    """Replace this process by the session, in the benchmark's own environment."""
    plan = arguments.parse()
    try:
        environment.ensure()
    except environment.SetUpError as error:
        tell(str(error))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    python = str(environment.PYTHON)
    words = [python, "-m", "benchmarks.session", *sys.argv[1:]]
    os.execve(python, words, environment.variables(plan.threads))


if __name__ == "__main__":
    main()
