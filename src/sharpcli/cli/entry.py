"""The entry point: a signal and a closed or full stream never cause a traceback, not even during imports."""

from __future__ import annotations

import os
import signal
import sys

from sharpcli.cli.signals import ignore, listen
from sharpcli.cli.streams import CLOSED_PIPE, repair
from sharpcli.errors import InputError
from sharpcli.launch import is_launched_follower


def main() -> None:
    """Run the command line."""
    try:
        if is_launched_follower():  # The first process receives the signals, and writes all messages.
            ignore()
            _discard_output(1, 2)
        else:
            listen()
        repair()
        code = _run()
        if sys.stdout is not None and not sys.stdout.closed:  # The code of a model may have closed it.
            sys.stdout.flush()
    except KeyboardInterrupt as error:
        code = _report("Interrupted.", 128 + getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:  # The reader has closed the pipe.
        code = CLOSED_PIPE
    except OSError as error:
        sentence = f"Cannot write to stdout: {error.strerror or error}.\nhint: Redirect stdout to a file or to {os.devnull}."
        code = _report(sentence, InputError.exit_code)
    if code == CLOSED_PIPE or code == InputError.exit_code:
        _discard_output(1)
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


def _report(sentence: str, code: int) -> int:
    sys.stderr.write(f"error: {sentence}\n")
    return code


def _discard_output(*streams: int) -> None:
    """Discard output, such as that which a full or closed stream has not taken: Python would write it again at exit."""
    for stream in streams:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
