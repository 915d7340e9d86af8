"""Sentences, commands, names and tables at a given width."""

from __future__ import annotations

import io
import shlex
import subprocess

import pytest
from rich.cells import cell_len

from sharpcli import results
from sharpcli.render.console import console, write_message
from sharpcli.render.folding import fold, fold_command, fold_message, shortened, visible
from sharpcli.render.tables import show
from sharpcli.render.tables.layout import lay_out
from sharpcli.render.tables.parts import between_bounds, new_table, plus_minus
from tests.contracts.invented import Invented

PATH = "runs/experiment_2026/very_long_name_of_a_run_small_batch/final.pt"


@pytest.mark.parametrize("width", range(20, 90, 7))
def test_a_sentence_is_folded_at_words(width: int):
    text = "the trace is 196.39 ± 2.7 and P = 26506, of which 95.2 % are in [12.5, 13.5]; use --max-hvp 200 or 'a short one'"
    lines = fold(text, width)
    assert max(map(len, lines)) <= width
    assert " ".join(line.strip() for line in lines) == text
    if width >= 30:
        for whole in ("196.39 ± 2.7", "P = 26506", "95.2 %", "[12.5, 13.5]", "--max-hvp 200", "'a short one'"):
            assert any(whole in line for line in lines)


@pytest.mark.parametrize("width", [30, 67, 69, 80])
def test_a_path_is_broken_only_if_it_is_longer_than_a_line(width: int):
    lines = fold(f"the weights were written to {PATH} and then read", width)
    assert max(map(len, lines)) <= width
    assert any(PATH in line for line in lines) == (len(PATH) <= width)
    assert PATH in "".join(line.strip() for line in lines)


def test_spaces_at_the_beginning_and_line_ends_stay():
    assert fold("a\n  b", 40) == ["a", "  b"]
    assert fold("", 40) == [""]


@pytest.mark.parametrize("width", [20, 40, 60, 80])
@pytest.mark.parametrize("name", [PATH, "my runs/it's here/" + "x" * 50, "a.pt"])
def test_a_folded_command_is_the_same_command_to_a_shell(name: str, width: int):
    command = "  " + shlex.join(["printf", r"%s\n", "hessian", name, "--topk", "20", "--ggn-split", "--params", "a b"])
    lines = fold_command(command, width)
    assert max(map(cell_len, lines)) <= width
    done = subprocess.run(["sh", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["hessian", name, "--topk", "20", "--ggn-split", "--params", "a b"]


def test_a_command_at_the_end_of_a_message_can_be_copied():
    message = f"hint: What was saved can be gone on with: sharpcli train {PATH} --resume"
    assert fold_message(message, 200) == [message]
    first, *others = fold_message(message, 60)
    assert first == "hint: What was saved can be gone on with:"
    done = subprocess.run(
        ["sh", "-c", "\n".join(others).replace("sharpcli", "echo")], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"train {PATH} --resume\n"
    for other in ("no command here", "two sentences: sharpcli train. And more", "a mark: sharpcli train it's"):
        assert fold_message(other, 20) == fold(other, 20)


def test_shortened_names_stay_different():
    names = [f"runs/seed-{seed}/very_long_name_{kind}/final.pt" for seed in range(9) for kind in ("sgd", "adam")]
    for limit in (12, 16, 24):
        short = shortened(names, limit)
        assert len(set(short)) == len(names)
        assert max(map(len, short)) <= limit
    assert shortened(["a", "bc"], 2) == ["a", "bc"]


def test_a_name_in_a_file_cannot_steer_the_terminal():
    assert visible("a\x1b[2Jb\rc\x9b") == r"a\x1b[2Jb\rc\x9b"


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (0.47763, 0.02412, "0.478 ± 0.024"),
        (416.81, 71.2, "417 ± 71"),
        (17.021, 0.814, "17.02 ± 0.81"),
        (-3.2e-13, 4.1e-14, "-3.2e-13 ± 4.1e-14"),
        (2.6e17, 3.14e15, "2.6e+17 ± 3.1e+15"),
        (2.5, 0.0, "2.5 ± 0"),
        (2.5, float("nan"), "2.5 ± nan"),
    ],
)
def test_a_value_has_as_many_decimals_as_its_error(value: float, error: float, text: str):
    assert plus_minus(value, error) == text


@pytest.mark.parametrize(
    ("value", "lower", "upper", "text"),
    [
        (64.0621, 53.4312, 74.6931, "64.1 [53.4, 74.7]"),
        (196.391, 193.7013, 199.0999, "196.39 [193.70, 199.10]"),
        (-2.0, -1e5, 1e5, "-2 [-1e+05, 1e+05]"),
        (3e-13, 2e-13, 4e-13, "3e-13 [2e-13, 4e-13]"),
        (5.0, 5.0, 5.0, "5 [5, 5]"),
    ],
)
def test_a_value_has_as_many_decimals_as_its_interval(value: float, lower: float, upper: float, text: str):
    assert between_bounds(value, lower, upper) == text


def test_a_terminal_that_knows_ascii_only_gets_dashes():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="replace")
    show([Invented().instance(results.DistanceResult)], console(stream))
    stream.flush()
    lines = stream.buffer.getvalue().decode("ascii").splitlines()  # type: ignore[attr-defined]
    assert any(set(line.strip()) == {"-"} for line in lines)
    assert any(line.strip().startswith("norm |w|") for line in lines)


def test_what_is_the_same_in_all_rows_is_said_once():
    table = new_table("", "name", "loss", "split", "trace")
    for name, loss in (("a", "1.5"), ("b", "2.5")):
        table.add_row(name, loss, "train", "–")
    lines = [line.plain for line in lay_out(table, 80)]
    assert lines[0].split() == ["name", "loss"]
    assert lines[-1].strip() == "in every row: split train; no value: trace"


def test_a_table_with_equal_columns_only_keeps_one():
    table = new_table("", "name", "loss", "split")
    table.add_row("a", "1", "train")
    table.add_row("b", "1", "train")
    assert [line.plain.split() for line in lay_out(table, 80)][0] == ["name", "loss"]


def test_rows_of_one_name_are_told_apart_in_every_block():
    table = new_table("", "box", "radius", *(f"number {place}" for place in range(9)))
    for row in range(4):
        table.add_row("full", str(row), *(f"{row}.{place}234567" for place in range(9)))
    text = [line.plain for line in lay_out(table, 50)]
    heads = [place for place, line in enumerate(text) if "box" in line]
    assert len(heads) > 1
    assert all(sum(f"full, {row}" in line for line in text) == len(heads) for row in range(4))


@pytest.mark.parametrize(("columns", "folded"), [("40", True), (None, False), ("0", False), ("x", False)])
def test_columns_count_also_in_a_pipe(columns: str | None, folded: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    stream = io.StringIO()
    write_message(console(stream), "The loss does not repeat, since the model has dropout in eval mode.", "warning", "yellow")
    lines = stream.getvalue().splitlines()
    assert lines[0].startswith("warning: The loss")
    assert (len(lines) > 1) == folded
    assert max(map(len, lines)) <= 40 or not folded
