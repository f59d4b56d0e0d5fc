"""The inversion of waves runs in a reduced size: right, and with the same bits on processes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_examples import run

SCRIPT = str(Path(__file__).parents[1] / "examples" / "wave_inversion.py")
REDUCED = ["--size", "36", "--steps", "110", "--shots", "4", "--lose", "1", "--iterations", "7"]


def found(folder: Path, *options: str) -> dict[str, str]:
    """What is printed: a word before each colon, and what comes after it."""
    out = run(SCRIPT, *REDUCED, *options, cwd=folder)
    return dict(re.findall(r"^(.*): (.*)$", out, re.MULTILINE))


def test_wave_inversion(tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("matplotlib")
    here = found(tmp_path, "--picture", "models.png")
    assert (tmp_path / "models.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert here["shots"] == "4, 1 of them lost"
    assert float(here["inner-product test"].split()[0]) < 1e-10
    orders = [float(order) for order in here["order of Taylor's remainder"].split(",")]
    assert orders == pytest.approx([2.0] * 4, abs=0.05)
    before, after = map(float, re.findall(r"([\d.]+) (?:before|after)", here["misfit"]))
    assert after < 0.1 * before

    pytest.importorskip("checkpoint_schedules")
    away = found(tmp_path, "--cluster", "2", "--snapshots", "6")
    assert away["misfit"] == here["misfit"]
    assert away["error of the model"] == here["error of the model"]
