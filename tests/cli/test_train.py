"""`sharpcli train`: what a run leaves behind, that it can be repeated to the byte, interrupted, and refused."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import sharpcli as package
from tests.conftest import without_progress
from tests.processes import Machine

MODES = ("sgd", "largebatch", "fullbatch")
FILES = {"final.pt", "init.pt", "metrics.jsonl", "distances.jsonl", "settings.json"}
Run = Callable[..., Any]
Load = Callable[[Path], dict[str, Any]]


@pytest.fixture
def trained(sharpcli: Run, tiny: list[str], tmp_path: Path) -> Callable[..., Path]:
    """Train for a few updates; give back the folder of the one mode."""

    def train(*words: object, mode: str = "sgd", name: str = "run", steps: int = 5) -> Path:
        answer = sharpcli("train", "--mode", mode, *tiny, "--steps", steps, "--out", tmp_path / name, *words)
        assert answer.exit_code == 0, answer.stderr
        return tmp_path / name / mode

    return train


def weights(load: Load, path: Path) -> torch.Tensor:
    return torch.cat([tensor.double().flatten() for tensor in load(path)["state_dict"].values()])


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("mode", MODES)
def test_files_of_a_run(mode: str, runs: Path, load: Load) -> None:
    folder = runs / mode
    found = {path.name for path in folder.iterdir()}
    assert found == {*FILES, "step-2.pt", "step-4.pt"}
    settings = json.loads((folder / "settings.json").read_text())
    final = load(folder / "final.pt")["metadata"]
    assert settings["plan"] == final["plan"]
    assert settings["settings"]["model_arg"] == ["hidden=4"]
    metrics = lines(folder)
    steps = [line["step"] for line in metrics]
    assert steps == sorted(set(steps))
    assert steps[-1] == final["step"] == 5
    assert {key: metrics[-1][key] for key in final["final"]} == final["final"]
    assert metrics[-1]["epoch"] == final["epochs"] == 5 / final["plan"]["updates_per_epoch"]


@pytest.mark.parametrize("mode", MODES)
def test_checkpoints_are_plain_tensors_and_describe_themselves(mode: str, runs: Path, load: Load) -> None:
    for path in (runs / mode).glob("*.pt"):
        content = load(path)  # weights_only=True
        assert torch.serialization.get_unsafe_globals_in_checkpoint(str(path)) == []
        assert content["format"] == "sharpcli"
        assert content["format_version"] == 3
        about = content["metadata"]
        assert about["model"]["spec"] == "mlp"
        assert about["mode"] == mode
        assert about["loss"] == "ce"
        assert about["seed"] == 0
        assert about["data"]["num_train"] == 60
        assert about["init"]["path"] == "init.pt"
        assert about["parameters"] == list(content["state_dict"])
    assert load(runs / mode / "init.pt")["metadata"]["step"] == 0
    assert load(runs / mode / "step-4.pt")["metadata"]["step"] == 4


def test_all_modes_share_the_initial_weights(runs: Path, load: Load) -> None:
    starts = [weights(load, runs / mode / "init.pt") for mode in MODES]
    ends = [weights(load, runs / mode / "final.pt") for mode in MODES]
    assert all(torch.equal(start, starts[0]) for start in starts)
    assert len({load(runs / mode / "final.pt")["metadata"]["init"]["sha256"] for mode in MODES}) == 1
    assert not torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], starts[0])


def test_a_mode_alone_is_that_mode_among_others(trained: Callable[..., Path], runs: Path) -> None:
    alone = trained("--save-every", 2, mode="fullbatch")
    assert (alone / "final.pt").read_bytes() == (runs / "fullbatch" / "final.pt").read_bytes()


@pytest.mark.parametrize("mode", ["largebatch", "fullbatch"])
def test_one_seed_gives_one_file_and_another_seed_another(mode: str, trained: Callable[..., Path], load: Load) -> None:
    first, second = (trained(mode=mode, name=name) for name in ("first", "second"))
    for name in ("init.pt", "final.pt"):
        assert (first / name).read_bytes() == (second / name).read_bytes()
    other = trained("--seed", 1, mode=mode, name="other")
    assert not torch.equal(weights(load, other / "init.pt"), weights(load, first / "init.pt"))
    assert not torch.equal(weights(load, other / "final.pt"), weights(load, first / "final.pt"))


def test_the_seed_orders_the_batches_too(trained: Callable[..., Path], runs: Path, load: Load) -> None:
    init = ("--init-from", runs / "sgd" / "init.pt", "--batch-size", 10)
    first, other = trained(*init, name="first"), trained(*init, "--seed", 1, name="other")
    assert torch.equal(weights(load, first / "init.pt"), weights(load, other / "init.pt"))
    assert not torch.equal(weights(load, first / "final.pt"), weights(load, other / "final.pt"))


def test_large_batch_is_a_tenth_of_the_training_set(runs: Path, load: Load) -> None:
    about = load(runs / "largebatch" / "final.pt")["metadata"]
    assert about["plan"]["batch_size"] == 6
    assert about["epochs"] == 0.5


def test_full_batch_is_one_update_a_pass(runs: Path, load: Load) -> None:
    about = load(runs / "fullbatch" / "final.pt")["metadata"]
    assert about["plan"]["batch_size"] == 60
    assert about["plan"]["updates_per_epoch"] == 1
    assert about["epochs"] == about["step"] == 5


@pytest.mark.parametrize("modes", ["fullbatch", "sgd,fullbatch"])
def test_full_batch_stays_full_batch(modes: str, sharpcli: Run, tiny: list[str], tmp_path: Path, load: Load) -> None:
    """A batch size either does not reach this mode or is refused: a minibatch run must not be labelled fullbatch."""
    answer = sharpcli("train", "--mode", modes, *tiny, "--steps", 2, "--batch-size", 10, "--out", tmp_path)
    if answer.exit_code == 0:
        assert load(tmp_path / "fullbatch" / "final.pt")["metadata"]["plan"]["batch_size"] == 60
    else:
        assert answer.exit_code == 2
        assert "--batch-size" in answer.stderr


def test_full_batch_is_gradient_descent(trained: Callable[..., Path], arrays: dict[str, np.ndarray], load: Load) -> None:
    """The reference twin: w ← w - lr ∇f(w) written out, in float64."""
    plain = ["--momentum", 0, "--weight-decay", 0, "--schedule", "constant", "--warmup", 0, "--clip", 0, "--lr", 0.5]
    folder = trained(*plain, "--chunk-size", 7, "--dtype", "float64", mode="fullbatch")
    model = nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)).double()
    model.load_state_dict(load(folder / "init.pt")["state_dict"])
    inputs, targets = torch.from_numpy(arrays["x_train"]).double(), torch.from_numpy(arrays["y_train"])
    for _ in range(5):
        loss = nn.functional.cross_entropy(model(inputs), targets)
        for parameter, slope in zip(model.parameters(), torch.autograd.grad(loss, list(model.parameters())), strict=True):
            parameter.data -= 0.5 * slope
    wanted = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    torch.testing.assert_close(weights(load, folder / "final.pt"), wanted, rtol=0, atol=1e-12)


def test_full_batch_does_not_depend_on_the_chunk_size(trained: Callable[..., Path], load: Load) -> None:
    whole = weights(load, trained("--chunk-size", 60, mode="fullbatch", name="whole") / "final.pt")
    for size in (1, 7):
        parts = trained("--chunk-size", size, mode="fullbatch", name=f"chunks of {size}")
        torch.testing.assert_close(weights(load, parts / "final.pt"), whole, rtol=0, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_it_stops_at_the_wanted_training_loss(mode: str, trained: Callable[..., Path], load: Load) -> None:
    about = load(trained("--stop-train-loss", 0.7, "--lr", 0.1, "--eval-every", 1, mode=mode, steps=2000) / "final.pt")[
        "metadata"
    ]
    assert about["stopped_by"] == "training loss"
    assert 0 < about["step"] < 2000
    assert 0.6 < about["final"]["train_loss"] <= 0.7


def test_a_training_loss_that_was_not_reached_is_told(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    answer = sharpcli("train", *tiny, "--steps", 2, "--stop-train-loss", 0.01, "--out", tmp_path)
    assert answer.exit_code == 0
    assert answer.stderr.startswith("warning: ")
    assert "--stop-train-loss" in answer.stderr


def test_init_is_where_it_starts(trained: Callable[..., Path], runs: Path, load: Load) -> None:
    start = runs / "fullbatch" / "final.pt"
    folder = trained("--init-from", start)
    assert torch.equal(weights(load, folder / "init.pt"), weights(load, start))
    assert package.distance(folder, init=str(start)).distance == package.distance(folder).distance > 0


def test_a_run_that_is_there_is_not_replaced_unless_asked(
    sharpcli: Run, tiny: list[str], trained: Callable[..., Path], contents: Callable[[Path], dict[str, str]]
) -> None:
    folder = trained("--save-every", 2)
    before = contents(folder)
    words = ["train", *tiny, "--steps", 3, "--out", folder.parent]
    refused = sharpcli(*words)
    assert refused.exit_code == 2
    assert contents(folder) == before
    assert sharpcli(*words, "--overwrite").exit_code == 0
    assert set(contents(folder)) == FILES
    assert lines(folder)[-1]["step"] == 3


def test_a_checkpoint_that_somebody_put_there_is_not_replaced(
    sharpcli: Run, tiny: list[str], tmp_path: Path, final: Path
) -> None:
    """A folder without settings.json may still hold weights that nobody can make again."""
    (tmp_path / "sgd").mkdir()
    shutil.copy(final, tmp_path / "sgd" / "final.pt")
    answer = sharpcli("train", *tiny, "--steps", 1, "--out", tmp_path)
    assert answer.exit_code == 2
    assert (tmp_path / "sgd" / "final.pt").read_bytes() == final.read_bytes()


def test_one_mode_that_is_there_stops_all_before_any_work(sharpcli: Run, tiny: list[str], trained: Callable[..., Path]) -> None:
    folder = trained(mode="fullbatch")
    answer = sharpcli("train", "--mode", "sgd,fullbatch", *tiny, "--steps", 5, "--out", folder.parent)
    assert answer.exit_code == 2
    assert not (folder.parent / "sgd").exists()


def test_divergence_keeps_the_last_good_files(sharpcli: Run, tiny: list[str], tmp_path: Path, load: Load) -> None:
    answer = sharpcli("train", *tiny, "--lr", 1e6, "--steps", 50, "--save-every", 1, "--out", tmp_path)
    assert answer.exit_code == 4
    assert answer.stdout == ""
    assert [line.partition(" ")[0] for line in answer.stderr.splitlines()] == ["error:", "hint:"]
    assert "--lr" in answer.stderr
    folder = tmp_path / "sgd"
    kept = {path.name for path in folder.iterdir()}
    assert {"init.pt", "settings.json", "step-1.pt"} <= kept
    assert "final.pt" not in kept
    for path in folder.glob("*.pt"):
        assert bool(torch.isfinite(weights(load, path)).all()), path.name


def test_divergence_in_the_last_update_is_divergence(sharpcli: Run, tiny: list[str], tmp_path: Path) -> None:
    """Nothing comes after it that could meet the loss, so the last evaluation has to look."""
    answer = sharpcli("train", *tiny, "--lr", 1e38, "--steps", 1, "--out", tmp_path)
    assert answer.exit_code == 4
    assert answer.stdout == ""
    assert not (tmp_path / "sgd" / "final.pt").exists()


@pytest.mark.slow
def test_every_next_command_can_be_typed(
    sharpcli: Run, data_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the folder has a blank in its name, the model is the user's own file, and the terminal is narrow."""
    monkeypatch.chdir(tmp_path)
    net = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Linear(5, 20), nn.ReLU(), nn.Linear(20, 3))\n"
    (tmp_path / "net.py").write_text(net)
    words = ["--model", "net.py:net", "--data", f"npz:{data_file}", "--mode", "sgd,fullbatch", "--steps", 3]
    answer = sharpcli("train", *words, "--out", "two words", COLUMNS="60")
    assert answer.exit_code == 0, answer.stderr
    assert max(map(len, answer.stdout.splitlines())) <= 60
    after = answer.stdout.partition("Next:")[2].replace("\\\n", "").splitlines()  # As a shell joins them.
    commands = [shlex.split(line) for line in after if line.strip()]
    assert {words[1] for words in commands} >= {"hessian", "sharpness", "distance", "interpolate", "compare"}
    for program, *rest in commands:
        assert program == "sharpcli"
        done = sharpcli(*rest)
        assert done.exit_code == 0, (rest, done.stderr)
    assert list((tmp_path / "two words").glob("*.png"))


LONG = ["--steps", 3000, "--batch-size", 16, "--eval-every", 100]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, machine: Machine, tiny: list[str]) -> tuple[Path, int, str, str]:
    """Train in a process of its own and press Ctrl-C once the first metrics are there; not to be written to."""
    folder = tmp_path_factory.mktemp("interrupted")
    answer = machine.stopped((folder / "sgd" / "metrics.jsonl").exists, "train", *tiny, *LONG, "--out", folder)
    return folder, answer.exit_code, answer.stdout, answer.stderr


def test_ctrl_c_says_how_to_go_on(interrupted: tuple[Path, int, str, str]) -> None:
    folder, exit_code, stdout, stderr = interrupted
    assert exit_code == 130
    assert stdout == ""
    error, hint = without_progress(stderr).splitlines()
    assert error.startswith("error: ")
    assert hint == f"hint: Continue with: sharpcli train --resume {folder / 'sgd'}"
    assert {path.name for path in (folder / "sgd").iterdir()} == {*FILES, "last.pt"} - {"final.pt"}
    assert 0 < lines(folder / "sgd")[-1]["step"] < 3000


@pytest.mark.slow
def test_a_resumed_run_ends_as_if_it_had_not_stopped(
    interrupted: tuple[Path, int, str, str], sharpcli: Run, tiny: list[str], tmp_path: Path
) -> None:
    shutil.copytree(interrupted[0], tmp_path / "resumed")
    for name, words in (("resumed", ["--resume"]), ("whole", [])):
        answer = sharpcli("train", *tiny, *LONG, "--out", tmp_path / name, *words)
        assert answer.exit_code == 0, answer.stderr
    resumed, whole = tmp_path / "resumed" / "sgd", tmp_path / "whole" / "sgd"
    assert (resumed / "final.pt").read_bytes() == (whole / "final.pt").read_bytes()
    assert {path.name for path in resumed.iterdir()} == {path.name for path in whole.iterdir()}
    timeless = [[{**line, "seconds": 0} for line in lines(folder)] for folder in (resumed, whole)]
    assert timeless[0] == timeless[1]


def in_version_1(folder: Path) -> None:
    """Give the checkpoints, the state and the settings of a run the names that version 1 had."""

    def former(record: dict[str, Any]) -> dict[str, Any]:
        names = {"plan": "recipe", "recipe": "preset"}
        return {names.get(name, name): value for name, value in record.items()}

    for path in folder.glob("*.pt"):
        content = torch.load(path, weights_only=True)
        if path.name == "last.pt":
            content["identity"] = former(content["identity"])
            del content["seal"]  # There was none.
        else:
            content |= {"format_version": 1, "metadata": former(content["metadata"])}
        torch.save(content, path)
    settings = folder / "settings.json"
    settings.write_text(json.dumps(former(json.loads(settings.read_text()))))


@pytest.mark.slow
def test_a_run_of_version_1_is_resumed(interrupted: tuple[Path, int, str, str], sharpcli: Run, tmp_path: Path) -> None:
    for name in ("old", "new"):
        shutil.copytree(interrupted[0], tmp_path / name)
    in_version_1(tmp_path / "old" / "sgd")
    assert json.loads((tmp_path / "old" / "sgd" / "settings.json").read_text())["recipe"]["mode"] == "sgd"
    for name in ("old", "new"):
        answer = sharpcli("train", "--resume", tmp_path / name / "sgd")
        assert answer.exit_code == 0, answer.stderr
    old, new = (tmp_path / name / "sgd" / "final.pt" for name in ("old", "new"))
    assert old.read_bytes() == new.read_bytes()


OTHER = [
    ["--lr", 0.01],
    ["--steps", 4000],
    ["--seed", 1],
    ["--loss", "mse"],
    ["--dtype", "float64"],
    ["--model-arg", "activation=tanh"],
    ["--model", "mlp", "--model-arg", "hidden=5"],
    ["--data", "{other data}"],
    ["--init-from", "{other weights}"],
]


@pytest.mark.parametrize("words", OTHER, ids=lambda words: " ".join(map(str, words)))
@pytest.mark.parametrize("state", ["interrupted", "complete"])
def test_a_run_is_not_resumed_with_other_settings(
    state: str,
    words: list[Any],
    interrupted: tuple[Path, int, str, str],
    runs: Path,
    sharpcli: Run,
    tiny: list[str],
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    contents: Callable[[Path], dict[str, str]],
) -> None:
    """Weights of one recipe continued under another would belong to neither."""
    np.savez(tmp_path / "other.npz", **arrays | {"x_train": arrays["x_train"] + 1})
    folder = tmp_path / "run"
    if state == "interrupted":
        shutil.copytree(interrupted[0], folder)
        settings = LONG
    else:
        shutil.copytree(runs / "fullbatch", folder / "fullbatch")
        settings = ["--mode", "fullbatch", "--steps", 5, "--save-every", 2]
    before = contents(folder)
    places = {"{other data}": f"npz:{tmp_path / 'other.npz'}", "{other weights}": runs / "largebatch" / "final.pt"}
    line = ["train", *tiny, *settings, "--out", folder, "--resume"]
    if words[0] == "--model":
        line = [*line[:1], *words, *tiny[4:], *line[1 + len(tiny) :]]
        words = []
    answer = sharpcli(*line, *(places.get(word, word) for word in words))
    assert answer.exit_code in (2, 3), answer.stderr
    assert answer.stdout == ""
    assert [text.partition(" ")[0] for text in answer.stderr.splitlines()] == ["error:", "hint:"]
    assert contents(folder) == before


def test_resuming_a_complete_run_changes_nothing(
    runs: Path, sharpcli: Run, tiny: list[str], tmp_path: Path, contents: Callable[[Path], dict[str, str]]
) -> None:
    shutil.copytree(runs, tmp_path / "runs")
    before = contents(tmp_path)
    answer = sharpcli(
        "train", "--mode", ",".join(MODES), *tiny, "--steps", 5, "--save-every", 2, "--out", tmp_path / "runs", "--resume"
    )
    assert answer.exit_code == 0, answer.stderr
    assert contents(tmp_path) == before


def test_what_is_not_of_the_run_survives_its_replacement(sharpcli: Run, tiny: list[str], trained: Callable[..., Path]) -> None:
    """A plot or a note that somebody put into the folder is not the run's to delete."""
    folder = trained()
    old = (folder / "final.pt").read_bytes()
    (folder / "notes.txt").write_text("mine")
    words = ["train", *tiny, "--out", folder.parent, "--overwrite"]
    diverged = sharpcli(*words, "--steps", 50, "--lr", 1e38)
    assert diverged.exit_code == 4
    assert (folder / ".replaced" / "final.pt").read_bytes() == old
    assert sharpcli(*words, "--steps", 3).exit_code == 0
    assert {path.name for path in folder.iterdir()} == {*FILES, "notes.txt"}
    assert (folder / "final.pt").read_bytes() != old
    assert (folder / "notes.txt").read_text() == "mine"
