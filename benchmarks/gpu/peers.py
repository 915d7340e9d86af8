"""Other tools on the card, beside ours: a product and the largest eigenvalues of one batch that is held in memory."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.gpu.problems import gpt
from benchmarks.gpu.products import mlp, resnet18
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import arithmetic, once
from benchmarks.problem import Problem
from benchmarks.progress import tell
from benchmarks.tools import Answer

SECONDS = 150
_TOOLS = ("sharpcli", "curvlinops_eigsh", "hessian_eigenthings")


def measure(setting: Setting) -> dict[str, Any]:
    """Return for each net and tool its seconds, products and eigenvalues, or why it gave none."""
    small = setting.small
    rows: list[dict[str, Any]] = []
    for made, topk, tools in (
        (mlp(setting), 10, _TOOLS),
        (resnet18(setting, 16 if small else 512), 3 if small else 10, _TOOLS),
        # For 124 million parameters the next tool gave no answer on an H100 before the process ended; see docs/performance.md.
        (gpt(setting, 2 if small else 8, 32 if small else 512), 3 if small else 10, _TOOLS[:1]),
    ):
        problem = Problem(made.model.eval(), made.inputs, made.targets)
        steps = 0
        for tool in tools:
            row: dict[str, Any] = {"net": made.name, "tool": tool, "samples": len(made.inputs), "wanted": topk}
            steps = _solve(row, problem, setting, {"steps": steps}) or steps
            rows.append(row)
            tell(f"  {row}")
    return {"rows": rows}


def _solve(row: dict[str, Any], problem: Problem, setting: Setting, tuned: dict[str, Any]) -> int | None:
    """Run one tool twice, the first time to warm the card, and return how many products it made."""
    answers: list[Answer] = []
    try:
        tool = import_module(f"benchmarks.tools.{row['tool']}")
        for _ in range(1 if row["net"] == "gpt2-small" else 2):
            if setting.device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats(setting.device)
            with arithmetic(tf32=False), sdpa_kernel(SDPBackend.MATH):  # Fused attention has no second derivative.
                row["seconds"] = once(lambda: answers.append(tool.solve(problem, row["wanted"], 0, tuned)), setting.device)
    except Exception as error:  # A tool that cannot do it is a row that says so.
        row["error"] = f"{type(error).__name__}: {error}"[:300]
        torch.cuda.empty_cache()
        return None
    answer = answers[-1]
    row |= {"products": answer.products, "settings": answer.settings, "values": sorted(answer.values.tolist(), reverse=True)}
    if setting.device.startswith("cuda"):
        row["peak bytes"] = torch.cuda.max_memory_allocated(setting.device)
    return answer.products
