"""Hints for a value of --model that is no built-in name: a Python file, a file of weights, or a model of torchvision."""

from __future__ import annotations

import ast
import os
from pathlib import Path

_LISTED = 5  # Maximum number of functions in a hint.
_WEIGHTS = (".pt", ".pth", ".ckpt", ".safetensors")


def suggestion(spec: str) -> str:
    """Return a hint for a spec that names code, a file of weights or a model of torchvision; "" for any other spec."""
    if spec.endswith(".py"):
        functions = _functions(Path(os.path.expanduser(spec)))
        listed = " or ".join(f"{spec}:{name}" for name in functions[:_LISTED])
        return f"Did you mean {listed}?" if functions else f"Name the function in it that builds the model: {spec}:FUNCTION."
    if spec.lower().endswith(_WEIGHTS):
        return "That is a file of weights; --model takes the code of the model, such as net.py:FUNCTION."
    from torchvision import models  # type: ignore[import-untyped,unused-ignore]  # noqa: PLC0415

    module, dot, name = spec.rpartition(".")
    if name.lower() in models.list_models(module=models):
        return f"Did you mean torchvision:{name}?"
    return f"Did you mean {module}:{name}?" if dot and all(part.isidentifier() for part in spec.split(".")) else ""


def _functions(file: Path) -> list[str]:
    """Return the names of the public functions and classes of a file, without running the file."""
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError):
        return []
    return [node.name for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
