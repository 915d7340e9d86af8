"""Tables of the contents of a file, and of the runs in a folder."""

from __future__ import annotations

from rich.text import Text

from sharpcli.render.folding import unbroken
from sharpcli.render.tables.parts import Command, Facts, Part, dim, few, identified_by, new_table, number
from sharpcli.results import HessianCost, InspectResult, RunsResult


def draw_inspect(result: InspectResult) -> list[Part]:
    """Return tables of tensors and checks, and the verdict."""
    subject = result.checkpoint
    known = {
        "tensors": f"{result.num_tensors} ({', '.join(result.dtypes)})",
        "parameters": f"{result.num_parameters} ({identified_by(result.known_by)})",
        "tied": few([f"{name} to {owner}" for name, owner in result.ties.items()]) if result.ties else None,
        "buffers": few(result.buffers) if result.buffers else None,
        "not used": few(result.left_out) if result.left_out else None,
        "weights": subject.weights, "weights sha256": subject.sha256[:16],
        "model": subject.model, "data": subject.data, "mode": subject.mode, "updates": subject.step, "seed": subject.seed,
        "batch size": subject.batch_size, "optimizer": subject.optimizer, "peak lr": subject.learning_rate,
    }  # fmt: skip
    facts = [(name, str(value)) for name, value in known.items() if value is not None]
    tensors = new_table("Tensors", "name", "shape", left=2)
    for name, shape in result.tensors:
        tensors.add_row(name, " × ".join(map(str, shape)) or "scalar")
    checks = new_table("Checks", "check", "passed", "detail", left=3)
    for check in result.checks:
        answer = {True: "yes", False: "NO", None: "–"}[check.passed]
        checks.add_row(check.name, answer, check.detail)
    verdict = "This file can be analysed." if result.analysable else "This file cannot be analysed."
    sentences = [Text(result.run.sentence)] if result.run else []
    title = f"{unbroken(subject.path)}: {result.container}"
    cost = [dim(_cost(result.cost))] if result.cost else []
    return [Facts(title, facts), tensors, checks, *sentences, Text(verdict, style="bold"), *cost, Text()]


def _cost(cost: HessianCost) -> str:
    memory = f"{_size(cost.vector_bytes)} for vectors and {_size(cost.pass_bytes)} for a pass"
    return (
        f"hessian --topk {cost.topk} will take about {_duration(cost.seconds)} ({cost.products} products of "
        f"{_duration(cost.seconds / max(cost.products, 1))}, estimated from a few samples) and memory of about {memory}"
    )


def _duration(seconds: float) -> str:
    for unit, size in (("hours", 3600), ("minutes", 60), ("s", 1)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{1000 * seconds:.0f} ms" if seconds >= 0.01 else f"{1000 * seconds:.2g} ms"


def _size(number: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20)):
        if number >= size:
            return f"{number / size:.3g} {unit}"
    return f"{number / 2**10:.3g} KiB"


def draw_runs(result: RunsResult) -> list[Part]:
    """Return one row per run with its state and its checkpoint, and the commands that continue unfinished runs."""
    if len(result.rows) == 1:
        (row,) = result.rows
        parts: list[Part] = [Text(row.sentence)]
        if row.state == "interrupted" and row.checkpoint:
            parts.append(Text(f"Its last saved step is {row.checkpoint}."))
    else:
        table = new_table(f"Runs in {result.folder}", "run", "state", "updates", "planned updates", "checkpoint", left=2)
        for row in result.rows:
            table.add_row(row.folder, row.state, number(row.step), number(row.steps), row.checkpoint or "–")
        parts = [table]
    commands = list(dict.fromkeys(row.go_on for row in result.rows if row.go_on))
    if commands:
        parts += [Text("Continue with:"), *(Command(f"  {command}") for command in commands)]
    return [*parts, Text()]
