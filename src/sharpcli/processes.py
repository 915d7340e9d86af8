"""The processes of one run, started by torchrun: each computes its part of every sum over samples.

All processes run the same command with the same seeds, and take the same decisions, because every decision follows from a
sum over samples, which is equal in all of them, or is taken by the first process. Only the first process writes files and
messages. A process is called by its rank: 0 is the first one.

A sum tells whether the processes are still at the same point of the same computation: each adds a fingerprint of its weights
or vector and of the number of sums so far. Processes that have computed different numbers are stopped.

Without torchrun, and for a user's own processes, there is one process, `SOLO`, and no communication.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, distributed

from sharpcli import launch
from sharpcli.errors import InputError, ProcessLostError, SettingsError, is_out_of_memory

_LONGEST = "SHARPCLI_PROCESS_TIMEOUT"  # Seconds that a process waits for another one.
_MEETING = 120  # Seconds until all processes must have started.
_FINGERPRINTS = 2**20  # A sum of fingerprints of a thousand processes is exact in float64.

_Value = TypeVar("_Value")


@dataclass(eq=False)
class Processes:
    """The number of processes of a run, and which of them this is; see `current`.

    Attributes:
        rank: The number of this process, from 0.
        size: The number of processes.
        sums: The number of sums so far.
    """

    rank: int = 0
    size: int = 1
    sums: int = 0
    _store: Any = None
    _unchecked: Any = None
    _lost: str = ""

    def bounds(self, count: int) -> tuple[int, int]:
        """Return where the share of this process begins and ends among `count` things in a row; shares differ by at most 1."""
        return count * self.rank // self.size, count * (self.rank + 1) // self.size

    def on(self, device: str) -> str:
        """Return the name of a device, with the number of processes if there are several."""
        return device if self.size == 1 else f"{self.size} × {device.partition(':')[0]}"

    def sum(self, part: Tensor, of: Tensor) -> Tensor:
        """Return the sum of a tensor over all processes, the same in each of them.

        Args:
            part: The part of this process; of the same shape and type in each, floating point.
            of: What the sum depends on, such as θ; must be equal in all processes.

        Raises:
            ProcessLostError: Another process has ended, or has computed other numbers.
        """
        if self.size == 1:
            return part
        own = self._fingerprint(of)
        buffer = torch.cat([part.reshape(-1), own.to(part)])
        self._communicate(lambda: distributed.all_reduce(buffer))
        self._check(buffer[-1:] - self.size * own.to(part))
        return buffer[:-1].view(part.shape)

    def joined_shares(self, own: Tensor, count: int) -> Tensor:
        """Return tensors (..., count) from the shares (..., bounds) that the processes have of their last axis.

        Raises:
            ProcessLostError: Another process has ended.
        """
        ends = [Processes(rank, self.size).bounds(count) for rank in range(self.size)]
        sizes = [high - low for low, high in ends]
        padded = own.new_zeros(*own.shape[:-1], max(sizes))
        padded[..., : own.shape[-1]] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        self._communicate(lambda: distributed.all_gather(parts, padded))
        return torch.cat([part[..., :size] for part, size in zip(parts, sizes, strict=True)], dim=-1)

    def agreed(self, value: _Value) -> _Value:
        """Return the value that the first process has, such as a decision that depends on the time.

        Raises:
            ProcessLostError: Another process has ended.
        """
        if self.size == 1:
            return value
        held = [value if self.rank == 0 else None]
        self._communicate(lambda: distributed.broadcast_object_list(held, src=0))
        return held[0]  # type: ignore[return-value]

    def least(self, value: int) -> int:
        """Return the smallest of the values that the processes have, such as of free memory.

        Raises:
            ProcessLostError: Another process has ended.
        """
        if self.size == 1:
            return value
        held: list[int] = [0] * self.size
        self._communicate(lambda: distributed.all_gather_object(held, value))
        return min(held)

    def wait(self) -> None:
        """Wait until all processes are here.

        Raises:
            ProcessLostError: Another process has ended.
        """
        self.least(0)

    def part(self) -> None:
        """End the communication after the last sum, when this sum has reached all processes."""
        with suppress(ProcessLostError):
            if not self._lost:
                self.wait()
        if self.size > 1:
            _close()

    def abandon(self, reason: str) -> None:
        """End the communication, because a part of the computation has failed: every later sum fails, in all processes."""
        if self.size > 1 and not self._lost:
            self.tell(reason)
            self._lost = "The processes of this run no longer work together, because a part of the computation has failed."
            _close()

    def _fingerprint(self, of: Tensor) -> Tensor:
        """Return a number that differs if a tensor differs in any bit, or the number of sums does, shape (1,)."""
        self.sums += 1
        bits = of.detach().contiguous().reshape(-1).view(torch.int32).sum(dtype=torch.int64)
        return torch.remainder(bits + self.sums, _FINGERPRINTS).view(1).double()

    def _check(self, difference: Tensor) -> None:
        """Raise an error if fingerprints differ: on a CPU at once, else with the next sum, so that the host does not wait."""
        before, self._unchecked = self._unchecked, None
        if difference.device.type == "cpu":
            before = difference
        else:
            self._unchecked = difference
        if before is not None and bool(before.any()):
            raise ProcessLostError(
                "The processes have computed different numbers from the same weights.",
                "Run all of them on devices of the same kind, with the same files, versions and number of threads.",
            )

    def _communicate(self, run: Callable[[], object]) -> None:
        if self._lost:
            raise ProcessLostError(self._lost)
        try:
            run()
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            self._lost = self._reported() or "Another process of this run has ended."
            raise ProcessLostError(self._lost) from error

    def tell(self, message: str) -> None:
        """Tell the first process, by a message, that this one has failed."""
        if self.rank and not self._lost:
            with suppress(RuntimeError):
                self._store.set(f"failed {self.rank}", message)

    def _reported(self) -> str:
        """Return what a process that has failed reports; "" if none does."""
        with suppress(RuntimeError):
            for rank in range(self.size):
                if rank != self.rank and self._store.check([f"failed {rank}"]):
                    return f"Process {rank} has failed: {self._store.get(f'failed {rank}').decode()}"
        return ""


SOLO = Processes()
_current = SOLO


def current() -> Processes:
    """Return the processes of this run: `SOLO` except inside `joined`."""
    return _current


def report(message: str) -> None:
    """Report a failure of this process to the first one, which shows it to the user."""
    _current.tell(message)
    _close()


def is_first_process() -> bool:
    """Return whether this is the only process of a training, or the first one of torch.distributed."""
    return not (distributed.is_available() and distributed.is_initialized() and distributed.get_rank())


@contextmanager
def joined() -> Iterator[Processes]:
    """Join the other processes that torchrun has started, for the time of the block.

    Raises:
        InputError: torch has no torch.distributed, or the other processes do not come.
        SettingsError: The environment is not that of torchrun.
    """
    global _current
    place = launch.launched()
    if place is None:
        yield SOLO
        return
    _current = _joined(*place)
    launch.remember(_current.rank)
    yield _current
    _current.part()
    _current = SOLO


def _joined(rank: int, size: int) -> Processes:
    if not distributed.is_available():
        raise InputError("This torch has no torch.distributed.", "Run one process, without torchrun.")
    backend = "gloo"
    if torch.cuda.is_available() and distributed.is_nccl_available():
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(min(launch.local_rank(), torch.cuda.device_count() - 1))
    seconds = _seconds()
    try:
        store = cast("Any", distributed).TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            is_master=rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=timedelta(seconds=_MEETING),
            wait_for_workers=False,
        )
        own = cast("Any", distributed).PrefixStore(f"sharpcli {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store)
        distributed.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=timedelta(seconds=seconds))
        made = Processes(rank, size, _store=own)
        made.wait()
    except (RuntimeError, ProcessLostError) as error:
        raise InputError(
            f"The {size} processes of this run did not meet within {_MEETING} seconds.",
            "Start them together with torchrun; for one process, remove WORLD_SIZE from the environment.",
        ) from error
    return made


def _seconds() -> float:
    given = os.environ.get(_LONGEST, "600")
    if not (given.isdecimal() and int(given) > 0):
        raise SettingsError(f"{_LONGEST} is '{given}'.", "Give a number of seconds.")
    return float(given)


def _close() -> None:
    """Leave the other processes; those that wait for this one get an error."""
    if _current.size > 1 and distributed.is_initialized():
        distributed.destroy_process_group()
