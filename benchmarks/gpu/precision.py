"""The ten largest eigenvalues of ResNet-18 with float32 products, and with TF32 products and a float32 finish."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.products import let, resnet18
from benchmarks.gpu.session import Setting
from benchmarks.gpu.timing import once
from benchmarks.progress import tell
from sharpcli.analyses.hessian import largest
from sharpcli.curvature.operator import CurvatureOperator
from sharpcli.curvature.operators import operator_of
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.objective import Objective
from sharpcli.runtime import Runtime
from sharpcli.settings import HessianSettings

SECONDS = 60
_TOPK = 10


def measure(setting: Setting) -> dict[str, Any]:
    """Return seconds, products and errors of each, on some images."""
    problem = resnet18(setting, 32 if setting.small else 2048)
    where = Runtime(torch.device(setting.device), torch.float32)
    settings = HessianSettings(topk=3 if setting.small else _TOPK, seed=0, engine="fused")
    found: dict[str, Any] = {"images": len(problem.inputs)}
    answers: dict[str, Eigenpairs] = {}
    for name, tf32 in (("float32", False), ("tf32", True)):
        with let(tf32=tf32):
            objective = Objective.of(problem.model, problem.inputs, problem.targets, runtime=where)
            found["at once"] = objective.chunk_size

            def search(objective: Objective = objective, name: str = name) -> None:
                answers[name] = largest(objective, settings)

            seconds = once(search, setting.device)
        pairs = answers[name]
        operator = pairs.krylov.operator
        assert isinstance(operator, CurvatureOperator)
        found[name] = {
            "seconds": seconds,
            "products": operator.products,
            "engine": operator.engine,
            "values": pairs.values.tolist(),
            "residuals": [float(x) for x in pairs.residuals],
            "verdicts": [bool(x) for x in pairs.converged],
        }
        tell(f"  {name}: {seconds:.1f} s, {operator.products} products, {operator.engine}")
    objective = Objective.of(problem.model, problem.inputs, problem.targets, runtime=where)
    exact = operator_of("hessian", objective, objective.parameters(), engine="fused", memory=0)
    rows: dict[str, Tensor] = {}

    def finish() -> None:
        vectors = answers["tf32"].vectors
        products = torch.stack([exact @ vector for vector in vectors])
        small = (vectors.double() @ products.double().T).cpu()
        values, weights = torch.linalg.eigh((small + small.T) / 2)
        turned = weights.T.to(vectors.device) @ vectors.double()
        rest = weights.T.to(vectors.device) @ products.double() - values.to(vectors.device)[:, None] * turned
        rows["values"], rows["residuals"] = values.flip(0), torch.linalg.vector_norm(rest, dim=1).flip(0)

    found["finish"] = {"seconds": once(finish, setting.device)}
    found["finish"] |= {name: row.tolist() for name, row in rows.items()}
    true = torch.tensor(found["float32"]["values"])
    found["finish"]["off"] = float(((rows["values"].cpu() - true) / true).abs().max())
    found["tf32"]["off"] = float(((torch.tensor(found["tf32"]["values"]) - true) / true).abs().max())
    return found
