"""One task in a fresh process, so that no tool finds another's threads, caches or memory.

python -m benchmarks.worker REQUEST RESULT      # a JSON document; the file to write one to
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import reference
from benchmarks.arguments import HERE
from benchmarks.memory import Peak
from benchmarks.prepare import problem_of, recipe_of, remembered, train
from benchmarks.problem import Problem

Request = dict[str, Any]
_FEW = 4  # Samples of the product before the clock starts.


def main(request: Request, result: Path) -> None:
    """Do what is asked, and write what came of it."""
    torch.set_num_threads(request["threads"])
    warnings.simplefilter("ignore", FutureWarning)  # Of torch, about itself.
    with sdpa_kernel(SDPBackend.MATH):
        found = attempt(lambda: TASKS[request["task"]](request))
    temporary = result.with_suffix(".part")
    temporary.write_text(json.dumps(found))
    os.replace(temporary, result)


def attempt(task: Callable[[], Request]) -> Request:
    """Return what a task returns, or the first line of its error: whatever a tool raises, the run goes on."""
    try:
        return task()
    except Exception as error:
        lines = str(error).strip().splitlines() or [""]
        return {"error": f"{type(error).__name__}: {lines[0]}"}


def _open(request: Request) -> Request:
    """Train a net, find its reference, and guess what the users of some tools have to; each is done once and kept."""
    net, quick, k, seed = (request[name] for name in ("net", "quick", "k", "seed"))
    recipe = recipe_of(net, quick=quick)
    samples = request["samples"] or recipe.samples
    if samples > recipe.data["count"]:
        return {"usage": f"{net} has {recipe.data['count']} samples, so its Hessian cannot be of {samples}."}
    facts = train(net, quick=quick)
    of = partial(problem_of, net, samples, quick=quick)
    answer: Request = {**facts, "samples": samples, "tuned": {}}
    if not request["tools"]:
        return answer
    key = ["reference in float64", samples, k, _source(reference)]
    answer["reference"] = remembered(net, key, lambda: _truth(of(), k), quick=quick)
    exact = torch.tensor(answer["reference"]["values"][:k], dtype=torch.float64)
    for tool in request["tools"]:
        place = HERE / "guesses" / f"{tool.replace('-', '_')}.py"
        if place.exists():
            key = [f"guess for {tool}", samples, k, seed, place.read_text()]
            make = partial(_guess, tool, of, k, seed, exact)
            answer["tuned"][tool] = attempt(partial(remembered, net, key, make, quick=quick))
    return answer


def _guess(tool: str, of: Callable[[], Problem], k: int, seed: int, exact: torch.Tensor) -> Request:
    found: Request = _module("guesses", tool).guess(of(), k, seed, exact)
    return found


def _truth(problem: Problem, k: int) -> Request:
    with torch.no_grad():
        loss = float(problem.loss())
    return {"loss": loss, **reference.spectrum(problem, k)._asdict()}


def _measure(request: Request) -> Request:
    """Run a tool with the clock running; hold what it answers to the reference afterwards."""
    module, problem = _module("tools", request["tool"]), _problem(request)
    _warm_up(problem)
    torch.manual_seed(request["seed"])
    peak, wall, processor = Peak(), time.perf_counter(), time.process_time()
    answer = module.solve(problem, request["k"], request["seed"], request["tuned"])
    seconds, cpu_seconds, peak_bytes = time.perf_counter() - wall, time.process_time() - processor, peak.bytes()
    found: Request = {
        "products": answer.products,
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "peak_bytes": peak_bytes,
        "peak_way": peak.way,
        "worst_eigenvalue_error": reference.worst_error(answer, _exact(request, answer.which)),
        "settings": answer.settings,
    }
    if request["residual"]:
        # Of the net as it was loaded: the tool may have left gradients on its own.
        found["worst_residual"] = reference.worst_residual(answer, reference.product_of(_problem(request)))
    return found


def _warm_up(problem: Problem) -> None:
    """Let torch wake its threads and load what it loads when it first differentiates: a second that is no tool's own."""
    few = Problem(problem.model, problem.inputs[:_FEW], problem.targets[:_FEW])
    few.product(kept=False)(torch.zeros(problem.dimension))
    one = torch.ones(1)
    torch.func.vmap(lambda x: torch.func.jvp(torch.func.grad(torch.sin), (x,), (x,)))(one)


def _engines(request: Request) -> Request:
    problem = _problem(request)
    _warm_up(problem)
    # Loaded here alone, because it names more of sharpcli than anything else does.
    found: Request = import_module("benchmarks.engines").measure(problem, rounds=request["rounds"])
    return found


TASKS: dict[str, Callable[[Request], Request]] = {
    "open": _open,
    "measure": _measure,
    "engines": _engines,
}


def _problem(request: Request) -> Problem:
    return problem_of(request["net"], request["samples"], quick=request["quick"])


def _module(folder: str, name: str) -> Any:
    return import_module(f"benchmarks.{folder}.{name.replace('-', '_')}")


def _exact(request: Request, which: str) -> torch.Tensor:
    return torch.tensor(request["exact"][which], dtype=torch.float64)


def _source(module: Any) -> str:
    return Path(module.__file__).read_text()


if __name__ == "__main__":
    try:
        main(json.loads(sys.argv[1]), Path(sys.argv[2]))
    except KeyboardInterrupt:
        sys.exit(130)
