"""docs/architecture.md names places that exist."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")


def test_every_place_that_the_page_names_exists() -> None:
    words = re.findall(r"`([\w./-]+)`", PAGE)
    named = {word for word in words if "/" in word or word.endswith(".py")}
    drawn = set(re.findall(r"^ {4}(\w+(?:\.py|/))", PAGE, flags=re.MULTILINE))
    assert len(named) > 15
    assert len(drawn) > 10
    missing = [name for name in named | drawn if not any((root / name).exists() for root in (ROOT, ROOT / "src" / "sharpcli"))]
    assert missing == []
