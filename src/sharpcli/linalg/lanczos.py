"""Extreme eigenvalues of a symmetric operator by thick-restart Lanczos, each with what is known of its error.

Every new vector is orthogonalised against the whole basis, so no eigenvalue is listed twice because
orthogonality was lost ("ghosts"). The orthogonality is measured. The small problem is solved in float64
on the CPU. The search stops when the residual of *each* wanted eigenvalue is small relative to *that*
eigenvalue, and a few products in the complement of the basis show that no eigenvalue was missed. Then the
eigenvectors at the ends of the spectrum are multiplied once more, and the new products are compared with
those that the recurrence predicts.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from sharpcli import progress
from sharpcli.errors import SettingsError
from sharpcli.linalg.complement import Complement
from sharpcli.linalg.eigenpairs import Eigenpairs
from sharpcli.linalg.krylov import Krylov
from sharpcli.linalg.operator import SymmetricOperator, product_error
from sharpcli.linalg.search_progress import remaining_products
from sharpcli.linalg.search_state import Search, continued, state_of
from sharpcli.linalg.space import Space
from sharpcli.linalg.stopping import check_complement, check_values, restart
from sharpcli.linalg.verification import verified_pairs
from sharpcli.linalg.wanted import Wanted
from sharpcli.processes import SOLO, Processes, current

_EXTRA_CONFIRMATIONS = 2  # Times `confirm`: further products in the complement, while each narrows its bounds much.
_SPARE = 8  # Basis vectors beyond the wanted ones that restarts need to converge.


class Store(Protocol):
    """Saves a search on disk; see `sharpcli.linalg.krylov_file`."""

    def restore(self, krylov: Krylov) -> dict[str, object]:
        """Restore the decomposition, and return the saved state; {} if nothing was saved."""

    def restore_chain(self, complement: Complement) -> None:
        """Restore the recurrence in the complement, if one was saved."""

    def write(self, krylov: Krylov, state: dict[str, object], complement: Complement | None) -> None:
        """Save the decomposition, the state, and the recurrence in the complement if there is one."""


def eigenpairs(
    operator: SymmetricOperator,
    wanted: Wanted,
    *,
    tolerance: float = 1e-3,
    max_products: int = 200,
    max_seconds: float | None = None,
    memory: int | None = None,
    seed: int = 0,
    warm: Tensor | None = None,
    verify: str = "ends",
    confirm: int = 8,
    measure: Callable[[Tensor], Tensor] | None = None,
    store: Store | None = None,
    divided: Processes = SOLO,
) -> Eigenpairs:
    """Find extreme eigenvalues of a symmetric operator.

    Args:
        operator: Symmetric map on vectors of shape (P,).
        wanted: Which; at most P.
        tolerance: Stop when each residual ‖Av - λv‖ is below tolerance * |λ|, or 0.01 |λ| if that is less. No unit.
        max_products: Most products to spend on the search; those that verify come on top.
        max_seconds: Most seconds to spend on the search.
        memory: Bytes for basis vectors; with less than the search takes, it restarts from the best Ritz vectors.
        seed: Of the random start and of all probes.
        warm: Vectors (J, P) to start near to.
        verify: "ends" measures the residual of the first and, if any bottom one is wanted, the last pair with a
            fresh product; "all" that of every pair.
        confirm: Products to spend in the complement of the basis, to bound eigenvalues that might have been missed; up to three
            times as many while each narrows the bounds much. If they do not suffice, the values must stay unchanged for some
            more steps.
        measure: Product that verifies the first pair, in place of `operator @ v`.
        store: Where to save the search; a search that it holds is continued.
        divided: Processes that share the vectors of the search: each stores its share of the P numbers of every vector. The
            operator and `measure` get whole vectors, and the eigenvectors of the answer are whole.

    Raises:
        NumericalError: A product is not finite.
        SettingsError: Memory for too few vectors.

    References:
        Wu and Simon 2000, Thick-restart Lanczos method for large symmetric eigenvalue problems. Golub and Van
        Loan, Matrix Computations, 4th ed., section 10.1. Daniel, Gragg, Kaufman and Stewart 1976.
    """
    capacity, spare = _capacity(operator, wanted, max_products, memory, confirm, divided)
    krylov = Krylov(operator, capacity=capacity, seed=seed, warm=warm, processes=divided)
    product = operator.__matmul__ if measure is None else measure
    search = continued(store.restore(krylov) if store else {}, wanted, tolerance)
    complement: Complement | None = None
    began, earlier = time.monotonic(), search.seconds
    deadline = None if max_seconds is None else time.monotonic() + max_seconds
    spent = krylov.frame.products + search.confirmations
    likely = remaining_products(search, wanted, krylov.frame.products, confirm=confirm, max_products=max_products)
    with progress.task("search", total=spent + likely, units="products", done=spent) as shown:
        while not search.ended:
            if not (search.confirming and confirm):
                check_values(krylov, search, wanted, tolerance)
            if search.confirming and confirm and not search.ended:
                complement = complement or _complement(krylov, search, store, confirm, spare)
                check_complement(krylov, complement, search, wanted, tolerance)
                complement = complement if search.confirming else None
            search.ended = search.ended or _exhausted(krylov, search, wanted, max_products, deadline)
            if search.ended:
                break
            shown.expect(remaining_products(search, wanted, krylov.frame.products, confirm=confirm, max_products=max_products))
            _spend(krylov, complement, search, wanted)
            search.error = max(search.error, product_error(operator))
            shown.advance(1, **_progress_fields(search))
            search.seconds = earlier + time.monotonic() - began
            if store is not None:
                store.write(krylov, state_of(search), complement)
    pairs = verified_pairs(krylov, wanted, search, tolerance, verify, _on_shares(product, krylov.space))
    return replace(pairs, earlier_seconds=earlier)


def _progress_fields(search: Search) -> dict[str, float]:
    """Return the numbers that the progress bar shows."""
    return {"residual": search.history[-1][1], "first": search.history[-1][2]} if search.history else {}


def _complement(krylov: Krylov, search: Search, store: Store | None, confirm: int, spare: int) -> Complement:
    """Return a new recurrence in the complement, or the saved one of an attempt that was interrupted."""
    interrupted = search.chained and store is not None
    search.attempts += not interrupted
    complement = Complement(krylov, capacity=confirm + spare, attempt=search.attempts, planned=confirm)
    if interrupted and store is not None:
        store.restore_chain(complement)
    search.chained = True
    return complement


def _spend(krylov: Krylov, complement: Complement | None, search: Search, wanted: Wanted) -> None:
    """Spend one product: in the complement if there is one, else in the basis."""
    if complement is not None:
        complement.step()
        search.confirmations += 1
        return
    search.chained = False
    if krylov.is_full:
        restart(krylov, search, wanted)
    krylov.step()


def _capacity(
    operator: SymmetricOperator, wanted: Wanted, max_products: int, memory: int | None, confirm: int, divided: Processes
) -> tuple[int, int]:
    """Return how many basis vectors to reserve memory for, and how many more vectors in the complement."""
    dimension, more = operator.shape[0], _EXTRA_CONFIRMATIONS * confirm
    most = min(dimension, max_products)
    if memory is None:
        return max(most, 1), more
    each = -(-dimension // divided.size) * torch.finfo(operator.dtype).bits // 8
    working = confirm + 4  # Vectors beside the basis.
    fits, least = memory // each - working, min(most, wanted.total + _SPARE)
    if fits < least:
        enough = math.ceil((least + working) * each / 2**20)
        raise SettingsError(
            f"{memory / 2**20:.4g} MiB hold {max(fits, 0)} basis vectors of {dimension} numbers, but {least} are needed.",
            f"Ask for fewer eigenvalues, or give at least {enough} MiB.",
            remedy=f"memory={enough}MiB",
        )
    return min(most, fits), min(more, max(fits - most, 0))


def _on_shares(product: Callable[[Tensor], Tensor], space: Space) -> Callable[[Tensor], Tensor]:
    """Return a function of whole vectors as a function of the shares of this process."""
    return lambda own: space.own(product(space.whole(own)))


def _exhausted(krylov: Krylov, search: Search, wanted: Wanted, max_products: int, deadline: float | None) -> str:
    """Return which budget is used up, "products" or "seconds"; "" if none is."""
    if krylov.frame.products + search.confirmations >= max_products:
        return "products"
    if deadline is None or krylov.size < wanted.total:
        return ""
    return "seconds" if current().agreed(time.monotonic() >= deadline) else ""
