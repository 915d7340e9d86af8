"""Run one command: settings in, one answer out, every error as one sentence, one hint and an exit code."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from sharpcli.cli.failures import failure
from sharpcli.cli.options import Answering, build, with_present_names
from sharpcli.cli.places import check_place, check_plot
from sharpcli.cli.signals import received
from sharpcli.cli.streams import CLOSED_PIPE, Streams, apart
from sharpcli.errors import IncompleteError, InputError, NotConvergedError, SettingsError


class _ReaderGoneError(Exception):
    """Whoever read the answer has stopped to, such as `head`."""


def answer(
    command: str,
    settings: type[Any],
    values: dict[str, Any],
    compute: Callable[[Any], Iterable[Any]],
    how: Answering,
    *,
    plural: str = "checkpoints",
    require_converged: bool = False,
) -> None:
    """Build settings, compute results, print them, then write the plot.

    Nothing reaches stdout before the work is done. What was computed is printed before anything else can fail.

    Args:
        command: Its name, for the JSON document.
        settings: Class of its settings.
        values: What the command line gave for the fields.
        compute: From settings to results; imports torch, so it is only called here.
        how: JSON or tables, plot, streams.
        plural: What several results are called in JSON.
        require_converged: Exit with 5 after printing if a result has not converged.
    """
    streams = apart()
    try:
        # Idle OpenMP threads that spin make two threads a thousand times slower on a busy machine; let them sleep.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
        values = with_present_names(settings, values)
        chosen = build(settings, values)
        _require_folder()
        plot = _place_of_plot(how)
        vectors = values.get("vectors")
        for place in filter(None, (plot, vectors)):
            check_place(Path(place), streams.answer)
        if plot is not None:
            check_plot(plot, vectors)
        results, failed = _compute(compute, chosen, how, streams)
        _print(_text(command, results, how, plural, streams, failed), streams)
        if plot is not None:
            _draw(results, plot, how, streams)
        if failed is not None:
            raise failed
        if require_converged and not all(getattr(result, "converged", True) for result in results):
            raise NotConvergedError("Not every eigenvalue is certified.", "Raise --max-hvp or --tol, or use --dtype float64.")
    except _ReaderGoneError:
        code = CLOSED_PIPE
    except BaseException as error:  # A model's own code may raise anything, also SystemExit.
        code = _tell(error, command, values, how, streams)
    else:
        code = 0
    streams.close()
    if code:
        raise typer.Exit(code)


def _require_folder() -> None:
    """Refuse a working folder that was removed: libraries below torch end the process there.

    Raises:
        InputError: It was.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("The working folder is no longer there.", "Change to another folder.") from error


def _place_of_plot(how: Answering) -> Path | None:
    """Return where the plot goes, from the root: a model's code may change the working folder.

    Raises:
        SettingsError: The name is empty or has no known ending.
    """
    if how.plot is None:
        return None
    if how.plot == "":
        raise SettingsError("--plot is empty.", "Give it the name of a file.")
    from sharpcli.files import from_root

    _figures().check_format(Path(how.plot))
    return from_root(how.plot)


def _figures() -> ModuleType:
    """Import the renderer, and with it matplotlib, which takes its defaults from the working folder if it finds any there."""
    import importlib.util

    found = importlib.util.find_spec("matplotlib")
    assert found is not None
    assert found.origin is not None
    asked = os.environ.pop("MPLBACKEND", None)  # Of a notebook, say; files need none, and a wrong one ends the import.
    try:
        with contextlib.chdir(Path(found.origin).parent / "mpl-data"):
            from sharpcli.render import figures
    finally:
        if asked is not None:
            os.environ["MPLBACKEND"] = asked
    return figures


def _compute(
    compute: Callable[[Any], Iterable[Any]], chosen: Any, how: Answering, streams: Streams
) -> tuple[list[Any], IncompleteError | None]:
    """Return the results, and what else has failed."""
    from sharpcli import progress
    from sharpcli.render.console import TerminalListener

    shown = TerminalListener(streams.messages, quiet=how.quiet, verbose=how.verbose)
    prints = contextlib.nullcontext() if streams.apart else contextlib.redirect_stdout(streams.messages)
    results: list[Any] = []
    with shown as listener, prints, progress.listening(listener):
        try:
            results.extend(compute(chosen))  # One by one, so that those before an error are there.
        except KeyboardInterrupt:
            raise
        except IncompleteError as error:
            return [*results, *error.results], error
        except BaseException as error:
            if not results:
                raise
            return results, IncompleteError(results, error, several=True)
    return results, None


def _text(
    command: str, results: list[Any], how: Answering, plural: str, streams: Streams, failed: IncompleteError | None
) -> str:
    if how.json:
        from sharpcli.results import document

        status, several = ("incomplete", failed.several) if failed else ("ok", False)
        return document(command, results, plural, status=status, several=several) + "\n"
    from sharpcli.render.console import console
    from sharpcli.render.tables import show

    to = console(streams.answer)
    with to.capture() as captured:
        show(results, to)
    return captured.get()


def _print(text: str, streams: Streams) -> None:
    try:
        streams.answer.write(text)
        streams.answer.flush()
    except BrokenPipeError as error:
        raise _ReaderGoneError from error
    except OSError as error:
        raise InputError(
            f"Cannot write the answer to stdout: {error.strerror or error}.", "Send it to another file or disk."
        ) from error


def _draw(results: list[Any], plot: Path, how: Answering, streams: Streams) -> None:
    from sharpcli.files import write_bytes
    from sharpcli.render.console import console, tell

    write_bytes(plot, _figures().draw(results, plot))
    if not how.quiet:
        tell(console(streams.messages), f"Plot written to {how.plot}")


def _tell(error: BaseException, command: str, values: dict[str, Any], how: Answering, streams: Streams) -> int:
    """Write what has gone wrong, and return the exit code."""
    told = failure(error if isinstance(error, KeyboardInterrupt) else received() or error, command, values)
    if how.debug:
        cause = error.cause if isinstance(error, IncompleteError) else error
        streams.messages.write("".join(traceback.format_exception(cause)))
    from sharpcli.render.console import tell_error

    tell_error(streams.messages, told.message, told.hint)
    return told.code
