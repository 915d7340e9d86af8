"""The scripts of the peers for `benchmarks.whole`, in a folder with data.npz, net.py and run/sgd/final.pt.

Each follows the first pages of its documentation: a DataLoader, the operator, the solver. The largest eigenvalues are asked
for at the largest algebraic end, as sharpcli answers them; curvlinops' solver with a tolerance of 1e-3, since its default, the
precision of the machine, takes twice the products.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from typing import Any

import numpy
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

_TOPK = 20


def subject(batch: int) -> tuple[nn.Module, DataLoader[tuple[Tensor, ...]]]:
    """Return the trained net and a DataLoader over the training data."""
    spec = importlib.util.spec_from_file_location("net", "net.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    net: nn.Module = module.net()
    stored = torch.load("run/sgd/final.pt", weights_only=True)
    net.load_state_dict(stored["state_dict"])
    with numpy.load("data.npz") as data:
        images, labels = torch.from_numpy(data["x_train"]), torch.from_numpy(data["y_train"])
    return net.eval(), DataLoader(TensorDataset(images, labels), batch_size=batch)


def curvlinops(batch: int) -> tuple[list[float], int]:
    """Return the eigenvalues by curvlinops and SciPy, and the number of products."""
    from curvlinops import HessianLinearOperator
    from scipy.sparse.linalg import eigsh

    net, loader = subject(batch)
    operator = HessianLinearOperator(
        net, nn.CrossEntropyLoss(), list(net.parameters()), loader, check_deterministic=False
    ).to_scipy()
    count = _counted(operator)
    values = eigsh(operator, k=_TOPK, which="LA", tol=1e-3, return_eigenvectors=False)
    return sorted(map(float, values), reverse=True), count[0]


def hessian_eigenthings(batch: int, steps: int | None = None) -> tuple[list[float], int]:
    """Return the eigenvalues by hessian-eigenthings, by default with 2k steps, and the number of products."""
    from hessian_eigenthings import HessianOperator, lanczos, supervised_loss

    net, loader = subject(batch)
    operator = HessianOperator(net, loader, supervised_loss(nn.CrossEntropyLoss()))
    products, multiply = [0], operator.matvec

    def counted(vector: Tensor) -> Tensor:
        products[0] += 1
        answer: Tensor = multiply(vector)
        return answer

    operator.matvec = counted
    found = lanczos(operator, k=_TOPK, which="LA", seed=0, max_iter=steps)
    return sorted(map(float, found.eigenvalues), reverse=True), products[0]


def _counted(operator: Any) -> list[int]:
    """Count the products of a SciPy operator, in the list that is returned."""
    count, multiply = [0], operator._matvec

    def counted(vector: numpy.ndarray) -> Any:
        count[0] += 1
        return multiply(vector)

    operator._matvec = counted
    return count


def main() -> None:
    """Print eigenvalues and number of products as JSON."""
    tool, batch = sys.argv[1], int(sys.argv[2])
    steps = 200 if tool.endswith("200 steps") else None
    values, products = curvlinops(batch) if tool == "curvlinops" else hessian_eigenthings(batch, steps)
    print(json.dumps({"values": values, "products": products}))


if __name__ == "__main__":
    main()
