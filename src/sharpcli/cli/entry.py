"""Where the process begins: Ctrl-C is no traceback, not even while the commands are loaded."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    try:
        from sharpcli.cli.app import main as run

        run()
    except KeyboardInterrupt:
        sys.stderr.write("error: Interrupted.\n")
        sys.exit(130)
