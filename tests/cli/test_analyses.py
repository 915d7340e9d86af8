"""The analyses from the command line: what must not change an answer, what must, and what the answers must agree with."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.conftest import without_progress
from tests.lanes import crossed, slow
from tests.processes import Machine

Run = Callable[..., Any]
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture(scope="module")
def ask(sharpcli: Run) -> Callable[..., dict[str, Any]]:
    """Run a command and give back its result as JSON, which must succeed."""

    def run(*words: object) -> dict[str, Any]:
        answer = sharpcli(*words, "--json")
        assert answer.exit_code == 0, answer.stderr
        result: dict[str, Any] = json.loads(answer.stdout)["result"]
        return result

    return run


@pytest.fixture(scope="module")
def pair(runs: Path) -> tuple[Path, Path]:
    return runs / "sgd" / "final.pt", runs / "fullbatch" / "final.pt"


def values(result: dict[str, Any]) -> list[float]:
    return [one["value"] for one in result["eigenvalues"]]


def state_of(path: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return state


def written_out(state: dict[str, torch.Tensor], arrays: dict[str, np.ndarray], part: str) -> tuple[float, float]:
    """Mean loss and accuracy, straight from PyTorch in float64."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    model.load_state_dict(state)
    inputs, targets = torch.from_numpy(arrays[f"x_{part}"]).double(), torch.from_numpy(arrays[f"y_{part}"])
    with torch.no_grad():
        outputs = model(inputs)
    return float(nn.functional.cross_entropy(outputs, targets)), float((outputs.argmax(1) == targets).double().mean())


# What each command measures, as one list of numbers.
def hessian_numbers(result: dict[str, Any]) -> list[float]:
    return [*values(result), result["loss"], result["accuracy"], result["gradient_norm"]]


def sharpness_numbers(result: dict[str, Any]) -> list[float]:
    return [result["loss"], *(one["phi"] for one in result["measurements"])]


def compare_numbers(result: dict[str, Any]) -> list[float]:
    names = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "gap", "gap_standard_error")
    return [row[name] for row in result["rows"] for name in (*names, "lambda_max", "phi", "distance")]


def interpolate_numbers(result: dict[str, Any]) -> list[float]:
    return [number for curve in result["curves"] for number in (*curve["loss"], *curve["accuracy"])]


def distance_numbers(result: dict[str, Any]) -> list[float]:
    return [result["distance"], result["relative"], result["cosine"]]


def inspect_numbers(result: dict[str, Any]) -> list[float]:
    details = " ".join(check["detail"] for check in result["checks"] if check["name"].endswith("loss"))
    return [float(number) for number in re.findall(r"\d+\.\d+", details)]


NUMBERS: dict[str, tuple[str, Callable[[dict[str, Any]], list[float]]]] = {
    "hessian": ("hessian {0} --topk 3 --dtype float64", hessian_numbers),
    "hessian, single precision": ("hessian {0} --topk 3", hessian_numbers),
    "sharpness": ("sharpness {0} --subspace 0,5 --restarts 1 --dtype float64", sharpness_numbers),
    "compare": ("compare {0} {1} --dtype float64", compare_numbers),
    "interpolate": ("interpolate {0} {1} --points 5", interpolate_numbers),
    "distance": ("distance {0}", distance_numbers),
    "inspect": ("inspect {0}", inspect_numbers),
}


@pytest.mark.parametrize("name", [slow(name) if name in ("sharpness", "compare") else name for name in NUMBERS])
def test_chunk_size_never_changes_the_answer(name: str, ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path]) -> None:
    """1, 7 (a ragged last batch), N; compared with what the command chooses by itself."""
    line, numbers = NUMBERS[name]
    words = line.format(*pair).split()
    wanted = numbers(ask(*words))
    assert len(wanted) >= 3
    for size in (1, 7, 60):
        found = numbers(ask(*words, "--chunk-size", size))
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7, err_msg=f"chunk size {size}")


def test_the_former_name_of_the_chunk_size_is_still_taken(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    result = ask("hessian", final, "--topk", 1, "--batch-size", 7)
    assert result["conditions"]["chunk_size"] == 7


def test_a_chunk_size_above_n_is_n(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    result = ask("hessian", final, "--topk", 1, "--chunk-size", 1000)
    assert result["conditions"]["chunk_size"] == 60


FORMS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 0.1}},
    "model": lambda state: {"model": state},
    "DDP": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "DDP, wrapped": lambda state: {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}},
    "compiled": lambda state: {f"_orig_mod.{name}": tensor for name, tensor in state.items()},
}


@pytest.fixture(scope="module")
def own_values(ask: Callable[..., dict[str, Any]], final: Path) -> list[float]:
    return values(ask("hessian", final, "--topk", 3))


@pytest.mark.parametrize("form", [*FORMS, "safetensors", "old torch"])
def test_foreign_files_give_the_same_eigenvalues(
    form: str,
    ask: Callable[..., dict[str, Any]],
    own_values: list[float],
    final: Path,
    tiny: list[str],
    tmp_path: Path,
) -> None:
    state = state_of(final)
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(state, path)
    elif form == "old torch":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(FORMS[form](state), path)
    assert values(ask("hessian", path, *tiny, "--topk", 3)) == own_values
    checks = {check["name"]: check["passed"] for check in ask("inspect", path, *tiny)["checks"]}
    assert checks["weights fit the model"]
    assert checks["weights are finite"]


def test_a_model_from_a_file(
    ask: Callable[..., dict[str, Any]], own_values: list[float], final: Path, data_file: Path, tmp_path: Path
) -> None:
    code = (
        "from torch import nn\n\ndef net(num_classes, *, width=9):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(5, width), nn.ReLU(), nn.Linear(width, num_classes))\n"
    )
    (tmp_path / "net.py").write_text(code)
    named = ["--model", f"{tmp_path / 'net.py'}:net", "--model-arg", "width=4"]
    assert values(ask("hessian", final, *named, "--topk", 3)) == own_values
    torch.save(state_of(final), tmp_path / "plain.pt")
    foreign = [*named, "--data", f"npz:{data_file}"]
    assert values(ask("hessian", tmp_path / "plain.pt", *foreign, "--topk", 3)) == own_values


def test_losses_are_those_of_pytorch(
    ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path], arrays: dict[str, np.ndarray]
) -> None:
    rows = ask("compare", *pair, "--metrics", "distance")["rows"]
    for path, row in zip(pair, rows, strict=True):
        for part in ("train", "test"):
            loss, accuracy = written_out(state_of(path), arrays, part)
            assert row[f"{part}_loss"] == pytest.approx(loss, rel=1e-6)
            assert row[f"{part}_accuracy"] == pytest.approx(accuracy)
            assert ask("hessian", path, "--topk", 1, "--split", part)["loss"] == pytest.approx(loss, rel=1e-6)
        assert row["gap"] == pytest.approx(row["test_loss"] - row["train_loss"])


def test_compare_agrees_with_the_single_commands(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    (row,) = ask("compare", final)["rows"]
    assert row["lambda_max"] == pytest.approx(ask("hessian", final, "--topk", 1)["lambda_max"], rel=1e-6)
    assert row["distance"] == ask("distance", final)["distance"]
    (measured,) = ask("sharpness", final, "--epsilon", 1e-3, "--subspace", 0)["measurements"]
    assert row["phi"] == measured["phi"]


def test_samples_are_a_seeded_subset(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    def seen(*words: object) -> tuple[float, list[float], int]:
        result = ask("hessian", final, "--topk", 1, *words)
        return result["loss"], values(result), result["conditions"]["num_samples"]

    some = seen("--samples", 20)
    assert some[2] == 20
    assert seen("--samples", 20) == some
    assert seen("--samples", 20, "--seed", 1)[0] != some[0]
    whole = seen()
    assert some[0] != whole[0]
    assert seen("--samples", 60) == whole
    assert seen("--split", "test", "--samples", 30) == seen("--split", "test")


def test_samples_may_be_more_than_a_split_that_is_not_asked_for(
    ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path]
) -> None:
    """40 of 60 training samples; that there are only 30 test samples is no concern of this command line."""
    (curve,) = ask("interpolate", *pair, "--points", 2, "--split", "train", "--samples", 40)["curves"]
    assert curve["num_samples"] == 40


def test_the_default_subspaces_fit_a_small_model(sharpcli: Run, final: Path) -> None:
    """Nobody asked for p = 100, so 39 parameters are no mistake of the user's."""
    answer = sharpcli("sharpness", final, "--restarts", 1, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["result"]["measurements"][0]["subspace"] is None


def test_both_ends_are_always_there(ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path]) -> None:
    for bounds in ("0.2:0.4", "-0.35:1.4", "2:3", "-3:-2"):
        alphas = ask("interpolate", *pair, f"--range={bounds}", "--points", 4, "--split", "train")["alphas"]
        assert {0, 1} <= set(alphas)
        assert {float(bound) for bound in bounds.split(":")} <= set(alphas)
        assert alphas == sorted(set(alphas))
        assert len(alphas) == 6


def test_the_default_range_counts_neither_end_twice(ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path]) -> None:
    alphas = ask("interpolate", *pair, "--split", "train")["alphas"]
    np.testing.assert_allclose(alphas, np.linspace(-0.5, 1.5, 21), atol=1e-9)


@pytest.mark.parametrize("path", ["linear", "arc"])
def test_a_path_is_what_it_says(
    path: str, ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path], arrays: dict[str, np.ndarray]
) -> None:
    """Ends and inner points against weights mixed by hand."""
    result = ask("interpolate", *pair, "--path", path, "--range", "-0.5:1.5", "--points", 9)
    first, second = map(state_of, pair)
    for index, alpha in enumerate(result["alphas"]):
        a, b = (1 - alpha, alpha) if path == "linear" else (np.cos(alpha * np.pi / 2), np.sin(alpha * np.pi / 2))
        mixed = {name: a * first[name].double() + b * second[name].double() for name in first}
        for curve in result["curves"]:
            loss, accuracy = written_out(mixed, arrays, curve["split"])
            assert curve["loss"][index] == pytest.approx(loss, rel=1e-5)
            assert curve["accuracy"][index] == pytest.approx(accuracy)
    gone = torch.cat([(first[name].double() - second[name].double()).flatten() for name in first]).norm()
    assert result["distance"] == pytest.approx(float(gone), rel=1e-6)


def test_barrier_is_the_rise_over_the_straight_line(ask: Callable[..., dict[str, Any]], pair: tuple[Path, Path]) -> None:
    result = ask("interpolate", *pair, "--path", "arc", "--range", "-1:2", "--points", 13)
    for curve in result["curves"]:
        losses = dict(zip(result["alphas"], curve["loss"], strict=True))
        rises = [loss - ((1 - a) * losses[0] + a * losses[1]) for a, loss in losses.items() if 0 <= a <= 1]
        assert curve["barrier"] == pytest.approx(max(rises), abs=1e-12)
    assert result["barrier"] == result["curves"][0]["barrier"]


def test_permuted_units_are_equal_at_the_ends_only(
    ask: Callable[..., dict[str, Any]], tiny: list[str], tmp_path: Path, final: Path
) -> None:
    """One function, its hidden units in another order: equal losses at both ends, another loss between."""
    state = {name: 8 * tensor for name, tensor in state_of(final).items()}
    order = [3, 2, 1, 0]
    other = {"1.weight": state["1.weight"][order], "1.bias": state["1.bias"][order], "3.weight": state["3.weight"][:, order]}
    torch.save(state, tmp_path / "a.pt")
    torch.save({**state, **other}, tmp_path / "b.pt")
    result = ask("interpolate", tmp_path / "a.pt", tmp_path / "b.pt", *tiny, "--points", 9, "--split", "train")
    losses = dict(zip(result["alphas"], result["curves"][0]["loss"], strict=True))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert result["distance"] > 1
    assert max(losses[alpha] for alpha in (0.25, 0.5, 0.75)) != pytest.approx(losses[0], rel=1e-3)


def test_a_checkpoint_is_no_barrier_away_from_itself(ask: Callable[..., dict[str, Any]], final: Path) -> None:
    result = ask("interpolate", final, final)
    assert result["distance"] == 0
    assert [curve["barrier"] for curve in result["curves"]] == [0, 0]


PLOTS = {
    "hessian": "hessian {0} {1} --topk 3",
    "interpolate": "interpolate {0} {1} --points 5",
    "distance": "distance {run}",
    "compare": "compare {0} {1} --metrics hessian,distance",
}


@pytest.mark.parametrize(("command", "ending"), crossed(PLOTS, ["png", "svg", "pdf"]))
def test_plots_open(command: str, ending: str, sharpcli: Run, pair: tuple[Path, Path], runs: Path, tmp_path: Path) -> None:
    path = tmp_path / "new folder" / f"plot.{ending}"
    answer = sharpcli(*PLOTS[command].format(*pair, run=runs / "sgd").split(), "--plot", path, "--json")
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["command"] == command
    assert str(path) in answer.stderr
    assert [found.name for found in path.parent.iterdir()] == [path.name]  # no temporary file
    if ending == "png":
        pixels = matplotlib.image.imread(path)
        assert pixels.shape[0] > 300
        assert pixels.shape[1] > 300
        assert np.ptp(pixels[..., :3]) > 0.5
    elif ending == "svg":
        assert ElementTree.parse(path).getroot().tag.endswith("svg")
    else:
        assert path.read_bytes().startswith(b"%PDF-")
        assert path.read_bytes().rstrip().endswith(b"%%EOF")


@pytest.mark.slow
def test_equal_plots_are_equal_files(sharpcli: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    for ending in ("png", "svg", "pdf"):
        for name in ("a", "b"):
            sharpcli("interpolate", *pair, "--points", 3, "--plot", tmp_path / f"{name}.{ending}")
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes(), ending


TABLES = ["hessian {0} --topk 2", "interpolate {0} {1} --points 3", "distance {0} --per-layer", "inspect {0}"]


@pytest.mark.parametrize("line", TABLES)
def test_a_pipe_gets_words_without_codes(line: str, sharpcli: Run, pair: tuple[Path, Path]) -> None:
    answer = sharpcli(*line.format(*pair).split())
    assert answer.exit_code == 0
    assert len(answer.stdout.splitlines()) > 5
    assert "\x1b" not in answer.stdout + answer.stderr
    assert answer.stderr == ""


@pytest.mark.parametrize("line", ["compare {0} {1}", "train {tiny} --mode sgd,fullbatch --steps 2 --out {out}"])
def test_eighty_columns_are_enough(line: str, sharpcli: Run, pair: tuple[Path, Path], tiny: list[str], tmp_path: Path) -> None:
    """On the commonest terminal every row keeps its name and every number its digits."""
    words = line.format(*pair, tiny=" ".join(tiny), out=tmp_path).split()
    answer = sharpcli(*words, COLUMNS="80")
    assert answer.exit_code == 0, answer.stderr
    assert "…" not in answer.stdout
    table = answer.stdout.partition("Next:")[0]
    rows = [row.split() for row in table.splitlines()]
    for mode in ("sgd", "fullbatch"):
        assert any(mode in row for row in rows)


def on_a_terminal(machine: Machine, *words: object, **environment: str) -> str:
    """Run a command whose stdout is a terminal; give back all that it wrote there."""
    ours, its = pty.openpty()
    changed = dict.fromkeys(("NO_COLOR", "COLUMNS", "FORCE_COLOR")) | {"TERM": "xterm-256color", **environment}
    try:
        machine.start(*words, stdout=os.ttyname(its), **changed)
        os.close(its)
        parts = []
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other side has hung up
                break
            if not part:
                break
            parts.append(part)
        answer = machine.end()
        assert (answer.exit_code, answer.stderr) == (0, "")
    finally:
        os.close(ours)
    return b"".join(parts).decode()


@pytest.mark.slow
def test_no_color_is_honoured_on_a_terminal(machine: Machine, final: Path) -> None:
    words = ["hessian", final, "--topk", 2, "--max-hvp", 2]
    shown, bare = on_a_terminal(machine, *words), on_a_terminal(machine, *words, NO_COLOR="1")
    assert any(set(code[2:-1].split(";")) & {"33", "93"} for code in COLOUR.findall(shown))  # yellow advice: the control
    numbers = {number for code in COLOUR.findall(bare) for number in code[2:-1].split(";") if number}
    assert numbers <= {"0", "1", "2", "22"}  # bold and faint are no colours


def test_a_folder_with_brackets_is_shown_as_it_is(sharpcli: Run, tiny: list[str], final: Path, tmp_path: Path) -> None:
    """Brackets are how rich writes styles; in a name they are letters."""
    path = tmp_path / "w[bold]x.pt"
    torch.save(state_of(final), path)
    for line in (["compare", path, "--metrics", "hessian"], ["inspect", path]):
        assert "w[bold]x" in sharpcli(*line, *tiny, COLUMNS="200").stdout
    warned = sharpcli("hessian", path, *tiny, "--topk", 1)
    assert warned.exit_code == 0


def test_warnings_show_brackets_too(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    out = tmp_path / "r[red]un"
    assert sharpcli("train", *tiny, "--steps", 1, "--out", out).exit_code == 0
    answer = sharpcli(
        "hessian", out / "sgd", "--topk", 1, "--split", "train", "--model-arg", "hidden=4", "--model-arg", "activation=tanh"
    )
    assert answer.exit_code == 0, answer.stderr
    assert str(out) in answer.stderr


def test_a_run_folder_means_its_final_weights(ask: Callable[..., dict[str, Any]], runs: Path, own_values: list[float]) -> None:
    assert values(ask("hessian", runs / "sgd", "--topk", 3)) == own_values
    by_folder, by_file = ask("distance", runs / "sgd"), ask("distance", runs / "sgd" / "final.pt")
    assert by_folder["distance"] == by_file["distance"]
    assert by_folder["checkpoint"]["path"] == by_file["checkpoint"]["path"]


def test_distance_along_the_saved_steps(ask: Callable[..., dict[str, Any]], runs: Path) -> None:
    result = ask("distance", runs / "sgd", "--per-layer")

    def flat(name: str) -> np.ndarray:
        return np.concatenate([t.double().numpy().ravel() for t in state_of(runs / "sgd" / name).values()])

    start = flat("init.pt")
    assert [one["step"] for one in result["steps"]] == [2, 4, 5]
    for one, name in zip(result["steps"], ["step-2.pt", "step-4.pt", "final.pt"], strict=True):
        end = flat(name)
        gone = np.linalg.norm(end - start)
        assert one["distance"] == pytest.approx(gone, rel=1e-12)
        assert one["relative"] == pytest.approx(gone / np.linalg.norm(start), rel=1e-12)
        assert one["cosine"] == pytest.approx(end @ start / np.linalg.norm(end) / np.linalg.norm(start), rel=1e-12)
        assert one["max_change"] == pytest.approx(np.abs(end - start).max(), rel=1e-12)
    assert result["distance"] == result["steps"][-1]["distance"]
    squares = sum(layer["distance"] ** 2 for layer in result["layers"])
    assert squares == pytest.approx(result["distance"] ** 2, rel=1e-12)


def test_compare_warns_of_unlike_losses_only(sharpcli: Run, tiny: list[str], runs: Path, tmp_path: Path) -> None:
    words = ["train", *tiny, "--lr", 0.2, "--stop-train-loss", 0.3, "--steps", 2000, "--out", tmp_path]
    assert sharpcli(*words).exit_code == 0
    unlike = sharpcli("compare", runs / "sgd", tmp_path / "sgd", "--metrics", "distance")
    assert unlike.exit_code == 0
    assert unlike.stderr.startswith("warning: ")
    assert "a factor of 2" in unlike.stderr
    alike = sharpcli("compare", runs / "sgd", runs / "largebatch", "--metrics", "distance")
    assert alike.exit_code == 0
    assert alike.stderr == ""


def test_a_moved_checkpoint_can_still_be_analysed(ask: Callable[..., dict[str, Any]], final: Path, tmp_path: Path) -> None:
    """Without init.pt beside it only its distance is lost, and that is said."""
    moved = shutil.copy(final, tmp_path / "déplacé λ.pt")
    result = ask("inspect", moved)
    assert result["analysable"]
    (row,) = ask("compare", moved)["rows"]
    assert row["distance"] is None
    assert any("distance" in note for note in row["notes"])
    assert row["lambda_max"] > 0


def test_a_data_file_that_is_elsewhere_can_be_named(
    sharpcli: Run, tiny: list[str], data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run trained on a relative path and opened from another folder: the hint says what to add."""
    shutil.copy(data_file, tmp_path / "here.npz")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    assert sharpcli("train", *tiny[:4], "--data", "npz:here.npz", "--steps", 1, "--out", "run").exit_code == 0
    monkeypatch.chdir(tmp_path / "other")
    answer = sharpcli("hessian", "../run/sgd", "--topk", 1)
    assert answer.exit_code == 3
    assert "--data" in answer.stderr
    assert sharpcli("hessian", "../run/sgd", "--topk", 1, "--data", "npz:../here.npz").exit_code == 0


@pytest.mark.slow
def test_ctrl_c_stops_an_analysis(machine: Machine, final: Path, tmp_path: Path) -> None:
    asked: list[float] = []

    def is_at_work() -> bool:
        """Return whether a second has passed since the process began; the server that forks it may have taken longer."""
        asked.append(time.monotonic())
        return asked[-1] > asked[0] + 1

    words = ["interpolate", final, final, "--points", 1000000, "--plot", tmp_path / "spectrum.png"]
    answer = machine.stopped(is_at_work, *words)
    assert answer.exit_code == 130
    assert answer.stdout == ""
    assert without_progress(answer.stderr).startswith("error: Interrupted.")
    assert "Traceback" not in answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [["--json"], []], ids=["json", "table"])
def test_a_reader_that_leaves_early_is_no_error(words: list[str], machine: Machine, final: Path, tmp_path: Path) -> None:
    """As in `sharpcli hessian ... | head -1`, with the reader gone before the answer is written."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    machine.start("hessian", final, "--topk", 1, *words, stdout=str(tmp_path / "pipe"))
    os.close(reader)
    (tmp_path / "pipe").unlink()
    (tmp_path / "pipe").touch()  # What would have been written is looked for there.
    answer = machine.end()
    assert (answer.exit_code, answer.stdout, answer.stderr) == (141, "", "")


def test_a_stream_that_knows_ascii_only(new_process: Run, final: Path) -> None:
    """λ and ‖·‖ are in the tables; where they cannot be written the numbers still must be."""
    answer = new_process("hessian", final, "--topk", 1, PYTHONIOENCODING="ascii")
    assert answer.exit_code == 0, answer.stderr
    assert "Eigenvalues" in answer.stdout
    assert "?" in answer.stdout  # λ or ‖·‖: the control, something could not be written
