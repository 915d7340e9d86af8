"""Saved state that is changed after it was written, with its seal renewed or not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from sharpcli.saved_state import seal_of


def change_state(path: Path, change: Callable[[dict[str, Any]], object], *, sealed: bool = True) -> None:
    """Change the content of a state, and renew its seal, so that nothing tells of the change but the content."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save({**content, "seal": seal_of(content)} if sealed else content, path)
