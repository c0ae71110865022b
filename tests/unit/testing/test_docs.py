"""The examples of `docs/testing.md` run as they stand there, in a directory of their own, as a user would run them."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
PAGE = ROOT / "docs" / "testing.md"


def test_the_examples_run_as_they_stand_there(tmp_path):
    blocks = re.findall(r"```(?:yaml|python)\n(# ([\w.]+)\n.*?)```", PAGE.read_text(), re.DOTALL)
    assert {name for _, name in blocks} >= {"conftest.py", "report.yaml", "test_report.py"}
    for text, name in blocks:
        (tmp_path / name).write_text(text)
    (tmp_path / "pytest.ini").write_text(f"[pytest]\npythonpath = {ROOT}\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:django"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    tests = sum(text.count("\ndef test_") for text, _ in blocks)
    assert f"{tests} passed" in done.stdout, done.stdout + done.stderr
