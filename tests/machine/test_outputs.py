"""What was computed is printed before anything else can fail, and what is on the disk stays whole."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import sharpcli
from sharpcli.errors import InputError
from tests.lanes import thinned
from tests.machine.conftest import sentence_and_hint
from tests.processes import Machine

INSIDE = """
def inside(name):
    frame = sys._getframe()
    while frame is not None and frame.f_code.co_name != name:
        frame = frame.f_back
    return frame is not None

def inside_file(name):
    frame = sys._getframe()
    while frame is not None and not frame.f_code.co_filename.endswith(name):
        frame = frame.f_back
    return frame is not None
"""


def result_of(answer: Any, status: str) -> dict[str, Any]:
    document = json.loads(answer.stdout)
    assert document["status"] == status
    found: dict[str, Any] = document["result"]
    return found


def test_no_memory_for_the_samples_left_out_costs_their_bar_alone(
    machine: Machine, own_model: Callable[..., list[str]], final: Path
) -> None:
    words = own_model(imported=INSIDE, called="if inside('_held_out'): raise torch.OutOfMemoryError('out of memory')")
    answer = machine("hessian", final, *words, "--topk", 1, "--samples", 20, "--json")
    assert answer.exit_code == 0, answer.stderr
    bar = result_of(answer, "ok")["data_bar"]
    assert bar["standard_error"] > 0
    assert bar["held_out"] is None
    assert "warning: The held-out samples are not measured: there is not enough memory for it." in answer.stderr


ENGINE = "forward-over-reverse"  # It calls the model for every product.
PARTS = {"moments": ("--trace", "trace"), "density": ("--density", "density"), "blocks_of": ("--per-layer", "layers")}


@pytest.mark.parametrize("function", thinned(PARTS))
def test_a_part_that_fails_after_the_eigenvalues_is_missing_and_told(
    function: str, machine: Machine, own_model: Callable[..., list[str]], final: Path
) -> None:
    option, word = PARTS[function]
    words = own_model(imported=INSIDE, called=f"if inside({function!r}): raise ValueError('boom')")
    answer = machine("hessian", final, *words, "--topk", 1, option, "--ggn-split", "--engine", ENGINE, "--json")
    sentence_and_hint(answer, 3)
    result = result_of(answer, "incomplete")
    assert result["eigenvalues"][0]["verdict"] == "certified"
    assert result["parts"] is not None
    assert not result["layers" if word == "layers" else function]
    assert f"{word} is missing" in answer.stderr or f"table of {word} is missing" in answer.stderr
    assert "ValueError: boom" in answer.stderr


def test_the_results_before_one_that_fails_are_printed(machine: Machine, final: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt").write_text("no checkpoint")
    for command in ("hessian", "sharpness", "distance", "inspect"):
        answer = machine(command, final, tmp_path / "text.pt", "--json", *(["--topk", 1] if command == "hessian" else []))
        sentence_and_hint(answer, 3)
        assert len(result_of(answer, "incomplete")["checkpoints"]) == 1
    rows = machine("compare", final, tmp_path / "text.pt", "--metrics", "distance", "--json")
    sentence_and_hint(rows, 3)
    assert len(result_of(rows, "incomplete")["rows"]) == 1
    for command in ("hessian", "sharpness", "distance", "inspect", "compare", "interpolate"):
        missing = machine(command, final, tmp_path / "none.pt", "--json")
        sentence_and_hint(missing, 3)
        assert missing.stdout == ""


@pytest.mark.parametrize(
    ("words", "function", "kept"),
    [
        (["sharpness", "{final}", "--measure", "gradient-norm", "--measure", "worst-case"], "read", ("readings", 1)),
        (["interpolate", "{final}", "{final}", "--points", 3, "--curvature"], "path_curvature", ("curves", 2)),
    ],
    ids=lambda part: part[0] if isinstance(part, list) else "",
)
def test_what_other_commands_have_computed_is_printed(
    words: list[object],
    function: str,
    kept: tuple[str, int],
    machine: Machine,
    own_model: Callable[..., list[str]],
    final: Path,
) -> None:
    """The model fails in the second measure, and in the curvature after the path."""
    seen = {"read": "inside_file('worst_case.py')", "path_curvature": "inside('path_curvature')"}
    model = own_model(imported=INSIDE, called=f"if {seen[function]}: raise ValueError('boom')")
    answer = machine(*(str(word).format(final=final) for word in words), *model, "--json")
    sentence_and_hint(answer, 3)
    name, count = kept
    assert len(result_of(answer, "incomplete")[name]) == count


def test_runs_before_one_that_diverges_are_told(machine: Machine, tiny: list[str], tmp_path: Path) -> None:
    words = [*tiny, "--steps", 30, "--sweep", "lr=0.01,1e8", "--schedule", "constant", "--clip", 0, "--out", tmp_path / "run"]
    answer = machine("train", *words, "--json")
    sentence_and_hint(answer, 4)
    assert len(result_of(answer, "incomplete")["rows"]) == 1


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 20 kB that is nearly full, mounted for the test."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20k", "tmpfs", str(place)], capture_output=True, check=False)
    if done.returncode:
        pytest.skip("only root mounts a disk")
    try:
        (place / "p.png").write_bytes(b"\x89PNG what was here before")
        (place / "v.safetensors").write_bytes(b"")
        (place / "filling").write_bytes(b"0" * 4 * 4096)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_loses_neither_the_answer_nor_the_old_file(machine: Machine, final: Path, full_disk: Path) -> None:
    (full_disk / "v.safetensors").unlink()
    for option, name in (("--plot", "p.png"), ("--vectors", "v.safetensors")):
        answer = machine("hessian", final, "--topk", 30, "--json", option, full_disk / name)
        sentence_and_hint(answer, 3)
        assert len(result_of(answer, "incomplete" if option == "--vectors" else "ok")["eigenvalues"]) == 30
        assert "No space left on device" in answer.stderr
        assert f"MiB are free in {full_disk}" in answer.stderr
    assert {path.name for path in full_disk.iterdir()} == {"p.png", "filling"}
    assert (full_disk / "p.png").read_bytes() == b"\x89PNG what was here before"


def test_a_full_disk_in_the_middle_of_a_kept_search_is_a_warning(machine: Machine, final: Path, full_disk: Path) -> None:
    (full_disk / "filling").unlink()
    answer = machine("hessian", final, "--topk", 20, "--json", "--state", full_disk / "state")
    assert answer.exit_code == 0, answer.stderr
    assert "The state of the search could not be saved" in answer.stderr
    assert len(result_of(answer, "ok")["eigenvalues"]) == 20


def test_a_file_that_may_not_grow_is_told_after_the_answer(machine: Machine, final: Path, tmp_path: Path) -> None:
    """The same for whoever is not root: no file may be larger than so many bytes."""
    (tmp_path / "p.png").write_bytes(b"\x89PNG what was here before")
    answer = machine("hessian", final, "--topk", 1, "--plot", tmp_path / "p.png", limits={"RLIMIT_FSIZE": 20_000})
    sentence_and_hint(answer, 3)
    assert "certified" in answer.stdout
    assert (tmp_path / "p.png").read_bytes() == b"\x89PNG what was here before"
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_a_plot_of_nothing_is_told_after_the_answer(machine: Machine, final: Path, tmp_path: Path) -> None:
    answer = machine("distance", final, "--plot", tmp_path / "p.png")
    sentence_and_hint(answer, 2)
    assert "distance" in answer.stdout
    assert list(tmp_path.iterdir()) == []


def other_files(folder: Path) -> dict[str, Path]:
    os.mkfifo(folder / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "socket"))
    if os.geteuid() == 0:
        os.mknod(folder / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (folder / "folder").mkdir()
    return {path.name: path for path in folder.iterdir()}


@pytest.mark.parametrize("words", [("hessian", "--topk", 1, "--vectors"), ("surface", "--points", 2, "--state"), ("reparam",)])
def test_only_files_are_replaced(
    words: tuple[object, ...], machine: Machine, final: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)  # A socket's path may be a hundred letters long.
    places = other_files(Path())
    before = {name: path.stat().st_mode for name, path in places.items()}
    for name in places:
        answer = machine(words[0], final, *words[1:], name, cwd=tmp_path)
        sentence_and_hint(answer, 3)
        assert answer.stdout == ""
        assert f"it is a {name}" in answer.stderr
    assert {path.name: path.stat().st_mode for path in Path().iterdir()} == before


def test_a_link_stays_and_its_target_is_written(machine: Machine, final: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("target")
    for _ in range(2):
        assert machine("hessian", final, "--topk", 1, "--vectors", tmp_path / "link").exit_code == 0
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "target").stat().st_size > 100


def test_the_file_that_stdout_goes_to_is_not_replaced(machine: Machine, final: Path, tmp_path: Path) -> None:
    place = tmp_path / "answer.png"
    answer = machine("hessian", final, "--topk", 1, "--plot", place, stdout=str(place))
    sentence_and_hint(answer, 3)
    assert "stdout is redirected to it" in answer.stderr


ODD = ["a$b_c%d", "$\\frac{1$", "back\\slash", "100%", "x^{2}", "quote'\"", "\udcff\udcfe", "é漢字", "n" * 240]


@pytest.mark.parametrize("name", thinned(ODD), ids=ascii)
def test_a_name_is_no_formula_in_a_plot(name: str, machine: Machine, runs: Path, tmp_path: Path) -> None:
    places = []
    for number, mode in enumerate(("sgd", "fullbatch")):
        places.append(tmp_path / f"{name}{number}.pt")
        places[-1].write_bytes((runs / mode / "final.pt").read_bytes())
    plot = tmp_path / f"{name}.png"
    for words in (["hessian", "--topk", 2], ["interpolate", "--points", 3], ["compare", "--metrics", "hessian"]):
        answer = machine(words[0], *places, *words[1:], "--plot", plot)
        assert answer.exit_code == 0, answer.stderr
        assert plot.stat().st_size > 5_000
        plot.unlink()


def test_what_is_written_is_no_path_at_all(final: Path, tmp_path: Path) -> None:
    for option in ("vectors", "state"):
        with pytest.raises(InputError, match="Cannot write"):
            sharpcli.hessian(final, topk=1, **{option: f"{tmp_path}/a\0b"})
    with pytest.raises(InputError):
        sharpcli.hessian(f"{final}\0")
    with pytest.raises(InputError, match="Cannot write"):
        sharpcli.train(model="mlp", data="fashion-mini", steps=1, out=f"{tmp_path}/a\0b")


@pytest.mark.parametrize("option", ["--plot", "--vectors", "--state"])
@pytest.mark.parametrize("name", ["~nosuchuser/x.png", "n" * 300 + ".png"], ids=["no user", "long"])
def test_a_place_that_cannot_be_is_told_before_the_work(
    option: str, name: str, machine: Machine, final: Path, tmp_path: Path
) -> None:
    answer = machine("hessian", final, "--topk", 1, option, name, cwd=tmp_path)
    sentence_and_hint(answer, 3)
    assert answer.stdout == ""
    assert list(tmp_path.iterdir()) == []
