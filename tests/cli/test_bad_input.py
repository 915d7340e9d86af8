"""What a user can do wrong: one sentence, one hint, the documented exit code, nothing on stdout, nothing damaged."""

from __future__ import annotations

import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from tests.lanes import slow

MODEL_CODE = """
from pathlib import Path
from torch import nn

Path(__file__).with_name("this code ran").touch()

def net():
    return nn.Sequential(nn.Flatten(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))

def seven():
    return nn.Linear(7, 3)

def number():
    return 3

def frozen():
    return nn.Linear(5, 3).requires_grad_(False)
"""


class Touch:
    """Unpickling this makes a file: proof that a checkpoint's code was run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def write_damaged(folder: Path, final: Path) -> None:
    """Write every kind of file that is no checkpoint, or not one that can be used."""
    whole = final.read_bytes()
    state = torch.load(final, weights_only=True)["state_dict"]
    (folder / "text.pt").write_text("not a\ncheckpoint\n")
    (folder / "empty.pt").touch()
    (folder / "empty.safetensors").touch()
    (folder / "half.pt").write_bytes(whole[: len(whole) // 2])
    (folder / "tail.pt").write_bytes(whole[:-40])
    with zipfile.ZipFile(folder / "zip.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    torch.save({"state_dict": state, "extra": Touch(folder / "this pickle ran")}, folder / "touch.pt")
    torch.save(nn.Linear(5, 3), folder / "module.pt")
    torch.save(nn.Linear(5, 3), folder / "old-module.pt", _use_new_zipfile_serialization=False)
    torch.save([1, 2, 3], folder / "list.pt")
    torch.save({}, folder / "nothing.pt")
    torch.save(state, folder / "plain.pt")
    torch.save({**state, "1.bias": torch.tensor([0, torch.nan, 0, 0])}, folder / "nan.pt")
    torch.save({**state, "1.bias": torch.full((4,), torch.inf)}, folder / "inf.pt")
    torch.save({"1.weight": state["1.weight"]}, folder / "missing-tensor.pt")
    torch.save({**state, "more": torch.ones(2)}, folder / "more-tensors.pt")
    torch.save({"format": "sharpcli", "format_version": 4}, folder / "version-4.pt")
    torch.save({"format": "sharpcli", "format_version": 2}, folder / "no-state.pt")
    odd = {"format": "sharpcli", "format_version": 2, "state_dict": state, "metadata": {"model": "mlp", "data": "mnist"}}
    torch.save(odd, folder / "odd-metadata.pt")
    for name, more in (("unknown-parameters", {"parameters": ["gone"]}), ("odd-init", {"init": {}})):
        torch.save({"format": "sharpcli", "format_version": 2, "state_dict": state, "metadata": more}, folder / f"{name}.pt")
    torch.save({"weight": torch.ones(3, 2, device="meta")}, folder / "meta.pt")
    torch.save({"tokens": torch.arange(3)}, folder / "integers.pt")
    torch.save({**state, "1.bias": torch.ones(4, dtype=torch.complex64)}, folder / "complex.pt")
    torch.save({"weight": torch.randn(100, 100)}, folder / "large.pt")
    content = bytearray((folder / "large.pt").read_bytes())
    (folder / "truncated.pt").write_bytes(content[: len(content) // 2])
    content[len(content) // 2] ^= 255  # In the middle of the weights.
    (folder / "flipped.pt").write_bytes(content)
    safetensors.torch.save_file({"weight": torch.ones(3, 2)}, folder / "other.safetensors")


def write_data(folder: Path, arrays: dict[str, np.ndarray]) -> None:
    np.savez(folder / "no-test.npz", **{key: array for key, array in arrays.items() if key != "y_test"})
    np.savez(folder / "nan.npz", **arrays | {"x_train": np.full_like(arrays["x_train"], np.nan)})
    np.savez(folder / "short.npz", **arrays | {"y_train": arrays["y_train"][:-1]})
    np.savez(folder / "pickled.npz", **arrays | {"y_test": np.array([None, {}], dtype=object)})
    (folder / "text.npz").write_text("hello")


@pytest.fixture(scope="module")
def places(
    tmp_path_factory: pytest.TempPathFactory,
    sharpcli: Callable[..., Any],
    runs: Path,
    arrays: dict[str, np.ndarray],
    data_file: Path,
) -> dict[str, Path]:
    """Everything that the lines of the table name."""
    bad = tmp_path_factory.mktemp("bad")
    write_damaged(bad, runs / "sgd" / "final.pt")
    write_data(bad, arrays)
    code = tmp_path_factory.mktemp("code")
    (code / "net.py").write_text(MODEL_CODE)
    named = ["--model", f"{code / 'net.py'}:net", "--data", f"npz:{data_file}", "--steps", 1, "--out", code / "run"]
    assert sharpcli("train", *named).exit_code == 0
    wide = ["--model", "mlp", "--model-arg", "hidden=6", "--data", f"npz:{data_file}", "--steps", 1]
    assert sharpcli("train", *wide, "--out", bad / "wide").exit_code == 0
    (bad / "picture.png").write_bytes(b"\x89PNG what was here before")
    (bad / "moved").mkdir()
    (bad / "moved" / "final.pt").write_bytes((runs / "sgd" / "final.pt").read_bytes())
    return {"bad": bad, "code": code, "runs": runs, "run": runs / "sgd", "other": runs / "fullbatch", "data": data_file}


TINY = "--model mlp --model-arg hidden=4 --data npz:{data}"
# Exit code, command line, and a word that the message must hold. {bad}, {run}, {other}, {runs}, {data} are filled in.
TABLE = [
    # The checkpoint cannot be read.
    (3, "hessian {bad}/none.pt", "none.pt"),
    (3, "inspect {bad}/none.pt", "none.pt"),
    (3, "distance {bad}/none.pt", "none.pt"),
    (3, "sharpness {bad}/none.pt", "none.pt"),
    (3, "compare {run} {bad}/none.pt", "none.pt"),
    (3, "interpolate {run} {bad}/none.pt", "none.pt"),
    (3, "hessian {bad}", "final.pt"),
    (3, "hessian {runs}", "{runs}/fullbatch"),
    (3, "hessian {bad}/text.pt", "text.pt"),
    (3, "compare {bad}/text.pt", "text.pt"),
    (3, "inspect {bad}/empty.pt", "empty.pt"),
    (3, "inspect {bad}/empty.safetensors", "empty.safetensors"),
    (3, "hessian {bad}/half.pt", "half.pt"),
    (3, "hessian {bad}/tail.pt", "tail.pt"),
    (3, "inspect {bad}/zip.pt", "zip.pt"),
    (3, "hessian {bad}/list.pt", "list"),
    (3, "hessian {bad}/nothing.pt", "nothing.pt"),
    (3, "hessian {bad}/version-4.pt", "4"),
    (3, "inspect {bad}/no-state.pt", "no-state.pt"),
    (3, "hessian {bad}/odd-metadata.pt", "odd-metadata.pt"),
    (3, "inspect {bad}/unknown-parameters.pt", "unknown-parameters.pt"),
    (3, "distance {bad}/odd-init.pt", "odd-init.pt"),
    (3, "inspect {bad}/meta.pt", "without data"),
    (3, "distance {bad}/integers.pt --init {bad}/integers.pt", "no parameters"),
    (3, "inspect ~nosuchuser/x.pt", "~nosuchuser"),
    (2, "sharpness {run} --measure gradient-norm --epsilon 0.01", "--epsilon"),
    (2, "sharpness {run} --epsilon 0.01,0.01", "twice"),
    (2, "hessian {run} --topk 1 --vectors {bad}/plain.pt", "--vectors"),
    (2, "reparam {run} {bad}/out.safetensors", ".pt"),
    (3, "hessian {bad}/flipped.pt " + TINY, "damaged"),
    (3, "inspect {bad}/truncated.pt", "damaged"),
    (3, "inspect {bad}/complex.pt", "complex"),
    (3, "surface {run} --state {bad}", "folder"),
    (4, "surface {run} --range 1e38:2e38 --points 2 --plot {bad}/gone.png", "--range"),
    (2, "compare {run} --metrics ,", "--metrics"),
    # It would need code to be read.
    (3, "hessian {bad}/touch.pt", "code"),
    (3, "inspect {bad}/touch.pt", "code"),
    (3, "hessian {bad}/module.pt", "code"),
    (3, "hessian {bad}/module.pt", "torch.nn.modules.linear.Linear"),
    (3, "hessian {bad}/old-module.pt", "torch.nn.modules.linear.Linear"),
    (3, "hessian {code}/run/sgd", "{code}/net.py:net"),
    (3, "compare {code}/run/sgd", "--model"),
    (3, "interpolate {code}/run/sgd {code}/run/sgd", "--model"),
    # It does not fit, or says too little.
    (3, "hessian {run} --model mlp --model-arg hidden=8", "1.weight"),
    (3, "hessian {run} --model convnet", "convnet"),
    (3, "hessian {run} --data fashion-mini", "1.weight"),
    (3, "hessian {bad}/missing-tensor.pt " + TINY, "1.bias"),
    (3, "hessian {bad}/more-tensors.pt " + TINY, "more"),
    (3, "hessian {bad}/other.safetensors " + TINY, "weight"),
    (3, "hessian {bad}/plain.pt --data npz:{data}", "--model"),
    (3, "hessian {bad}/plain.pt --model mlp", "--data"),
    (3, "distance {bad}/plain.pt", "--init"),
    (3, "distance {bad}/moved", "--init"),
    (3, "distance {run} --init {bad}/wide/sgd/init.pt", "1.weight"),
    (3, "interpolate {run} {bad}/wide/sgd", "architectures"),
    # Weights are not numbers.
    (4, "hessian {bad}/nan.pt " + TINY, "1.bias"),
    (4, "sharpness {bad}/inf.pt " + TINY, "1.bias"),
    (4, "interpolate {run} {bad}/nan.pt " + TINY, "1.bias"),
    (4, "compare {bad}/nan.pt " + TINY, "1.bias"),
    (4, "distance {bad}/nan.pt --init {run}/init.pt", "1.bias"),
    (4, "train " + TINY + " --init-from {bad}/nan.pt", "1.bias"),
    # Models.
    (2, "hessian {run} --model mpl", "'mlp'"),
    (2, "train --model convnett", "'convnet'"),
    (2, "hessian {run} --model torchvision:resnet81", "resnet81"),
    (2, "hessian {run} --model mlp --model-arg depth=3", "depth"),
    (2, "hessian {run} --model-arg hidden", "hidden"),
    (2, "train --model mlp --model-arg hidden=0", "hidden"),
    (3, "hessian {run} --model {code}/none.py:net", "none.py"),
    (3, "train --model {code}/net.py:seven --data npz:{data} --steps 1", "(5,)"),
    (3, "train --model {code}/net.py:number --data npz:{data} --steps 1", "int"),
    (3, "train --model {code}/net.py:frozen --data npz:{data} --steps 1", "trainable"),
    (3, "train --model {code}/net.py:missing --data npz:{data} --steps 1", "missing"),
    # Data.
    (2, "train --data fashionmini2", "fashion"),
    (2, "hessian {run} --data imagenet", "imagenet"),
    (2, "train --data npz:", "npz"),
    (3, "train --model mlp --data npz:{bad}/none.npz", "none.npz"),
    (3, "train --model mlp --data npz:{bad}/no-test.npz", "y_test"),
    (3, "train --model mlp --data npz:{bad}/nan.npz", "x_train"),
    (3, "train --model mlp --data npz:{bad}/short.npz", "59"),
    (3, "train --model mlp --data npz:{bad}/pickled.npz", "pickled"),
    (3, "train --model mlp --data npz:{bad}/text.npz", "text.npz"),
    (3, "train --model mlp --data folder:{bad}/none", "none"),
    (3, "train --data mnist --data-root {bad}", "--download"),
    # Settings of analyses.
    (2, "hessian {run} --topk 40", "39"),
    (2, "hessian {run} --topk 0", "--topk"),
    (2, "hessian {run} --topk 5 --max-hvp 4", "--max-hvp"),
    (2, "hessian {run} --tol 0", "--tol"),
    (2, "hessian {run} --tol nan", "--tol"),
    (2, "hessian {run} --split validation", "--split"),
    (2, "sharpness {run} --split both", "--split"),
    (2, "hessian {run} --split both --vectors v.safetensors", "--vectors"),
    (2, "hessian {run} --samples 61", "60"),
    (2, "hessian {run} --split test --samples 31", "30"),
    (2, "hessian {run} --samples 0", "--samples"),
    (2, "hessian {run} --chunk-size 0", "--chunk-size"),
    (2, "hessian {run} --chunk-size 7 --batch-size 7", "its former name"),
    (2, "hessian {run} --seed=-1", "--seed"),
    (2, "hessian {run} --dtype float16", "--dtype"),
    (2, "hessian {run} --device gpu", "--device"),
    (2, "hessian {run} --loss hinge", "--loss"),
    (2, "hessian {run} --engine fast", "--engine"),
    (2, "hessian {run} --engine Fused", "--engine"),
    (2, "hessian {run} --compile yes", "--compile"),
    (2, "hessian {run} --engine fused --compile on", "--compile"),
    (2, "hessian {run} --engine double-backward --compile on", "--engine forward-over-reverse"),
    (2, "hessian {run} --operator ggn --engine linearize", "ggn"),
    (2, "hessian {run} --operator empirical-fisher --engine forward-over-reverse", "empirical-fisher"),
    (2, "hessian {run} --operator fisher --compile on", "fisher"),
    (2, "sharpness {run} --epsilon 0", "--epsilon"),
    (2, "sharpness {run} --epsilon=-1e-3", "--epsilon"),
    (2, "sharpness {run} --epsilon 1e-3,small", "small"),
    (2, "sharpness {run} --epsilon ,", "--epsilon"),
    (2, "sharpness {run} --subspace 40", "39"),
    (2, "sharpness {run} --subspace 1.5", "--subspace"),
    (2, "sharpness {run} --iterations 0", "--iterations"),
    (2, "interpolate {run} {other} --range 1.5:-0.5", "-0.5:1.5"),
    (2, "interpolate {run} {other} --range 1:1", "--range"),
    (2, "interpolate {run} {other} --range 0:inf", "--range"),
    (2, "interpolate {run} {other} --range 3", "LO:HI"),
    (2, "interpolate {run} {other} --points 1", "--points"),
    (2, "interpolate {run} {other} --path curve", "--path"),
    (2, "interpolate {run} {other} --bn ignore", "--bn"),
    (2, "interpolate {run}", "two"),
    (2, "compare {run} --metrics hesian", "'hessian'"),
    (2, "compare {run} --epsilon 0", "--epsilon"),
    # Settings of training.
    (2, "train --mode sdg", "'sgd'"),
    (2, "train --mode sgd,sgd", "twice"),
    (2, "train --mode ,", "--mode"),
    (2, "train " + TINY + " --batch-size 61", "60"),
    (2, "train " + TINY + " --epochs 2 --steps 2", "--epochs"),
    (2, "train " + TINY + " --epochs 0", "--epochs"),
    (2, "train " + TINY + " --steps 0", "--steps"),
    (2, "train " + TINY + " --lr 0", "--lr"),
    (2, "train " + TINY + " --lr nan", "--lr"),
    (2, "train " + TINY + " --momentum 1", "--momentum"),
    (2, "train " + TINY + " --warmup -1", "--warmup"),
    (2, "train " + TINY + " --optimizer lion", "--optimizer"),
    (2, "train " + TINY + " --schedule exponential", "--schedule"),
    (2, "train " + TINY + " --seed 99999999999999999999 --steps 1", "--seed"),
    (2, "train " + TINY + " --overwrite --resume", "--resume"),
    (2, "train " + TINY + " --steps 5 --out {runs}", "--overwrite"),
    (2, "train " + TINY + " --steps 5 --out {runs} --overwrite --batch-size 1000", "60"),
    (3, "train " + TINY + " --steps 5 --out {runs} --overwrite --init-from {bad}/text.pt", "text.pt"),
    # Places that cannot be written to: below a regular file, which stops also a privileged user.
    (3, "train " + TINY + " --steps 1 --out {data}/run", "{data}"),
    (3, "train " + TINY + " --steps 1 --out {data}", "{data}"),
    (3, "hessian {run} --topk 1 --plot {data}/spectrum.png", "spectrum.png"),
    (2, "hessian {run} --plot {bad}/spectrum.jpg", "spectrum.png"),
    (2, "interpolate {run} {other} --plot {bad}/path", "path.png"),
    (4, "hessian {bad}/nan.pt " + TINY + " --plot {bad}/picture.png", "1.bias"),
]


USAGE = [
    ("hessian", "CKPT"),
    ("hessian {run} --topk 1.5", "--topk"),
    ("hessian {run} --topk", "--topk"),
    ("hessian {run} --frobnicate", "--frobnicate"),
    ("train --lr fast", "--lr"),
    ("train extra", "extra"),
    ("hesian {run}", "hesian"),
    ("sharpness {run} --restarts 2.0", "--restarts"),
]


def check(answer: Any, exit_code: int) -> None:
    """One sentence, perhaps an indented table, and one hint, and nothing else; no full stop behind a command to be copied."""
    assert answer.exit_code == exit_code, answer.stderr
    assert answer.stdout == ""
    lines = [line for line in answer.stderr.splitlines() if not line.startswith("  ")]
    assert [line.partition(" ")[0] for line in lines] == ["error:", "hint:"], answer.stderr
    assert all((line.endswith(".") and not line.endswith("..")) or ": sharpcli " in line for line in lines), answer.stderr


@pytest.mark.parametrize(("exit_code", "line", "word"), TABLE, ids=[line for _, line, _ in TABLE])
def test_one_sentence_one_hint_and_nothing_damaged(
    exit_code: int,
    line: str,
    word: str,
    sharpcli: Callable[..., Any],
    places: dict[str, Path],
    contents: Callable[[Path], dict[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    before = [contents(places[name]) for name in ("bad", "runs")]
    answer = sharpcli(*(part.format(**places) for part in line.split()))
    check(answer, exit_code)
    assert word.format(**places) in answer.stderr
    assert contents(tmp_path) == {}
    assert [contents(places[name]) for name in ("bad", "runs")] == before


@pytest.mark.parametrize(("line", "word"), USAGE, ids=[line for line, _ in USAGE])
def test_a_command_line_that_cannot_be_read(
    line: str, word: str, sharpcli: Callable[..., Any], places: dict[str, Path]
) -> None:
    answer = sharpcli(*(part.format(**places) for part in line.split()))
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert word in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("option", ["plot", "vectors", "state", "model", "data"])
def test_an_empty_value_is_no_value(option: str, sharpcli: Callable[..., Any], places: dict[str, Path]) -> None:
    """As of a variable of the shell that is not set: nothing is silently left out."""
    answer = sharpcli("hessian", places["run"], "--topk", 1, f"--{option}", "")
    assert answer.exit_code == 2
    assert answer.stdout == ""
    assert f"--{option} is empty" in answer.stderr


def test_vectors_may_be_written_again(sharpcli: Callable[..., Any], places: dict[str, Path], tmp_path: Path) -> None:
    for _ in range(2):
        assert sharpcli("hessian", places["run"], "--topk", 1, "--vectors", tmp_path / "v.safetensors").exit_code == 0


def test_ctrl_c_while_it_is_loaded_is_no_traceback() -> None:
    code = (
        "import builtins, sys; real = builtins.__import__\n"
        "def stop(name, *rest):\n    if name == 'sharpcli.cli.app': raise KeyboardInterrupt\n    return real(name, *rest)\n"
        "import sharpcli.cli.entry as entry; builtins.__import__ = stop; entry.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: Interrupted.\n")


@pytest.mark.cpu
@pytest.mark.parametrize("line", ["hessian {run}", "sharpness {run}", "train " + TINY + " --steps 1"])
def test_no_cuda_here(
    line: str, sharpcli: Callable[..., Any], places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = sharpcli(*(part.format(**places) for part in line.split()), "--device", "cuda")
    check(answer, 3)
    assert "cuda" in answer.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["hessian", "sharpness", "compare", "interpolate", "inspect", "distance"])
def test_code_that_a_checkpoint_names_is_not_run(command: str, sharpcli: Callable[..., Any], places: dict[str, Path]) -> None:
    run, marker = places["code"] / "run" / "sgd", places["code"] / "this code ran"
    marker.unlink(missing_ok=True)
    answer = sharpcli(command, *[run] * (2 if command == "interpolate" else 1))
    assert answer.exit_code == (0 if command == "distance" else 3)
    assert not marker.exists()


def test_code_that_the_user_names_is_run(sharpcli: Callable[..., Any], places: dict[str, Path]) -> None:
    """The control: the same command with --model does run it, so the marker above can appear."""
    marker = places["code"] / "this code ran"
    marker.unlink(missing_ok=True)
    answer = sharpcli("hessian", places["code"] / "run" / "sgd", "--topk", 1, "--model", f"{places['code'] / 'net.py'}:net")
    assert answer.exit_code == 0, answer.stderr
    assert marker.exists()


def test_code_in_a_pickle_is_not_run(sharpcli: Callable[..., Any], places: dict[str, Path]) -> None:
    marker = places["bad"] / "this pickle ran"
    for command in ("inspect", "hessian", "distance"):
        assert sharpcli(command, places["bad"] / "touch.pt").exit_code == 3
    assert not marker.exists()
    torch.load(places["bad"] / "touch.pt", weights_only=False)  # the control: it would have made the file
    assert marker.exists()
    marker.unlink()


@pytest.mark.parametrize(
    ("exit_code", "line"),
    [
        slow(2, "hessian {run} --topk 40"),
        (3, "hessian {bad}/none.pt"),
        (3, "hessian {bad}/touch.pt"),
        (3, "inspect {bad}/script.pt"),
        (3, "hessian {bad}/sparse.pt " + TINY),
        (4, "hessian {bad}/nan.pt " + TINY),
    ],
)
def test_in_a_process_of_its_own(
    exit_code: int, line: str, new_process: Callable[..., Any], places: dict[str, Path], tmp_path: Path
) -> None:
    """Here Python's own warnings would show, which in this process are errors."""
    places = {**places, "bad": tmp_path}
    (tmp_path / "final.pt").write_bytes((places["run"] / "final.pt").read_bytes())
    write_damaged(tmp_path, tmp_path / "final.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # newer releases of torch call TorchScript deprecated
        torch.jit.script(nn.Linear(5, 3)).save(str(tmp_path / "script.pt"))
    torch.save({"weight": torch.eye(3).to_sparse()}, tmp_path / "sparse.pt")
    check(new_process(*(part.format(**places) for part in line.split())), exit_code)


def test_debug_shows_the_traceback(sharpcli: Callable[..., Any], places: dict[str, Path]) -> None:
    answer = sharpcli("hessian", places["bad"] / "text.pt", "--debug")
    assert answer.exit_code == 3
    assert answer.stdout == ""
    assert "Traceback (most recent call last)" in answer.stderr
    assert answer.stderr.splitlines()[-1].startswith("hint: ")


def test_quiet_keeps_errors_and_drops_warnings(sharpcli: Callable[..., Any], places: dict[str, Path], tmp_path: Path) -> None:
    check(sharpcli("hessian", places["bad"] / "none.pt", "--quiet"), 3)
    line = ["train", *TINY.format(**places).split(), "--steps", 1, "--stop-train-loss", 1e-9, "--quiet"]
    answer = sharpcli(*line, "--out", tmp_path)
    assert answer.exit_code == 0
    assert answer.stderr == ""
