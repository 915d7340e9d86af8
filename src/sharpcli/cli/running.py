"""Run one command: build settings, compute, print the results, report errors as a sentence, a hint and an exit code."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

from sharpcli.cli.configuration import Configuration
from sharpcli.cli.failures import failure
from sharpcli.cli.options import Output, build, with_present_names
from sharpcli.cli.places import check_place, check_plot
from sharpcli.cli.signals import received
from sharpcli.cli.streams import CLOSED_PIPE, Streams, apart
from sharpcli.errors import IncompleteError, InputError, NotConvergedError, SettingsError
from sharpcli.launch import has_joined, is_follower, launched
from sharpcli.settings.look import look_of


class _ReaderGoneError(Exception):
    """The reader of stdout, such as `head`, has closed it."""


class _Shown(Exception):  # noqa: N818
    """The options were shown, and there is nothing else to do."""


def answer(
    command: str,
    settings: type[Any],
    values: dict[str, Any],
    compute: Callable[[Any], Iterable[Any]],
    how: Output,
    *,
    plural: str = "checkpoints",
    require_converged: bool = False,
    require_analysable: bool = False,
) -> None:
    """Build settings, compute results, print them, then write the plot.

    Nothing is written to stdout before the work is done. Results are printed before anything else can fail.

    Args:
        command: Name of the command, for the JSON document.
        settings: Class of its settings.
        values: Values of the fields from the command line.
        compute: Function from settings to results. It imports torch, so it is called only after the settings are checked.
        how: JSON or tables, plot, and messages.
        plural: Key of several results in JSON.
        require_converged: Whether to exit with code 5, after printing, if a result has not converged.
        require_analysable: Whether to exit with code 3, after printing, if a file cannot be analysed.

    Raises:
        typer.Exit: The command has failed; it has the exit code.
    """
    streams = apart()
    try:
        # On a busy machine, idle OpenMP threads that spin make two threads a thousand times slower, so they must sleep.
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        os.environ.setdefault("GOMP_SPINCOUNT", "0")
        _require_folder()
        values, chosen = _configured(command, settings, with_present_names(settings, values), how, streams)
        plot = _place_of_plot(how)
        vectors = values.get("vectors")
        for place in filter(None, (plot, vectors)):
            check_place(Path(place), streams.answer)
        if plot is not None:
            check_plot(plot, vectors)
        results, failed = _compute(compute, chosen, how, streams)
        _show(command, results, failed, plural, plot, how, streams)
        if failed is not None:
            raise failed
        if require_converged and not all(getattr(result, "converged", True) for result in results):
            raise NotConvergedError("Not every eigenvalue is certified.", "Raise --max-hvp or --tol, or use --dtype float64.")
        if require_analysable and not all(getattr(result, "analysable", True) for result in results):
            raise InputError("Not every file can be analysed.", "See the checks above that are marked NO.")
    except _Shown:
        code = 0
    except _ReaderGoneError:
        code = CLOSED_PIPE
    except BaseException as error:  # The code of a model may raise anything, also SystemExit.
        code = _report(error, command, values, how, streams)
    else:
        code = 0
    streams.close()
    if code and not is_follower():  # The exit code of a run is that of its first process.
        raise typer.Exit(code)


def _show(
    command: str,
    results: list[Any],
    failed: IncompleteError | None,
    plural: str,
    plot: Path | None,
    how: Output,
    streams: Streams,
) -> None:
    """Print the results and write the plot; of several processes, the first one does this."""
    if is_follower():
        return
    _print(_text(command, results, how, plural, streams, failed), streams)
    if plot is not None:
        _draw(results, plot, how, streams)


def _require_folder() -> None:
    """Refuse a working folder that was removed, because libraries that torch uses would end the process.

    Raises:
        InputError: The folder was removed.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise InputError("The working folder no longer exists.", "Change to another folder.") from error


def _place_of_plot(how: Output) -> Path | None:
    """Return the path of the plot; it is absolute, because the code of a model may change the working folder.

    Raises:
        SettingsError: The name is empty or has no known ending, or the look of the figure is not valid.
    """
    look = {name: getattr(how, name) for name in ("style", "size", "dpi")}
    if how.plot is None:
        for name in (name for name, value in look.items() if value is not None):
            raise SettingsError(f"--{name} is for --plot, which is not given.", f"Add --plot FILE, or leave --{name} out.")
        return None
    look_of(**look)
    if how.plot == "":
        raise SettingsError("--plot is empty.", "Give the name of a file.")
    from sharpcli.files import from_root

    _figures().check_format(Path(how.plot))
    return from_root(how.plot)


def _figures() -> ModuleType:
    """Import the figures and matplotlib, from another folder, so that a matplotlibrc in the working folder is not read."""
    import importlib.util

    spec = importlib.util.find_spec("matplotlib")
    assert spec is not None
    assert spec.origin is not None
    backend = os.environ.pop("MPLBACKEND", None)  # Files need no backend, and an unknown one ends the import.
    try:
        with contextlib.chdir(Path(spec.origin).parent / "mpl-data"):
            from sharpcli.render import figures
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    return figures


def _compute(
    compute: Callable[[Any], Iterable[Any]], chosen: Any, how: Output, streams: Streams
) -> tuple[list[Any], IncompleteError | None]:
    """Return the results, and the error of a part that has failed, if there is one."""
    from sharpcli import progress
    from sharpcli.render.console import TerminalListener

    shown = TerminalListener(streams.messages, quiet=how.quiet, verbose=how.verbose)
    prints = contextlib.nullcontext() if streams.apart else contextlib.redirect_stdout(streams.messages)
    results: list[Any] = []
    with shown as listener, prints, progress.listening(listener), _joined():
        try:
            results.extend(compute(chosen))  # One by one, so that results before an error are in the list.
        except KeyboardInterrupt:
            raise
        except IncompleteError as error:
            return [*results, *error.results], error
        except BaseException as error:
            if not results:
                raise
            return results, IncompleteError(results, error, several=True)
    return results, None


@contextlib.contextmanager
def _joined() -> Iterator[None]:
    """Join the other processes that torchrun has started, if there are any; only then torch is loaded here."""
    if launched() is None:
        yield
        return
    from sharpcli import processes

    with processes.joined():
        yield


def _text(command: str, results: list[Any], how: Output, plural: str, streams: Streams, failed: IncompleteError | None) -> str:
    if how.csv:
        from sharpcli.results import comma_separated

        return comma_separated(results)
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


def _configured(
    command: str, settings: type[Any], values: dict[str, Any], how: Output, streams: Streams
) -> tuple[dict[str, Any], Any]:
    """Return the values of the options from all places, and the settings made from them; show them if this is asked."""
    if how.json and how.csv:
        raise SettingsError("--json and --csv are both given.", "Give one of the two.")
    configuration = Configuration.of(command, settings, values, how.given, how.task)
    chosen = configuration.settings(partial(build, settings))
    if how.show_config:
        _print(_shown(configuration.with_recipe(chosen), command, how, streams), streams)
        raise _Shown
    if configuration.note() and not how.quiet:
        streams.messages.write(configuration.note() + "\n")
    return configuration.values, chosen


def _shown(configuration: Configuration, command: str, how: Output, streams: Streams) -> str:
    """Return the value of every option and its source, as a table or as one JSON document."""
    values = configuration.values
    if how.json:
        import json

        from sharpcli.results import SCHEMA, plain

        config = {name: {"value": plain(values[name]), "source": source} for name, source in configuration.sources.items()}
        return json.dumps({"schema": SCHEMA, "command": command, "config": config}, indent=2) + "\n"
    from sharpcli.render.console import console
    from sharpcli.render.tables import show_parts
    from sharpcli.render.tables.configuration import draw_configuration

    to = console(streams.answer)
    with to.capture() as captured:
        show_parts([draw_configuration(command, values, configuration.sources)], to)
    return captured.get()


def _print(text: str, streams: Streams) -> None:
    try:
        streams.answer.write(text)
        streams.answer.flush()
    except BrokenPipeError as error:
        raise _ReaderGoneError from error
    except OSError as error:
        raise InputError(
            f"Cannot write the results to stdout: {error.strerror or error}.", "Redirect stdout to another file or disk."
        ) from error


def _draw(results: list[Any], plot: Path, how: Output, streams: Streams) -> None:
    from sharpcli.files import write_bytes
    from sharpcli.render.console import console, write_message

    drawn = _figures().draw(results, plot, look_of(how.style, how.size, how.dpi))
    replaces, folder = plot.exists(), next(folder for folder in plot.parents if folder.exists())
    write_bytes(plot, drawn)
    if not how.quiet:
        more = " in place of an older picture" if replaces else ""
        if folder != plot.parent:
            more = f" in the new folder {plot.parent}"
        write_message(console(streams.messages), f"Plot written to {how.plot}{more}")


def _report(error: BaseException, command: str, values: dict[str, Any], how: Output, streams: Streams) -> int:
    """Write an error message, and return the exit code."""
    known = failure(error if isinstance(error, KeyboardInterrupt) else received() or error, command, values)
    if has_joined():
        from sharpcli import processes

        processes.report(known.message)
    if how.debug:
        cause = error.cause if isinstance(error, IncompleteError) else error
        streams.messages.write("".join(traceback.format_exception(cause)))
    from sharpcli.render.console import write_error

    write_error(streams.messages, known.message, known.hint, known.details)
    return known.code
