"""Convert a table to lines of a given width: unchanged, transposed, in blocks of columns, or row by row; nothing is cut."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from rich.cells import cell_len
from rich.text import Text

from sharpcli.render.folding import fold, longest_word, shortened
from sharpcli.render.tables.parts import NO_VALUE, Facts, Table

_INDENT = 2
_WIDE_GAP, _GAP = 3, 2
_NAMES = 0.6  # Share of the width for the names of rows, if not all columns fit next to them.
_LEAST_NAME = 12  # Columns of a name that is shortened.
_SENTENCE = 24  # Columns from which a cell may be folded at words.
_LEAST_VALUE = 16  # Columns that a sentence needs at least next to its name.


@dataclass(frozen=True)
class _Column:
    """A column of a table: its head, its cells, and whether these are words."""

    head: str
    cells: tuple[Text, ...]
    words: bool

    @cached_property
    def natural(self) -> int:
        """Width of the widest cell."""
        return max((cell_len(cell.plain) for cell in self.cells), default=0)

    @cached_property
    def least(self) -> int:
        """Smallest width that breaks no number."""
        if self.natural <= _SENTENCE:
            return max(self.natural, longest_word(self.head))
        return max(longest_word(self.head), *(longest_word(cell.plain) for cell in self.cells), min(_SENTENCE, self.natural))

    @cached_property
    def unfolded(self) -> int:
        """Width at which the head and all cells are on one line."""
        return max(self.natural, cell_len(self.head))


def lay_out(table: Table, width: int) -> list[Text]:
    """Return the lines of a table without its title.

    A table that is too wide gets heads of several lines, or is transposed if all rows fit as columns, or is split into
    blocks of columns, or each row becomes a list. Names of rows that are too long are shortened in the middle, and
    listed in full below.
    """
    names, *columns = _columns(table)
    columns, below = _without_constant_columns(columns) if table.once and len(table.rows) > 1 else (columns, "")
    lines = _fitting(names, columns, width)
    if below:
        lines += [Text(" " * _INDENT + part, style="dim") for part in fold(below, width - _INDENT)]
    return lines


def lay_out_facts(facts: Facts, width: int, indented: int = _INDENT) -> list[Text]:
    """Return the lines of named values; a value goes below its name if there is no room next to it."""
    indent, lines = " " * indented, list[str]()
    widest = max((cell_len(name) for name, _ in facts.rows), default=0)
    room = width - indented - widest - _GAP
    for name, value in facts.rows:
        if longest_word(value) <= room and room >= min(_LEAST_VALUE, cell_len(value)):
            first, *others = fold(value, room, hang=0)
            lines.append(f"{indent}{name}{' ' * (widest - cell_len(name) + _GAP)}{first}")
            lines += [" " * (indented + widest + _GAP) + other for other in others]
        else:
            lines += [indent + part for part in fold(name, width - indented) if name]
            lines += [indent + "  " + part for part in fold(value, width - indented - 2, hang=0)]
    return [Text(line, style=facts.style) for line in lines]


def _columns(table: Table) -> list[_Column]:
    return [
        _Column(head, tuple(row[place] for row in table.rows), words=place < table.left)
        for place, head in enumerate(table.columns)
    ]


def _without_constant_columns(columns: Sequence[_Column]) -> tuple[list[_Column], str]:
    """Return the columns whose values differ between rows, at least one, and a sentence with the values of the others."""
    same = [column for column in columns if len({cell.plain for cell in column.cells}) == 1]
    if len(same) == len(columns):
        same = same[1:]
    values = [f"{column.head} {column.cells[0].plain}" for column in same if column.cells[0].plain != NO_VALUE]
    missing = [column.head for column in same if column.cells[0].plain == NO_VALUE]
    sentences = [f"in every row: {'; '.join(values)}"] if values else []
    sentences += [f"no value: {', '.join(missing)}"] if missing else []
    return [column for column in columns if column not in same], "; ".join(sentences)


def _fitting(names: _Column, columns: list[_Column], width: int) -> list[Text]:
    everything = [names, *columns]
    if _total([column.unfolded for column in everything], _WIDE_GAP) <= width:
        return _drawn(everything, [column.unfolded for column in everything], _WIDE_GAP)
    names, columns = _with_distinct_names(names, columns)
    everything = [names, *columns]
    for gap in (_WIDE_GAP, _GAP):
        if widths := _widths(everything, width, gap):
            return _drawn(everything, widths, gap)
    if transposed := _transposed(names, columns, width, shorten=False):
        return transposed
    short, legend = _shortened(names, width)
    if legend and len(columns) == 1:  # A list is as short, and shows the full names.
        return _row_by_row(names, columns, width)
    if legend:
        if transposed := _transposed(names, columns, width, shorten=True):
            return transposed
        if widths := _widths([short, *columns], width, _GAP):
            return _drawn([short, *columns], widths, _GAP) + legend
    if all(_total([short.unfolded, column.least], _GAP) <= width for column in columns):
        return _in_blocks(short, columns, width) + legend
    return _row_by_row(names, columns, width)


def _with_distinct_names(names: _Column, columns: list[_Column]) -> tuple[_Column, list[_Column]]:
    """Join columns to the names of rows until all names are different; the last column is never joined."""
    while columns[1:] and len({cell.plain for cell in names.cells}) < len(names.cells):
        cells = (
            Text(f"{cell.plain}, {more.plain}", cell.style) for cell, more in zip(names.cells, columns[0].cells, strict=True)
        )
        names, columns = _Column(f"{names.head}, {columns[0].head}", tuple(cells), words=True), columns[1:]
    return names, columns


def _total(widths: Sequence[int], gap: int) -> int:
    return _INDENT + sum(widths) + gap * (len(widths) - 1) + 1


def _widths(columns: Sequence[_Column], width: int, gap: int) -> list[int]:
    """Return a width for each column, the first one unfolded; no widths if they do not fit."""
    widths = [column.unfolded if place == 0 else column.least for place, column in enumerate(columns)]
    room = width - _total(widths, gap)
    if room < 0:
        return []
    for place, column in sorted(enumerate(columns), key=lambda pair: -pair[1].natural):
        more = min(room, max(column.unfolded - widths[place], 0))
        widths[place] += more
        room -= more
    return widths


def _drawn(columns: Sequence[_Column], widths: Sequence[int], gap: int) -> list[Text]:
    """Return a head, a line and the rows; heads and cells are folded where a column is narrower than they are."""
    heads = [fold(column.head, size, hang=0) for column, size in zip(columns, widths, strict=True)]
    tallest = max(map(len, heads))
    heads = [[""] * (tallest - len(head)) + head for head in heads]
    lines = [_joined([Text(head[place]) for head in heads], columns, widths, gap, "bold") for place in range(tallest)]
    if not any(line.plain.strip() for line in lines):
        lines = []
    lines.append(Text(" " * (_INDENT - 1) + "─" * (_total(widths, gap) - _INDENT + 1)))
    for row in zip(*(column.cells for column in columns), strict=True):
        cells = [
            [Text(part, style=cell.style) for part in fold(cell.plain, size, hang=0)]
            for cell, size in zip(row, widths, strict=True)
        ]
        for place in range(max(map(len, cells))):
            parts = [cell[place] if place < len(cell) else Text() for cell in cells]
            lines.append(_joined(parts, columns, widths, gap))
    return lines


def _joined(parts: Sequence[Text], columns: Sequence[_Column], widths: Sequence[int], gap: int, style: str = "") -> Text:
    line = Text(" " * _INDENT, style=style)
    for place, (part, column, size) in enumerate(zip(parts, columns, widths, strict=True)):
        space = " " * (size - cell_len(part.plain))
        line.append(" " * gap if place else "").append(space if not column.words else "").append_text(part)
        line.append(space if column.words else "")
    line.rstrip()
    return line


def _transposed(names: _Column, columns: Sequence[_Column], width: int, *, shorten: bool) -> list[Text]:
    """Return the transposed table; no lines if it does not fit, or only with shortened names and these are not allowed."""
    count = len(names.cells)
    heads = max((cell_len(column.head) for column in columns), default=0)
    values = [max(cell_len(column.cells[place].plain) for column in columns) for place in range(count)]
    room = (width - _total([heads], _GAP)) // count - _GAP
    if max(values) > room or min(room, names.natural) < min(_LEAST_NAME, names.natural):
        return []
    short = shortened([cell.plain for cell in names.cells], room)
    if not shorten and names.natural > room:
        return []
    rows = [_Column(name, tuple(column.cells[place] for column in columns), words=False) for place, name in enumerate(short)]
    everything = [_Column(names.head, tuple(Text(column.head) for column in columns), words=True), *rows]
    return _drawn(everything, [column.unfolded for column in everything], _GAP) + _legend(names, short, width)


def _shortened(names: _Column, width: int) -> tuple[_Column, list[Text]]:
    """Return shortened names of rows, and the lines that list them in full."""
    short = shortened([cell.plain for cell in names.cells], max(int(_NAMES * width), _LEAST_NAME))
    cells = tuple(Text(name, style=cell.style) for name, cell in zip(short, names.cells, strict=True))
    return replace(names, cells=cells), _legend(names, short, width)


def _legend(names: _Column, short: Sequence[str], width: int) -> list[Text]:
    pairs = {name: cell.plain for name, cell in zip(short, names.cells, strict=True) if name != cell.plain}
    return lay_out_facts(Facts("", tuple((f"{name} is", full) for name, full in pairs.items()), "dim"), width)


def _in_blocks(names: _Column, columns: Sequence[_Column], width: int) -> list[Text]:
    lines: list[Text] = []
    for block in _blocks(names, columns, width):
        lines += [Text()] * bool(lines) + _drawn(block, _widths(block, width, _GAP), _GAP)
    return lines


def _blocks(names: _Column, columns: Sequence[_Column], width: int) -> Iterator[list[_Column]]:
    block = [names]
    for column in columns:
        if not _widths([*block, column], width, _GAP):
            yield block
            block = [names]
        block.append(column)
    yield block


def _row_by_row(names: _Column, columns: Sequence[_Column], width: int) -> list[Text]:
    lines: list[Text] = []
    for place, name in enumerate(names.cells):
        lines += [Text(" " * _INDENT + part, style="bold") for part in fold(name.plain, width - _INDENT)]
        values = [(column.head, column.cells[place].plain) for column in columns]
        lines += lay_out_facts(Facts("", [pair for pair in values if pair[1]]), width, 2 * _INDENT)
    return lines
