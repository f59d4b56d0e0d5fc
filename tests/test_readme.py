"""The README's programs run as they stand there."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.special

import paradual
from paradual.rules import registry

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_there_are_programs() -> None:
    assert len(BLOCKS) >= 3


@pytest.mark.parametrize("block", [b for b in BLOCKS if ">>>" not in b], ids=lambda b: b.splitlines()[0])
def test_program(block: str, tmp_path: Path) -> None:
    if "__main__" in block:  # it starts processes
        script = tmp_path / "program.py"
        script.write_text(block)
        done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert re.match(r"\[\d\.\d+ +\d\.\d+\]$", done.stdout.strip())
        return
    before = dict(registry.RULES)
    try:
        exec(compile(block, str(README), "exec"), {"np": np, "scipy": scipy, "paradual": paradual})
    finally:  # a rule that the program adds is not for other tests
        registry.RULES.clear()
        registry.RULES.update(before)


def test_session() -> None:
    failures, tried = doctest.testfile(
        str(README), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
    )
    assert tried >= 3
    assert failures == 0
