"""Lock a file or folder for one process, so that a second process does not damage its work."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from sharpcli.errors import InputError
from sharpcli.files._writing import destination, forget_unfinished, unwritable
from sharpcli.launch import is_follower

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def held(place: Path, option: str, *, folder: bool) -> Iterator[None]:
    """Lock a file or a folder for this process.

    The system locks a small file in the folder, or next to the file. The lock ends with the process, also if the process is
    killed; the small file without a lock has no effect. On a disk without locks, nothing is locked.

    Args:
        place: The file or folder; missing folders are created.
        option: The option for this path, such as --state, for the hint.
        folder: Whether `place` is a folder.

    Raises:
        InputError: Another process holds the lock, or the lock cannot be written.
    """
    lock = place / ".lock" if folder else destination(place).with_name(f".{place.name[:64]}.lock")
    if fcntl is None or is_follower():  # Of several processes of a run, the first one locks.
        yield
        return
    made = [parent for parent in lock.absolute().parents if not parent.exists()]
    descriptor = None
    try:
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            descriptor = _acquired(lock, place, option)
            if descriptor is not None:
                forget_unfinished(lock.parent, "" if folder else destination(place).name)
        except OSError as error:
            raise unwritable(place, error) from error
        yield
    finally:
        if descriptor is not None:
            lock.unlink(missing_ok=True)  # Before the lock ends: no other process can have locked this file.
            os.close(descriptor)
        for parent in made:  # Folders that were created only for the lock are removed.
            with contextlib.suppress(OSError):
                parent.rmdir()


def _acquired(lock: Path, place: Path, option: str) -> int | None:
    """Lock the file and write this process into it; return None if the disk does not support locks."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(os.read(descriptor, 4096))
            os.close(descriptor)
            raise InputError(
                f"{place} is in use by {holder}.", f"Wait until it has ended, or choose another place with {option}."
            ) from None
        except OSError:
            os.close(descriptor)
            return None
        if _is_there(lock, descriptor):
            about = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(about).encode())
            return descriptor
        os.close(descriptor)  # The other process has just removed the file.


def _is_there(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _holder(content: bytes) -> str:
    """Return which process has locked a file, in words."""
    try:
        about = json.loads(content)
        return f"process {about['process']} on {about['host']}, since {about['since']}"
    except (ValueError, KeyError, TypeError):  # The process has not written this yet.
        return "another process"
