"""README and docs: their code runs as it stands, and what they point to is there."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "own_arrays.md").read_text()
PROSE = sorted(
    each
    for pattern in ("*.md", "docs/*.md", "experiments/*.md", "experiments/*/*.md")
    for each in ROOT.glob(pattern)
)


def code_of(text):
    """The Python blocks of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


def output_of(text, folder):
    """What all Python blocks of a page print, run as one program in a Python of their own."""
    program = folder / "page.py"
    program.write_text("\n".join(code_of(text)))
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:__main__", program],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


@pytest.mark.slow
def test_the_code_of_readme_runs_from_top_to_bottom(tmp_path):
    accuracy, density, iris, *explained = output_of(README, tmp_path)
    assert float(accuracy) > 0.9 and 0.09 < float(density) < 0.11
    assert float(iris) > 0.9 and explained
    exported = ast.parse((tmp_path / "model.py").read_text())
    assert any(getattr(each, "name", "") == "predict_proba" for each in exported.body)


def test_the_code_of_the_guide_runs_and_its_learner_learns(tmp_path):
    before, _, after, *_ = output_of(GUIDE, tmp_path)
    assert float(after) > float(before) + 0.05


def test_the_first_example_is_ten_lines_after_its_imports():
    lines = code_of(README)[0].splitlines()
    lines = [line for line in lines if line and not line.startswith("import ")]
    assert len(lines) == 10


@pytest.mark.parametrize("file", PROSE, ids=lambda file: str(file.relative_to(ROOT)))
def test_links_of_prose_lead_somewhere(file):
    text = file.read_text()
    inline = re.findall(r"\]\(([^)#\s]+)[^)]*\)", text)
    referred = re.findall(r"^\[[^\]]+\]: ([^#\s]+)", text, flags=re.MULTILINE)
    for target in inline + referred:
        assert "://" in target or (file.parent / target).exists(), f"{target} is not there"
