"""A model's code may do anything: it ends no command as if all were well, prints into no answer, and is named when it fails."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lanes import crossed, thinned
from tests.machine.conftest import sentence_and_hint
from tests.processes import Machine

RAISED = {
    "ValueError": "raise ValueError('boom')",
    "SystemExit": "sys.exit(0)",
    "exit": "import builtins; (getattr(builtins, 'exit', None) or sys.exit)()",
    "GeneratorExit": "raise GeneratorExit",
    "BaseException": "class Odd(BaseException): pass\nraise Odd('odd')",
    "RecursionError": "def deeper(): return deeper()\ndeeper()",
    "FileNotFoundError": "open('/no such file')",
    "BrokenPipeError": "raise BrokenPipeError",
    "StopIteration": "raise StopIteration",
    "AssertionError": "assert False",
    "KeyError": "{}['key']",
    "no message": "class Mute(Exception):\n    def __str__(self): raise ValueError\nraise Mute()",
    "typer.Exit": "import typer\nraise typer.Exit(0)",
}
WHERE = ("imported", "built", "called", "called late")
ASK = ("--topk", 1, "--json")
LATE = 40  # Calls after which the search for eigenvalues is under way.


def late(code: str) -> str:
    return f"if CALLS[0] > {LATE}:\n" + textwrap.indent(code, "    ")


EVERYWHERE = [(raised, where) for raised in ("ValueError", "SystemExit", "BaseException") for where in WHERE[:3]]


@pytest.mark.parametrize(("raised", "where"), thinned([*EVERYWHERE, *((raised, WHERE[-1]) for raised in RAISED)], 2))
def test_what_it_raises_is_told_with_file_and_line(
    raised: str, where: str, machine: Machine, own_model: Callable[..., list[str]], final: Path
) -> None:
    code = RAISED[raised]
    words = own_model(**{where.partition(" ")[0]: late(code) if where == "called late" else code})
    answer = machine("hessian", final, *words, *ASK)
    sentence_and_hint(answer, 3)
    assert answer.stdout == ""
    assert "net.py, line " in answer.stderr
    if raised.endswith("Error"):
        assert raised in answer.stderr


PRINTED = {
    "print": "print('PRINTED')",
    "descriptor": "os.write(1, b'PRINTED\\n')",
    "C": "import ctypes; ctypes.CDLL(None).puts(b'PRINTED')",
    "thread": "threading.Thread(target=lambda: print('PRINTED')).start()",
    "the real stdout": "sys.__stdout__.write('PRINTED\\n')",
}
CHANGED = {
    "closed stdout": "sys.stdout.close()",
    "closed stderr": "sys.stderr.close()",
    "no stdout": "sys.stdout = None",
    "warnings": "warnings.simplefilter('error')",
    "matplotlib": "import matplotlib; matplotlib.rcParams['text.usetex'] = True",
    "deterministic": "torch.use_deterministic_algorithms(True)",
    "random": "torch.manual_seed(0)",
}
GLOBAL = {
    "working folder": "os.chdir('/')",
    "default dtype": "torch.set_default_dtype(torch.float64)",
    "gradients": "torch.set_grad_enabled(False)",
    "recursion": "sys.setrecursionlimit(90)",
    "import path": "sys.path.clear()",
}


@pytest.mark.parametrize(("name", "where"), crossed([*PRINTED, *CHANGED], ["imported", "called"]))
def test_what_it_prints_and_changes_does_not_reach_the_answer(
    name: str, where: str, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    words = own_model(**{where: (PRINTED | CHANGED)[name]})
    plot = ["--plot", "p.png"] if name == "matplotlib" else []
    answer = machine("hessian", final, *words, *ASK, *plot, "--vectors", "v.safetensors", cwd=tmp_path)
    assert answer.exit_code == 0, answer.stderr
    assert json.loads(answer.stdout)["status"] == "ok"
    assert (tmp_path / "p.png").is_file() == bool(plot)
    assert (tmp_path / "v.safetensors").is_file()
    assert "Traceback" not in answer.stderr
    if name in PRINTED and name != "the real stdout":
        assert "PRINTED" in answer.stderr


@pytest.mark.parametrize("name", thinned(GLOBAL, 3))
def test_settings_of_the_process_are_put_back_after_an_import_and_refused_in_forward(
    name: str, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    answer = machine("hessian", final, *own_model(imported=GLOBAL[name]), *ASK, "--plot", "p.png", cwd=tmp_path)
    assert answer.exit_code == 0, answer.stderr
    assert (tmp_path / "p.png").is_file()
    refused = machine("hessian", final, *own_model(called=GLOBAL[name]), *ASK, cwd=tmp_path)
    sentence_and_hint(refused, 3)
    assert refused.stdout == ""
    assert name in refused.stderr


def test_a_model_without_numbers_is_refused(machine: Machine, own_model: Callable[..., list[str]], final: Path) -> None:
    answer = machine("hessian", final, *own_model(built="torch.set_default_device('meta')"), *ASK)
    sentence_and_hint(answer, 3)
    assert "meta" in answer.stderr


@pytest.mark.parametrize("command", ["train", "sharpness", "surface", "interpolate", "compare"])
def test_every_command_names_the_models_code(
    command: str, machine: Machine, own_model: Callable[..., list[str]], final: Path, tmp_path: Path
) -> None:
    words = own_model(called=late("sys.exit(0)"))
    given: list[object] = {
        "train": ["--steps", 100, "--out", tmp_path / "run"],
        "interpolate": [final, final, "--points", 101],
        "surface": [final, "--points", 41],
    }.get(command, [final])
    answer = machine(command, *given, *words)
    sentence_and_hint(answer, 3)
    assert answer.stdout == ""
    assert "SystemExit" in answer.stderr
    assert "net.py, line " in answer.stderr
