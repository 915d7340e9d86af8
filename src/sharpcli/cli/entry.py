"""Where the process begins: neither a signal nor a stream that is closed or full ends in a traceback, also while it loads."""

from __future__ import annotations

import os
import signal
import sys

from sharpcli.cli.signals import listen
from sharpcli.cli.streams import CLOSED_PIPE, repair
from sharpcli.errors import InputError


def main() -> None:
    """Run the command line."""
    try:
        listen()
        repair()
        code = _run()
        if sys.stdout is not None and not sys.stdout.closed:  # A model's code may have closed it.
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        code = _said("Interrupted.", 128 + getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:  # The reader has seen enough.
        code = CLOSED_PIPE
    except OSError as error:
        sentence = f"Cannot write to stdout: {error.strerror or error}.\nhint: Send it to a file, or to {os.devnull}."
        code = _said(sentence, InputError.exit_code)
    if code == CLOSED_PIPE or code == InputError.exit_code:
        _drop_what_is_left()
    sys.exit(code)


def _run() -> int:
    from sharpcli.cli.app import app

    try:
        app(standalone_mode=True)
    except SystemExit as ended:
        if isinstance(ended.__context__, BrokenPipeError):
            return CLOSED_PIPE
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


def _said(sentence: str, code: int) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return code


def _drop_what_is_left() -> None:
    """Forget what a full or closed stream has not taken: Python would try again at the end, and tell of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
