"""The examples and the benchmark table run, and print what they promise."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str, cwd: Path) -> str:
    """What a Python program prints; the test fails if its exit status is not 0."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def numbers_after(word: str, text: str) -> list[np.ndarray]:
    """The arrays printed after a word."""
    return [np.array(found.split(), dtype=float) for found in re.findall(word + r"\s+\[(.*?)\]", text, re.S)]


def test_quickstart(tmp_path: Path) -> None:
    out = run(str(ROOT / "examples" / "quickstart.py"), cwd=tmp_path)
    gradients, checks = numbers_after("gradient", out), numbers_after("check", out)
    assert len(gradients) == len(checks) == 3
    for gradient, check in zip(gradients, checks, strict=True):
        np.testing.assert_allclose(gradient, check, rtol=1e-4, atol=1e-5)


def test_quickstart_fits_one_screen() -> None:
    assert len((ROOT / "examples" / "quickstart.py").read_text().splitlines()) < 45


@pytest.mark.parametrize("where", [(), ("--cluster", "2")], ids=["threads", "cluster"])
def test_logistic_regression(tmp_path: Path, where: tuple[str, ...]) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("sklearn")
    pytest.importorskip("matplotlib")
    out = run(str(ROOT / "examples" / "logistic_regression.py"), *where, "--output", "loss.png", cwd=tmp_path)
    ours, theirs = map(float, re.search(r"paradual ([\d.]+), scikit-learn ([\d.]+)", out).groups())
    assert ours == theirs > 0.9
    assert float(re.search(r"coefficient difference: (\S+)", out)[1]) < 1e-4
    losses = [float(loss) for loss in re.findall(r"iteration +\d+: loss (\S+)", out)]
    assert len(losses) >= 2
    assert losses == sorted(losses, reverse=True)
    assert out.count("first evaluation") == 1
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.parametrize(
    "where", [("--particles", "5"), ("--cluster", "2", "--particles", "4")], ids=["threads", "cluster"]
)
def test_particles(tmp_path: Path, where: tuple[str, ...]) -> None:
    pytest.importorskip("matplotlib")
    script = str(ROOT / "examples" / "particles.py")
    out = run(script, *where, "--steps", "50", "--picture", "tracks.png", cwd=tmp_path)
    found, expected = map(float, re.search(r"objective: (\S+), closed form (\S+)", out).groups())
    assert found == pytest.approx(expected, rel=1e-12)
    assert float(re.search(r"relative error of the gradient: (\S+)", out)[1]) < 1e-12
    assert f"without parallelism: 0 of {4 * int(where[-1])}" in out
    assert (tmp_path / "tracks.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_particles_without_matplotlib(tmp_path: Path) -> None:
    hide = "import runpy, sys; sys.modules['matplotlib'] = None; "
    program = hide + "runpy.run_path(sys.argv.pop(1), {}, '__main__')"
    script = str(ROOT / "examples" / "particles.py")
    out = run("-c", program, script, "--particles", "4", "--steps", "10", cwd=tmp_path)
    assert "objective: 3.7381040176478" in out  # the paper's four
    assert "no picture: matplotlib is not installed" in out
    assert not list(tmp_path.iterdir())


def test_benchmarks_run_on_small_sizes(tmp_path: Path) -> None:
    # The peers are optional: a missing one has dashes in its column.  No time is asserted anywhere.
    path = tmp_path / "table.json"
    out = run("-m", "tests.benchmarks", "--quick", "--json", str(path), cwd=ROOT)
    lines = json.loads(path.read_text())
    assert {line["row"] for line in lines} == {
        "overhead", "scalars", "chain", "index loop", "fill loop", "network", "wave", "dask, threads",
        "dask, 2 processes", "fmult", "fdotprod", "fsummatvec", "frotvecquat", "fneural", "fparticles",
        "fork", "fork-cluster", "speed-up", "graph shape", "graph building", "graph speed",
        "implicit", "loop",
    }  # fmt: skip
    for line in lines:
        assert line["row"] in out
        assert all(value > 0 for value in line["values"].values())
        assert "by hand" in line["values"] or line["row"] in ("fork", "speed-up", "graph shape", "loop")
