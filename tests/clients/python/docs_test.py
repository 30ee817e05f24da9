"""What the documentation says of versions is what is installed here."""

import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PAGE = HERE.parents[2] / "docs" / "python.md"
PINS = sorted(path for path in (HERE / "pins").glob("*.txt") if path.stem != "pytest")


@pytest.mark.parametrize("pins", PINS, ids=lambda path: path.stem)
def test_tried_with(pins):
    tool = re.sub(r"-\d+$", "", pins.stem)
    version = re.search(rf"^{tool}==(\S+)", pins.read_text(), re.MULTILINE)[1]
    row = re.search(rf"^\| {tool} \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    assert row and version in re.split(r",\s*", row[1].strip()), (tool, version, row)
