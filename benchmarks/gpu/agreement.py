"""Every command on the device, held to the same command on the CPU."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.environment import ROOT
from benchmarks.gpu.session import Setting
from benchmarks.progress import tell
from sharpcli.cli.entry import main

SECONDS = 80

# {S} the sample checkpoints, {O} a folder to write to, which each device has for itself, {C} that of the CPU.
COMMANDS = (
    "hessian {S}/sgd --topk 20",
    "hessian {S}/sgd --topk 3 --samples 256 --trace --density --engine double-backward",
    "hessian {S}/sgd --topk 3 --samples 256 --engine linearize",
    "hessian {S}/sgd --topk 3 --samples 256 --engine forward-over-reverse",
    "hessian {S}/sgd --topk 3 --samples 256 --engine fused",
    "hessian {S}/sgd --topk 3 --samples 256 --engine difference",
    "hessian {S}/sgd --topk 3 --samples 256 --operator ggn",
    "hessian {S}/sgd --topk 3 --samples 256 --operator fisher",
    "hessian {S}/sgd --topk 3 --samples 256 --operator empirical-fisher",
    "hessian {S}/sgd --topk 3 --samples 256 --per-layer",
    "hessian {S}/sgd --topk 3 --bottomk 2 --samples 256 --ggn-split --vectors {O}/v.safetensors",
    "hessian {S}/sgd --topk 3 --samples 256 --dtype float64 --params 3.*",
    "hessian {S}/fullbatch --topk 5 --samples 256 --memory 4MiB --state {O}/state",
    "sharpness {S}/sgd --samples 256 --measure all",
    "interpolate {S}/sgd {S}/largebatch --points 5",
    "interpolate {S}/sgd {S}/largebatch --points 3 --samples 256 --path bezier --bezier-steps 10 --align --curvature",
    "surface {S}/sgd --points 3 --samples 256",
    "compare {S}/sgd {S}/largebatch {S}/fullbatch",
    "distance {S}/sgd",
    "inspect {S}/sgd",
    "train --mode fullbatch --steps 8 --out {O}/full",
    "train --mode sgd --steps 40 --average ema:0.99 --track-sharpness 20 --out {O}/sgd",
    "train --mode sgd --steps 3 --model resnet8 --batch-size 64 --ghost-bn 16 --sam 0.05 --clip 1 --augment crop,flip "
    "--grad-penalty 0.01 --out {O}/methods",
    "hessian {C}/methods/sgd --topk 2 --samples 64 --tol 0.01",
    "hessian {C}/methods/sgd --topk 2 --samples 64 --tol 0.01 --bn batch --bn-block 32",
    "interpolate {C}/methods/sgd {C}/methods/sgd/init.pt --points 3 --samples 64 --bn recompute --align",
)
_OWN = re.compile(
    "batch_size|seconds|minutes|provenance|command|device|path|file|folder|run$|out$|checkpoint|threads|elapsed|platform|state"
)
_NOISE = re.compile(
    "residual|noise|orthogonality|rounding|passes|history|products|engine|reasons|nodes|weights|density|asymmetry"
)
_FLOOR = 1e-7  # Values below this are compared as if they were this large.


def measure(setting: Setting) -> dict[str, Any]:
    """Return for each command both exit codes, seconds, and the worst relative difference of a number with its place."""
    rows = []
    for line in COMMANDS:
        row: dict[str, Any] = {"command": line}
        answers: list[str] = []
        for device in ("cpu", setting.device):
            folder = setting.cache / f"agreement-{'cpu' if device == 'cpu' and not answers else 'device'}"
            words = line.format(S=ROOT / "sample_checkpoints", O=folder, C=setting.cache / "agreement-cpu").split()
            words += ["--overwrite"] if words[0] == "train" else []
            words += ["--device", device] if words[0] != "reparam" else []
            start = time.perf_counter()
            code, out, err = _run([*words, "--json"])
            answers.append(out)
            name = "cpu" if len(answers) == 1 else "device"
            row[name] = {"code": code, "seconds": round(time.perf_counter() - start, 2)}
            if code or "warning" in err:
                row[name]["says"] = err[-600:]
        row |= _compared(*answers)
        rows.append(row)
        tell(f"  {row['cpu']['code']} {row['device']['code']} {row.get('worst')} {line}")
    return {"commands": rows, "worst": max((row["worst"] for row in rows if "worst" in row), default=None)}


def _run(words: list[str]) -> tuple[int, str, str]:
    out, err, before = io.StringIO(), io.StringIO(), sys.argv
    code: Any = 0
    try:
        sys.argv = ["sharpcli", *words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), _here():
            main()
    except SystemExit as end:
        code = end.code or 0
    except BaseException as error:  # A traceback is what is looked for here.
        code = f"{type(error).__name__}: {error}"
    finally:
        sys.argv = before
    return code, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def _here() -> Iterator[None]:
    before = Path.cwd()
    os.chdir(ROOT)
    try:
        yield
    finally:
        os.chdir(before)


def _compared(first: str, second: str) -> dict[str, Any]:
    """Return the worst relative difference of the numbers of two documents, and what else differs."""
    try:
        ours, theirs = (dict(_flat(json.loads(text))) for text in (first, second))
    except json.JSONDecodeError:
        return {"other": ["no JSON"]}
    worst, place, other = 0.0, "", []
    for key in ours.keys() | theirs.keys():
        if _OWN.search(key.lower()) or _NOISE.search(key.lower()):
            continue
        a, b = ours.get(key), theirs.get(key)
        if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
            off = abs(a - b) / max(abs(a), abs(b), _FLOOR)
            if off > worst:
                worst, place = off, f"{key}: {a} {b}"
        elif a != b:
            other.append(f"{key}: {str(a)[:80]} | {str(b)[:80]}")
    return {"worst": worst, "place": place, "other": other[:5]}


def _flat(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(part, f"{place}/{key}")
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from _flat(part, f"{place}[{number}]")
    else:
        yield place, value
