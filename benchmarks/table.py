"""The figures as tables on stdout. No torch here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table

_WIDE = 150  # Columns of a table that goes to no terminal.

Row = dict[str, Any]


def show(document: dict[str, Any]) -> None:
    """Print a table of tools and one of engines for each net."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDE)
    known = document["conditions"]
    console.print(
        f"{known['cpu']}, {known['threads']} threads, torch {known['torch']}, Python {known['python']}, "
        f"rounds: {known['rounds']}, {known['date']}",
        highlight=False,
    )
    for net, facts in known["nets"].items():
        rows = [row for row in document["rows"] if row["net"] == net]
        if rows:
            console.print(_tools(net, facts, rows))
    for net in known["nets"]:
        rows = [row for row in document["engines"] if row["net"] == net]
        if rows:
            console.print(_engines(net, rows, known["peak"].get(net, {})))
    console.print(
        "seconds: median (least to most), set-up included; ratio: to sharpcli, median over rounds; residual: worst of"
    )
    console.print("|Hv - θv| / θ1 in float64; error: worst |θ - λ| / λ; peak: growth of resident memory.", highlight=False)


def _tools(net: str, facts: Row, rows: Iterable[Row]) -> Table:
    truth = facts["reference"]
    few = f"λ1 {truth['values'][0]:.4g}, λk {truth['values'][-2]:.4g}, λmin {truth['smallest']:.3g}"
    title = f"{net}: {facts['parameters']:,} parameters, N = {facts['samples']}, {few}"
    table = _table(title, ("tool", "products", "seconds", "ratio", "residual", "error", "peak MiB"), "settings")
    for row in rows:
        spread = f" ({_short(row['seconds_min'])} to {_short(row['seconds_max'])})" if row["rounds"] > 1 else ""
        table.add_row(
            row["tool"],
            _short(row["products"]),
            _short(row["seconds"]) + spread,
            _short(row["ratio"], 2),
            _short(row["worst_residual"], 1),
            _short(row["worst_eigenvalue_error"], 1),
            _short(row["peak_bytes"] and row["peak_bytes"] / 2**20),
            row["error"] or row["settings"] or "",
        )
    return table


def _engines(net: str, rows: Iterable[Row], peak: Row) -> Table:
    title = f"{net}: one product"
    if peak:
        title += f"; at best {peak['matmul'] / 1e9:.0f} GFLOP/s matmul ({peak['matmul_by']}), {peak['conv'] / 1e9:.0f} conv"
    table = _table(title, ("engine", "seconds", "gradients", "times limit", "set-up s", "error"), "what it is")
    for row in rows:
        names = (("seconds", 3), ("gradients", 3), ("times_limit", 2), ("set_up_seconds", 2), ("relative_error", 1))
        numbers = [_short(row.get(name), digits) for name, digits in names]
        table.add_row(row["engine"], *numbers, row.get("error") or row["words"])
    return table


def _table(title: str, columns: tuple[str, ...], last: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    table.add_column(last, overflow="fold")
    return table


def _short(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}g}"
