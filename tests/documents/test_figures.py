"""Figures in documents are what their commands give; see tools/document_figures.py."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("document_figures", ROOT / "tools" / "document_figures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


TOOL = _tool()
BLOCKS = [block for document in TOOL.DOCUMENTS for block in TOOL.blocks(document)]
run: Callable[[tuple[str, ...]], Any] = cache(TOOL.run_command)


def marked(block: Any) -> Any:
    marks = [pytest.mark.long] if block.slow else [pytest.mark.slow]
    return pytest.param(block, marks=marks, id=f"{block.document}: {block.text.split('|')[0].strip()[:30]}")


@pytest.mark.parametrize("block", [marked(block) for block in BLOCKS])
def test_the_figures_of_a_document_are_those_of_its_command(block: Any):
    assert TOOL.differences(block, block.rendered(run)) == []


def test_every_opening_has_its_end_and_every_document_with_figures_is_known():
    pages = {path for folder in (ROOT, ROOT / "docs", ROOT / "sample_checkpoints") for path in folder.glob("*.md")}
    for page in pages:
        text = page.read_text(encoding="utf-8")
        name = str(page.relative_to(ROOT))
        found = len(list(TOOL.blocks(name))) if name in TOOL.DOCUMENTS else 0
        assert text.count("<!-- figures\n") == text.count("<!-- end -->") == found, name
    assert len(BLOCKS) >= 5


@pytest.mark.parametrize("page", ["findings.md", "performance.md", "recipes.md"])
def test_what_no_quick_command_makes_says_when_it_was_measured(page: str):
    """Each section with figures is held by a command, or says the date and the commit."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    top, *sections = re.split(r"^## ", text, flags=re.MULTILINE)
    dated = re.compile(r"20\d\d-\d\d-\d\d.{0,40}at commit [0-9a-f]{7}", re.DOTALL)
    for section in sections:
        plain = section.split("\n")[0]
        held = "<!-- figures" in section or dated.search(section) or (page == "recipes.md" and dated.search(top))
        assert held or plain == "Not measured" or not re.search(r"\d", section.removeprefix(plain)), f"{page}: {plain}"


def block_of(text: str, recipe: str = "a = inspect x\nφ is {a[phi]:.1f} and {a[share]:.1%}.") -> Any:
    page = f"<!-- figures\n{recipe}\n-->\n{text}\n<!-- end -->"
    return TOOL._block("page.md", TOOL._BLOCK.search(page))


def test_a_figure_that_the_command_does_not_give_is_found():
    now = block_of("").rendered(lambda _: {"phi": 12.4, "share": 0.25})
    assert now == "φ is 12.4 and 25.0 %."
    assert TOOL.differences(block_of("φ is 12.4 and 25.0 %."), now) == []
    assert TOOL.differences(block_of("φ is 12.5\nand 25.0 %."), now) == []  # One unit of the last digit.
    for wrong in ("φ is 12.6 and 25.0 %.", "φ was 12.4 and 25.0 %.", "φ is 12.4.", "φ is −12.4 and 25.0 %."):
        assert len(TOOL.differences(block_of(wrong), now)) == 1
    assert TOOL.differences(block_of("φ is 13.6 and 25.0 %."), now, 0.1) == []


def test_a_recipe_may_be_slow_and_have_a_range_of_its_own():
    block = block_of("x", "slow\nwithin 0.05\nb = hessian some 'a b'\nc = compare d\n{b[x]:,} {c[y]:.2e}")
    assert block.slow
    assert block.within == 0.05
    assert block.commands == {"b": ("hessian", "some", "a b"), "c": ("compare", "d")}
    assert block.rendered(lambda _: {"x": 12345, "y": -0.00012}) == "12,345 −1.20e-04"
    assert not TOOL._fits("1,390", "1,391", 0)  # A whole number is exact but for the share.
    assert TOOL._fits("2.6e-4", "2.7e-4", 0)
    assert not TOOL._fits("2.6e-4", "2.8e-4", 0)


def test_the_tool_writes_and_checks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    page = tmp_path / "page.md"
    body = "before\n\n<!-- figures\na = hessian x\nλ = {a[value]:.2f}\n-->\nλ = 1.00\n<!-- end -->\n\nafter\n"
    page.write_text(body, encoding="utf-8")
    monkeypatch.setattr(TOOL, "ROOT", tmp_path)
    asked: list[tuple[str, ...]] = []

    def answer(words: tuple[str, ...]) -> Any:
        asked.append(words)
        return {"value": 2.0}

    monkeypatch.setattr(TOOL, "run_command", answer)
    assert TOOL.main(["--check", "page.md"]) == 1
    assert "1.00 stands where the command gives 2.00" in capsys.readouterr().out
    assert page.read_text(encoding="utf-8") == body
    assert TOOL.main(["page.md"]) == 0
    assert page.read_text(encoding="utf-8") == body.replace("1.00", "2.00")
    assert TOOL.main(["--check", "page.md", "--instead", "x=y"]) == 0
    assert asked == [("hessian", "x"), ("hessian", "x"), ("hessian", "y")]
