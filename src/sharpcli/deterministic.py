"""Kernels that give the same bits each time, for `--deterministic`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch.utils import deterministic as _utilities

from sharpcli.errors import InputError, first_line

_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it when it is first used.
_REFUSAL = "does not have a deterministic implementation"


@contextmanager
def deterministic_kernels() -> Iterator[None]:
    """Let torch use deterministic kernels only, inside the block; restore its settings afterwards.

    Two runs then have the same bits on the same device with the same versions, threads and samples per pass.

    Raises:
        InputError: torch has no such kernel for an operation of the model.
    """
    torch_settings = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn, uninitialized = torch.backends.cudnn, cast("Any", _utilities)
    before = cudnn.benchmark, cudnn.deterministic, uninitialized.fill_uninitialized_memory, os.environ.get(_WORKSPACE)
    os.environ.setdefault(_WORKSPACE, ":4096:8")
    torch.use_deterministic_algorithms(True)
    # Memory that torch.empty reserves stays untouched: no result reads it before it is written.
    cudnn.benchmark, cudnn.deterministic, uninitialized.fill_uninitialized_memory = False, True, False
    try:
        yield
    except Exception as error:
        refused = _refusal(error)
        if refused is None:
            raise
        raise InputError(
            f"With --deterministic the model does not run: {first_line(refused).partition(',')[0]}.",
            "Leave --deterministic out, or use --device cpu.",
        ) from error
    finally:
        torch.use_deterministic_algorithms(torch_settings[0], warn_only=torch_settings[1])
        cudnn.benchmark, cudnn.deterministic, uninitialized.fill_uninitialized_memory = before[:3]
        if before[3] is None:
            del os.environ[_WORKSPACE]


def _refusal(error: BaseException | None) -> RuntimeError | None:
    """Return torch's error for an operation without a deterministic kernel, if it is a cause of this error."""
    while error is not None:
        if isinstance(error, RuntimeError) and _REFUSAL in str(error):
            return error
        error = error.__cause__
    return None
