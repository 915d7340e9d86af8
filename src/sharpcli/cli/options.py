"""Make the options of a command from a settings class: each field is one option, with its own help."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable
from typing import Annotated, Any, get_args, get_type_hints

import typer

from sharpcli.cli.completion import completer, styles_starting_with
from sharpcli.errors import SettingsError
from sharpcli.settings import REPEATED

_NUMBERS = {float: "a number", int: "an integer", str: "a word"}

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Csv = Annotated[bool, typer.Option("--csv", help="Print the main table as comma-separated values, with all digits.")]
Plot = Annotated[str | None, typer.Option("--plot", help="Also write a figure to this png, pdf or svg file.", metavar="FILE")]
Style = Annotated[
    str | None,
    typer.Option(
        "--style",
        help="Look of --plot: screen (the default), paper (small text, thin lines) or talk (large text, thick lines).",
        metavar="NAME",
        autocompletion=styles_starting_with,
    ),
]
Size = Annotated[str | None, typer.Option("--size", help="Width and height of --plot in inches, such as 7x3.5.", metavar="WxH")]
Dpi = Annotated[int | None, typer.Option("--dpi", help="Dots per inch of a png of --plot. Default: 150.", metavar="N")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Write only errors to stderr.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Explain automatic choices, such as the engine, on stderr.")]
Task = Annotated[
    str | None,
    typer.Option(
        "--task", help="File that defines model() and data(), and loss(model, batch) if needed; it is run.", metavar="FILE.py"
    ),
]
ShowConfig = Annotated[
    bool, typer.Option("--show-config", help="Show the value of every option and where it comes from, and exit.")
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


_PASSED = ("values", "how")


@dataclasses.dataclass(frozen=True)
class Output:
    """How a command writes its results and messages, and where it takes its options from.

    Attributes:
        json: Whether to write one JSON document.
        csv: Whether to write the main table as comma-separated values.
        plot: File of a figure.
        style: How the figure looks.
        size: Its width and height in inches, such as "7x3.5".
        dpi: Dots per inch of a png.
        quiet: Whether to write only errors to stderr.
        verbose: Whether to explain automatic choices.
        debug: Whether to show the traceback of an error.
        task: File that defines model, data and loss.
        show_config: Whether to show the options instead of running the command.
        given: Names of the settings that are on the command line.
    """

    json: bool = False
    csv: bool = False
    plot: str | None = None
    style: str | None = None
    size: str | None = None
    dpi: int | None = None
    quiet: bool = False
    verbose: bool = False
    debug: bool = False
    task: str | None = None
    show_config: bool = False
    given: frozenset[str] = frozenset()


def with_options(settings: type[Any], *, plot: bool, code: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Return a decorator that gives a command one option per field of a settings class, and the options for output.

    The command is called with its arguments, `values` (the values of the fields by name) and `how` (an `Output`).

    Args:
        settings: The settings class.
        plot: Whether the command has the option --plot.
        code: Whether it has the option --task.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name not in _PASSED]
        answers = {
            "json": Json,
            "csv": Csv,
            **({"plot": Plot, "style": Style, "size": Size, "dpi": Dpi} if plot else {}),
            "quiet": Quiet,
            "verbose": Verbose,
            "debug": Debug,
        }
        answers |= {**({"task": Task} if code else {}), "show_config": ShowConfig}
        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [*own, context, *_parameters(settings)]
        for name, annotation in answers.items():
            default = None if name in ("plot", "style", "size", "dpi", "task") else False
            parameters.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
        fields = [*(field.name for field in dataclasses.fields(settings)), *settings.former_names]

        def run(**given: Any) -> None:
            values = {name: given.pop(name) for name in fields}
            context = given.pop("context")
            sources = {name: context.get_parameter_source(name) for name in fields}
            typed = frozenset(name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE")
            how = Output(**{name: given.pop(name) for name in answers}, given=typed)
            command(values=values, how=how, **given)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return run

    return decorate


def build(settings: type[Any], values: dict[str, Any]) -> Any:
    """Make settings from the values of the command line.

    Raises:
        SettingsError: A value cannot be read or is out of range.
    """
    hints = get_type_hints(settings)
    return settings(**{name: _read(name, value, hints[name]) for name, value in values.items()})


def with_present_names(settings: type[Any], values: dict[str, Any]) -> dict[str, Any]:
    """Return the values with former names replaced by the present ones.

    Raises:
        SettingsError: A value was given under both names.
    """
    present = {name: value for name, value in values.items() if name not in settings.former_names}
    for former, name in settings.former_names.items():
        if values.get(former) is None:
            continue
        old, new = (f"--{word.replace('_', '-')}" for word in (former, name))
        if present[name] is not None:
            raise SettingsError(f"{new} and {old}, its former name, are both given.", f"Give {new} only.")
        present[name] = values[former]
    return present


def _parameters(settings: type[Any]) -> list[inspect.Parameter]:
    """Return one keyword parameter per field, annotated for Typer; fields of this class alone come first."""
    hints = get_type_hints(settings)
    fields = dataclasses.fields(settings)
    own = [field for field in fields if field.name in settings.__annotations__]
    parameters = []
    for field in (*own, *(field for field in fields if field not in own)):
        kind, default = _typer_type(field.name, hints[field.name], field.default)
        flag, shown = f"--{field.name.replace('_', '-')}", field.metadata
        switch = bool in (kind, *get_args(kind))
        words = f"{flag}/--no-{flag[2:]}" if switch and kind is not bool else flag  # A switch that a recipe sets can be unset.
        option = typer.Option(
            words,
            help=shown["help"],
            metavar=None if switch else shown["metavar"],
            rich_help_panel=shown["panel"],
            autocompletion=completer(settings, field.name),
        )
        annotation: Any = Annotated[kind, option]
        parameters.append(inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation))
    for former, name in settings.former_names.items():
        option = typer.Option(f"--{former.replace('_', '-')}", hidden=True)
        annotation = Annotated[hints[name], option]
        parameters.append(inspect.Parameter(former, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    return parameters


def _typer_type(name: str, hint: Any, default: Any) -> tuple[Any, Any]:
    """Return type and default for Typer: a tuple becomes a repeated option or one text with commas."""
    if get_args(hint) and not isinstance(hint, types.UnionType) and isinstance(default, tuple):
        if name in REPEATED:
            return list[str], list(default)
        return str, ",".join(f"{item:g}" if isinstance(item, float) else str(item) for item in default)
    return hint, default


def _read(name: str, value: Any, hint: Any) -> Any:
    if not isinstance(hint, types.GenericAlias):
        return value
    if name in REPEATED:
        return tuple(value)
    kind = get_args(hint)[0]
    try:
        return tuple(kind(part.strip()) for part in value.split(",") if part.strip())
    except ValueError:
        flag = f"--{name.replace('_', '-')}"
        raise SettingsError(
            f"{flag} '{value}' contains a value that is not {_NUMBERS[kind]}.", "Separate values by commas."
        ) from None
