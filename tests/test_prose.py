"""Prose that can be read: short where it is read first, narrow everywhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "experiments/**/*.md")
    for path in ROOT.glob(pattern)
)
WIDEST = {"BUILD_NOTES.md": 100}
LONGEST = {"README.md": 110, "BUILD_NOTES.md": 250}
MOST_COLUMNS = 6


def lines_of(name):
    return (ROOT / name).read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("name", FILES)
def test_lines_of_prose_are_narrow_enough_to_read(name):
    most = WIDEST.get(name, 120)
    # A row of a table and a bare link cannot be broken.
    prose = [line for line in lines_of(name) if not re.match(r"\||\S*https?://\S+$", line.strip())]
    assert [line for line in prose if len(line) > most] == []


@pytest.mark.parametrize("name", FILES)
def test_tables_are_narrow_enough_to_read(name):
    rows = [line for line in lines_of(name) if re.fullmatch(r"\|[\s:|-]+\|", line.strip())]
    assert [row for row in rows if row.strip().count("|") - 1 > MOST_COLUMNS] == []


@pytest.mark.parametrize("name", LONGEST)
def test_what_is_read_first_is_short(name):
    assert len(lines_of(name)) <= LONGEST[name]
