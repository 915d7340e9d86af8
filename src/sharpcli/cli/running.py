"""Run one command: settings in, one answer out, every error as one sentence, one hint and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from sharpcli.cli.options import Answering, build
from sharpcli.errors import InputError, NotConvergedError, SettingsError, SharpcliError

_INTERRUPTED = 130


def answer(
    command: str,
    settings: type[Any],
    values: dict[str, Any],
    compute: Callable[[Any], Sequence[Any]],
    how: Answering,
    *,
    plural: str = "checkpoints",
    require_converged: bool = False,
) -> None:
    """Build settings, compute results, write the plot, then print; nothing reaches stdout before all of that is done.

    Args:
        command: Its name, for the JSON document.
        settings: Class of its settings.
        values: What the command line gave for the fields.
        compute: From settings to results; imports torch, so it is only called here.
        how: JSON or tables, plot, streams.
        plural: What several results are called in JSON.
        require_converged: Exit with 5 after printing if a result has not converged.
    """
    try:
        _prepare_process()
        chosen = build(settings, values)
        if how.plot == "":
            raise SettingsError("--plot is empty.", "Give it the name of a file.")
        if how.plot:
            _check_format(Path(how.plot))
        for place in filter(None, (how.plot, values.get("vectors"))):
            check_place(Path(place))
        results = _compute(compute, chosen, how)
        _deliver(command, results, how, plural)
        if require_converged and not all(getattr(result, "converged", True) for result in results):
            raise NotConvergedError("Not every eigenvalue is certified.", "Raise --max-hvp or --tol, or use --dtype float64.")
    except SharpcliError as error:
        _fail(error.message, error.hint, error.exit_code, how.debug)
    except KeyboardInterrupt as stopped:
        _fail("Interrupted.", _how_to_go_on(stopped, values), _INTERRUPTED, how.debug)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    except (MemoryError, OSError) as error:
        _fail(f"{type(error).__name__}: {error}.", "Check free memory and disk space.", InputError.exit_code, how.debug)
    except Exception as error:
        if type(error).__name__ == "OutOfMemoryError" or "allocate memory" in str(error):
            _fail("There is not enough memory for this.", "Use a smaller --batch-size, --samples or --subspace.", 3, how.debug)
        reason = (str(error) or "no message").splitlines()[0]
        _fail(
            f"Internal error: {type(error).__name__}: {reason}.", "Please report it with the output of --debug.", 1, how.debug
        )


def _how_to_go_on(stopped: KeyboardInterrupt, values: dict[str, Any]) -> str:
    """Return what the work itself has noted, else whether anything was kept."""
    if notes := getattr(stopped, "__notes__", ()):
        return str(notes[0])
    state = values.get("state")
    if state and Path(state).exists():
        return f"What was done is kept in {state}: the same command goes on from there."
    if "state" in values and not state:
        return "Nothing was written. With --state the work can be gone on with."
    return "Nothing was written."


def _prepare_process() -> None:
    """Set what must be set before torch is loaded, and before anything is written."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # Greek letters become question marks where they cannot be written.
            stream.reconfigure(errors="replace")
    # Idle OpenMP threads that spin make two threads a thousand times slower on a busy machine; let them sleep.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _check_format(path: Path) -> None:
    """Refuse a plot whose name has no known ending, before the work."""
    from sharpcli.render.figures import check_format

    check_format(path)


def check_place(path: Path) -> None:
    """Refuse a file that could not be written, before the work."""
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        raise InputError(f"Cannot write {path}: {nearest} is no folder that can be written to.", "Choose another place.")
    if path.is_dir():
        raise InputError(f"Cannot write {path}: it is a folder.", "Give a file name.")


def _compute(compute: Callable[[Any], Sequence[Any]], chosen: Any, how: Answering) -> list[Any]:
    from sharpcli import progress
    from sharpcli.render.console import TerminalListener

    # A user's own model code may print; stdout is for the answer alone.
    with (
        TerminalListener(quiet=how.quiet, verbose=how.verbose) as listener,
        contextlib.redirect_stdout(sys.stderr),
        progress.listening(listener),
    ):
        return list(compute(chosen))


def _deliver(command: str, results: list[Any], how: Answering, plural: str) -> None:
    from sharpcli.render.console import console, tell
    from sharpcli.results import document

    if how.plot:
        from sharpcli.files import write_bytes
        from sharpcli.render.figures import draw

        write_bytes(Path(how.plot), draw(results, Path(how.plot)))
    if how.json:
        sys.stdout.write(document(command, results, plural) + "\n")
    else:
        from sharpcli.render.tables import show

        show(results, console(sys.stdout))
    if how.plot and not how.quiet:
        tell(console(sys.stderr), f"Plot written to {how.plot}")


def _fail(message: str, hint: str, code: int, debug: bool) -> None:
    from sharpcli.render.console import tell_error

    if debug:
        traceback.print_exc()
    tell_error(sys.stderr, message, hint)
    raise typer.Exit(code)
