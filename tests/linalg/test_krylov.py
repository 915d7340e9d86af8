from collections.abc import Callable

import numpy
import pytest
import torch

from sharpcli.linalg import krylov as module
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.krylov import Krylov
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.orthogonal import Orthogonalised
from sharpcli.linalg.probes import random_direction
from sharpcli.linalg.wanted import Wanted
from sharpcli.runtime import generator
from tests.device import DEVICE
from tests.linalg.spectra import Planted, broad
from tests.linalg.test_lanczos import bulk
from tests.linalg.waits import Waits


def relation(krylov: Krylov) -> float:
    """Return the largest error of A v_j = Σ H_ij v_i + Σ C_ij w_i, in parts of the norm of A."""
    worst = 0.0
    for column in range(krylov.size):
        weights = numpy.eye(krylov.size)[column]
        product = krylov.operator @ krylov.basis[column]
        worst = max(worst, float((product - krylov.predicted(weights)).norm()))
    return worst / krylov.frame.scale


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float64, 1e-14), (torch.float32, 1e-6)])
def test_the_decomposition_holds_through_probes_breakdowns_and_restarts(dtype: torch.dtype, accuracy: float):
    krylov = Krylov(Planted(broad(400), dtype), capacity=60, seed=0)
    for step in range(55):
        if step in (10, 20):
            krylov.inject(torch.roll(krylov.frame.waiting[0], 7) - krylov.vectors(numpy.eye(step)[:, :1])[0])
        if step == 30:
            values, _, weights = krylov.ritz()
            krylov.restart(weights[:, numpy.abs(values).argsort()[-12:]])
        krylov.step()
    assert len(krylov.frame.waiting) == 3
    assert relation(krylov) < accuracy
    everything = torch.cat([krylov.basis, torch.stack(krylov.frame.waiting)]).double()
    assert float((everything @ everything.T - torch.eye(len(everything), device=everything.device)).abs().max()) < accuracy


def test_no_ghosts_after_many_float32_steps():
    """Without reorthogonalisation the largest eigenvalue would be listed again and again."""
    krylov = Krylov(Planted(bulk(5_000, *range(10, 0, -1)), torch.float32), capacity=150, seed=0)
    for _ in range(150):
        krylov.step()
    values, _, _ = krylov.ritz()
    assert values[-10:].tolist() == pytest.approx(list(range(1, 11)), rel=1e-5)
    assert values[-11] < 0.11
    gram = krylov.basis.double() @ krylov.basis.double().T
    exact = float((gram - torch.eye(150, device=gram.device)).abs().max())
    assert exact < 1e-5
    assert exact / 20 < krylov.inspect() < 1e-5  # What is watched at run time is the same size.


def test_lost_orthogonality_is_noticed():
    krylov = Krylov(Planted(broad(400), torch.float32), capacity=30, seed=0)
    for _ in range(30):
        krylov.step()
    krylov.rows[17] = krylov.rows[17] + 1e-3 * krylov.rows[4]
    assert krylov.inspect() > 5e-4


def test_lost_orthogonality_is_noticed_before_a_restart_hides_it():
    krylov = Krylov(Planted(broad(400), torch.float32), capacity=30, seed=0)
    for _ in range(30):
        krylov.step()
    krylov.rows[17] = krylov.rows[17] + 1e-3 * krylov.rows[4]
    krylov.restart(numpy.eye(30)[:, :10])
    assert krylov.frame.orthogonality > 5e-4


def test_vectors_are_the_unit_combinations_of_the_basis():
    krylov = Krylov(Planted(broad(400), torch.float32), capacity=20, seed=0)
    for _ in range(20):
        krylov.step()
    weights = numpy.linspace(0, 3, 40).reshape(20, 2)
    expected = torch.from_numpy(weights.T).to(DEVICE) @ krylov.basis.double()
    found = krylov.vectors(weights)
    torch.testing.assert_close(found, (expected / expected.norm(dim=1, keepdim=True)).float())


def test_residuals_count_what_waits_and_what_is_not_symmetric():
    krylov = Krylov(Planted(broad(400)), capacity=30, seed=0)
    for step in range(20):
        if step == 12:
            krylov.inject(torch.ones(400, dtype=torch.float64, device=DEVICE) / 20)
        krylov.step()
    values, residuals, weights = krylov.ritz()
    for place in range(20):
        vector = krylov.vectors(weights[:, [place]])[0]
        exact = float((krylov.operator @ vector - values[place] * vector).norm())
        assert residuals[place] == pytest.approx(exact, rel=1e-6, abs=1e-12)


def test_an_interruption_inside_a_product_leaves_the_last_whole_state():
    class Interrupted(Planted):
        def __matmul__(self, vector: torch.Tensor) -> torch.Tensor:
            if self.products == 7:
                self.products += 1
                raise KeyboardInterrupt
            return super().__matmul__(vector)

    krylov, calm = (Krylov(kind(broad(400)), capacity=20, seed=0) for kind in (Interrupted, Planted))
    for _ in range(7):
        krylov.step()
    with pytest.raises(KeyboardInterrupt):
        krylov.step()
    for _ in range(8):
        krylov.step()
    for _ in range(15):
        calm.step()
    assert numpy.array_equal(krylov.frame.measured, calm.frame.measured)


def after_its_work(work: Callable[..., Orthogonalised]) -> Callable[..., Orthogonalised]:
    def interrupted(*args: object, **how: object) -> Orthogonalised:
        work(*args, **how)
        raise KeyboardInterrupt

    return interrupted


@pytest.mark.parametrize("restarted", [False, True])
def test_an_interruption_after_a_product_leaves_the_last_whole_state(restarted: bool, monkeypatch: pytest.MonkeyPatch):
    """What is left of the product is written to the row after the one that waits, so neither is lost."""
    krylov, calm = (Krylov(Planted(broad(400)), capacity=20, seed=0) for _ in range(2))
    for each in (krylov, calm):
        for _ in range(7):
            each.step()
        if restarted:  # To one vector less: the next product is written where a vector waited before.
            each.restart(each.ritz()[2][:, 1:])
    with monkeypatch.context() as patched:
        patched.setattr(module, "orthogonalised", after_its_work(module.orthogonalised))
        with pytest.raises(KeyboardInterrupt):
            krylov.step()
    for each in (krylov, calm):
        for _ in range(8):
            each.step()
    assert numpy.array_equal(krylov.frame.measured, calm.frame.measured)
    assert torch.equal(krylov.basis, calm.basis)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
def test_a_step_waits_for_the_device_once(dtype: torch.dtype):
    krylov = Krylov(Planted(broad(2_000), dtype), capacity=50, seed=0)
    with Waits() as waits:
        for _ in range(50):
            krylov.step()
    assert waits.count == 50
    rest = Complement(krylov, capacity=8, attempt=1)
    with Waits() as waits:
        for _ in range(8):
            rest.step()
    assert waits.count == 8


def test_the_small_problem_is_solved_once_for_each_product(monkeypatch: pytest.MonkeyPatch):
    solved, eigh = [], numpy.linalg.eigh

    def counted(matrix: numpy.ndarray) -> tuple[numpy.ndarray, numpy.ndarray]:
        solved.append(len(matrix))
        return eigh(matrix)

    monkeypatch.setattr(numpy.linalg, "eigh", counted)
    pairs = eigenpairs(Planted(broad(2_000)), Wanted(5))
    assert pairs.confirmations > 2
    assert len(solved) <= pairs.steps + 1  # Once more after the inspection at the end.


def test_a_vector_that_waits_in_its_row_makes_way_for_one_that_was_missing():
    krylov = Krylov(Planted(broad(400)), capacity=30, seed=0)
    for _ in range(10):
        krylov.step()
    assert krylov.frame.waiting[0].data_ptr() == krylov.rows[10].data_ptr()
    waited = krylov.frame.waiting[0].clone()
    krylov.inject(torch.roll(waited, 7))
    krylov.step()
    assert torch.equal(krylov.frame.waiting[0], waited)


def test_a_vector_drawn_after_a_breakdown_is_none_that_an_estimator_draws():
    """Were it the first probe of the trace, that probe would lie in the basis it is to be independent of."""
    krylov = Krylov(Planted(torch.zeros(400)), capacity=6, seed=3)
    for _ in range(6):
        krylov.step()
    for stream in range(1, 6):
        probe = random_direction(krylov.operator, krylov.basis[:0], generator(3, stream))
        assert float((krylov.basis @ probe).norm()) < 0.3
