"""One run within the benchmark's environment: prepare, measure in turns, time engines, show, write. No torch here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import arguments, environment, table
from benchmarks.arguments import Plan
from benchmarks.conditions import conditions
from benchmarks.progress import tell
from benchmarks.rows import OURS, Measurement, row_of

_SEED = 0  # The same in every round, so that only times differ between them.
_PRODUCTS = 3  # Rounds of engines in one of tools; products are short.


class UsageError(Exception):
    """What was asked for does not fit the nets."""


def run(plan: Plan) -> dict[str, Any]:
    """Return the document that a plan leads to.

    Raises:
        UsageError: A net has fewer samples than were asked for.
    """
    for module, reason in environment.ensure().items():
        tell(f"{module} is not installed and is left out: {reason}")
    known = conditions(plan, seed=_SEED)
    nets = {net: _opened(plan, net) for net in plan.nets}
    for net in [net for net, facts in nets.items() if "error" in facts]:
        tell(f"{net} cannot be prepared and is left out: {nets.pop(net)['error']}")
    measured = _rounds(plan, nets) if plan.solvers else {}
    rows = [row_of(net, tool, plan.k, measured[net, tool], measured.get((net, OURS), [])) for net, tool in measured]
    rows.sort(key=lambda row: (plan.nets.index(row["net"]), plan.tools.index(row["tool"])))
    engines, peak, flops = _engines(plan, nets) if plan.engines else ([], {}, {})
    return {"conditions": {**known, "nets": nets, "peak": peak, "flops": flops}, "rows": rows, "engines": engines}


def _opened(plan: Plan, net: str) -> Measurement:
    tools = plan.tools_of(net) if plan.solvers else ()
    facts = _work(plan, "open", net, {"samples": plan.samples.get(net), "tools": tools}, patience=None)
    if "usage" in facts:
        raise UsageError(facts["usage"])
    return facts


def _rounds(plan: Plan, nets: dict[str, Measurement]) -> dict[tuple[str, str], list[Measurement]]:
    """Return the measurements of every net and tool; in each round the tools begin with another one."""
    measured: dict[tuple[str, str], list[Measurement]] = {}
    for number in range(plan.rounds):
        for net, facts in nets.items():
            tools = plan.tools_of(net)
            shift = number % len(tools)
            for tool in tools[shift:] + tools[:shift]:
                before = measured.setdefault((net, tool), [])
                if any("error" in one for one in before):
                    continue
                words = f"round {number + 1} of {plan.rounds}, {net}, {tool}"
                before.append(_measured(plan, net, tool, facts, residual=not number))
                one = before[-1]
                tell(f"{words}: " + (one.get("error") or f"{one['products']} products, {one['seconds']:.2f} s"))
    return measured


def _measured(plan: Plan, net: str, tool: str, facts: Measurement, *, residual: bool) -> Measurement:
    tuned = facts["tuned"].get(tool, {})
    if "error" in tuned:
        return {"error": f"its setting could not be guessed: {tuned['error']}"}
    more = {
        "tool": tool,
        "samples": facts["samples"],
        "exact": {"LA": facts["reference"]["values"][: plan.k], "LM": facts["reference"]["magnitudes"]},
        "tuned": tuned,
        "residual": residual,
    }
    return _work(plan, "measure", net, more, patience=plan.patience)


def _engines(plan: Plan, nets: dict[str, Measurement]) -> tuple[list[Measurement], Measurement, Measurement]:
    """Return the rows of all nets, the machine's rates beside each, and the operations of a gradient and a product."""
    rows, peak, flops = [], {}, {}
    for net, facts in nets.items():
        tell(f"engines, {net}")
        more = {"samples": facts["samples"], "rounds": _PRODUCTS * plan.rounds}
        found = _work(plan, "engines", net, more, patience=plan.patience)
        if "error" in found:
            rows.append({"net": net, "engine": "all", "error": found["error"]})
            continue
        rows += [{"net": net, **row} for row in found["engines"]]
        peak[net], flops[net] = found["peak"], found["flops"]
    return rows, peak, flops


def _work(plan: Plan, task: str, net: str, more: Measurement, *, patience: float | None) -> Measurement:
    """Do a task in a process of its own, and return its answer, or the "error" that it or its end was.

    What tools print goes to a file; of a process that dies its last line is the error.
    """
    request = {"task": task, "net": net, "quick": plan.quick, "k": plan.k, "seed": _SEED, "threads": plan.threads, **more}
    with tempfile.TemporaryDirectory() as folder:
        result, noise = Path(folder) / "result.json", Path(folder) / "noise"
        command = [sys.executable, "-m", "benchmarks.worker", json.dumps(request), str(result)]
        with noise.open("w") as file:
            try:
                done = subprocess.run(
                    command,
                    cwd=environment.ROOT,
                    env=environment.variables(plan.threads),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=None if task == "open" else file,
                    timeout=patience,
                    check=False,
                )
            except subprocess.TimeoutExpired:
                return {"error": f"not done after {patience:g} s"}
        if result.exists():
            answer: Measurement = json.loads(result.read_text())
            return answer
        last = (noise.read_text(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        return {"error": f"its process ended with code {done.returncode}: {last}"}


def write(place: Path, document: dict[str, Any]) -> None:
    """Write JSON under a temporary name, then move it into place; what is not finite becomes null."""
    text = json.dumps(_finite(document), indent=1, allow_nan=False) + "\n"
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, place)
    finally:
        temporary.unlink(missing_ok=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def main() -> int:
    """Run what the words say; return 0, 1 if we failed, 2 for wrong words, or 130 if interrupted."""
    plan = arguments.parse()
    try:
        document = run(plan)
        table.show(document)
        if plan.json is not None:
            write(plan.json, document)
    except UsageError as error:
        tell(str(error))
        return 2
    except KeyboardInterrupt:
        tell("interrupted; nothing was written")
        return 130
    missing = set(plan.nets) - set(document["conditions"]["nets"])
    return int(bool(missing) or any(row["error"] for row in document["rows"] if row["tool"] == OURS))


if __name__ == "__main__":
    sys.exit(main())
