"""A search that is interrupted at any moment goes on with at most one repeated product, to the same answer."""

import itertools
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sharpcli.errors import InputError, SettingsError
from sharpcli.linalg.krylov_file import KrylovFile
from sharpcli.linalg.lanczos import eigenpairs
from sharpcli.linalg.wanted import Wanted
from tests.lanes import thinned
from tests.linalg.spectra import Planted, broad
from tests.states import change_state


class Mortal(Planted):
    """Is killed in a product, after having started it."""

    dies_at = 0

    def __matmul__(self, vector: Tensor) -> Tensor:
        product = super().__matmul__(vector)
        if self.products == self.dies_at:
            raise KeyboardInterrupt
        return product


@pytest.mark.parametrize(("dtype", "memory"), thinned(itertools.product([torch.float64, torch.float32], [None, 22])))
def test_killed_at_every_step_it_gives_the_same_answer(tmp_path: Path, dtype: torch.dtype, memory: int | None):
    size, wanted = 600, Wanted(5, bottom=1)
    how = {"memory": None if memory is None else (memory + 12) * size * dtype.itemsize, "max_products": 400}
    calm = Planted(broad(size), dtype)
    whole = eigenpairs(calm, wanted, **how)
    spent = deaths = 0
    for life in range(1, 200):
        operator = Mortal(broad(size), dtype)
        operator.dies_at = 1 + life % 5
        try:
            pairs = eigenpairs(operator, wanted, **how, store=KrylovFile(tmp_path, {"of": "this"}))
            spent += operator.products
            break
        except KeyboardInterrupt:
            spent += operator.products
            deaths += 1
    assert deaths > 5
    assert torch.equal(pairs.values, whole.values)
    assert torch.equal(pairs.vectors, whole.vectors)
    assert pairs.verdicts == whole.verdicts
    # Of each product that death cut short nothing remains. Nothing else is done twice but the first of the two that
    # verify, in a life that dies in the second.
    assert spent - calm.products <= deaths + 2


def test_more_eigenvalues_go_on_from_fewer(tmp_path: Path):
    operator = Planted(broad(600))
    first = eigenpairs(operator, Wanted(2), store=KrylovFile(tmp_path, {"of": "this"}))
    before = operator.products
    more = eigenpairs(operator, Wanted(8), store=KrylovFile(tmp_path, {"of": "this"}))
    assert operator.products - before < more.steps
    assert more.steps > first.steps
    assert more.values.cpu().numpy() == pytest.approx(broad(600).sort(descending=True).values[:8].cpu().numpy(), rel=1e-5)


def test_another_problem_is_refused(tmp_path: Path):
    eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {"weights": "a", "seed": 0}))
    with pytest.raises(SettingsError, match=r"differs in these settings: weights\."):
        eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {"weights": "b", "seed": 0}))


@pytest.mark.parametrize("damage", ["cut", "text", "gone"])
def test_a_damaged_folder_is_one_sentence(tmp_path: Path, damage: str):
    eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))
    rows = next(tmp_path.glob("basis-*.raw"))
    if damage == "cut":
        rows.write_bytes(rows.read_bytes()[:-1000])
    elif damage == "gone":
        rows.unlink()
    else:
        (tmp_path / "search.pt").write_text("nothing")
    with pytest.raises(InputError, match="holds no search that can be continued"):
        eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))


def test_a_number_that_was_changed_is_never_a_part_of_an_answer(tmp_path: Path):
    """In the basis, in what was measured, or in what is kept beside them; all of it makes what is certified."""
    operator = Planted(broad(100))
    whole = {}
    for name in ("basis", "measured", "state"):
        folder = tmp_path / name
        eigenpairs(operator, Wanted(3), max_products=12, store=KrylovFile(folder, {}))
        whole = {place.name: place.read_bytes() for place in folder.iterdir()}
        state = folder / "search.pt"
        if name == "basis":
            rows = next(folder.glob("basis-*.raw"))
            content = bytearray(rows.read_bytes())
            content[8 * 150 + 7] ^= 0x80  # The sign of one number in the second vector.
            rows.write_bytes(content)
        elif name == "measured":
            change_state(state, lambda search: search["measured"].mul_(1.001), sealed=False)
        else:
            change_state(state, lambda search: search["state"].update(hold=1), sealed=False)
        with pytest.raises(InputError, match="damaged|changed"):
            eigenpairs(operator, Wanted(3), store=KrylovFile(folder, {}))
        for file, old in whole.items():
            (folder / file).write_bytes(old)
        assert eigenpairs(operator, Wanted(3), store=KrylovFile(folder, {})).verdicts == ("certified",) * 3


def test_what_lies_in_the_place_of_the_basis_is_replaced_by_a_new_search(tmp_path: Path):
    os.mkfifo(tmp_path / "basis-0.raw")
    eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))
    assert next(tmp_path.glob("basis-*.raw")).is_file()


def test_only_the_basis_in_use_stays_on_disk(tmp_path: Path):
    eigenpairs(Planted(broad(600)), Wanted(3), memory=30 * 600 * 8, store=KrylovFile(tmp_path, {}), max_products=300)
    assert len(list(tmp_path.iterdir())) == 2
    assert torch.load(tmp_path / "search.pt", weights_only=True)["measured"].shape[0] <= 18


class Approximate(Mortal):
    """Knows how far its products may be off, and was less exact at first."""

    product_error = 0.0


def test_what_products_were_uncertain_by_outlives_an_interruption(tmp_path: Path):
    first = Approximate(broad(600))
    first.product_error, first.dies_at = 1e-3, 10
    with pytest.raises(KeyboardInterrupt):
        eigenpairs(first, Wanted(2), store=KrylovFile(tmp_path, {"of": "this"}))
    second = Approximate(broad(600))
    second.product_error = 1e-9
    pairs = eigenpairs(second, Wanted(2), store=KrylovFile(tmp_path, {"of": "this"}))
    assert pairs.trust.noise >= 1e-3
    alone = eigenpairs(second, Wanted(2))
    assert alone.trust.noise < 1e-6


def test_one_flipped_bit_of_a_basis_is_told_as_damage(tmp_path: Path):
    eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))
    rows = next(tmp_path.glob("basis-*.raw"))
    content = bytearray(rows.read_bytes())
    content[len(content) // 3] ^= 1  # The last bit of a number: nothing else would tell.
    rows.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))


def test_a_search_of_an_earlier_version_is_left_as_it_is(tmp_path: Path):
    for name in ("search.npz", "basis-0.raw"):
        (tmp_path / name).write_bytes(b"as it was")
    with pytest.raises(InputError, match="an earlier version of sharpcli wrote it"):
        eigenpairs(Planted(broad(100)), Wanted(1), store=KrylovFile(tmp_path, {}))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == dict.fromkeys(
        ("search.npz", "basis-0.raw"), b"as it was"
    )
