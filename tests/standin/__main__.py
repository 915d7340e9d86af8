"""Run a command of sharpcli on the stand-in device, and list on stderr what the host has waited for, by line of code."""

from __future__ import annotations

import sys

from tests.standin import device


def main() -> int:
    device.install()
    from sharpcli.cli.entry import main as command

    sys.argv = ["sharpcli", *sys.argv[1:]]
    code: int | str | None = 0
    try:
        command()
    except SystemExit as ended:
        code = ended.code
    for (kind, place), count in device.events.most_common():
        sys.stderr.write(f"{count:7} {kind:24} {place}\n")
    return code if isinstance(code, int) else 0


if __name__ == "__main__":
    sys.exit(main())
