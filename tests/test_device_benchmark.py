"""`tests.gpu.benchmark` in a dry run: the code is exercised, and no number comes out of nothing."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_device import device

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.gpu import benchmark, problems  # noqa: E402


def test_a_dry_run_of_the_device_benchmark_checks_every_gradient(capsys):
    with device():
        assert benchmark.main(["--dry"]) == 0
    out = capsys.readouterr().out
    assert "dry run" in out
    rows = [line for line in out.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 5
    for line in rows:
        assert set(line.replace(" ", "").split("|")[3:]) <= {"-", ""}  # no times


def test_without_a_device_the_benchmark_measures_nothing():
    command = [sys.executable, "-m", "tests.gpu.benchmark"]
    hidden = [sys.executable, "-c", "import sys; sys.modules['cupy'] = None; sys.argv[0] = 'benchmark'; "
              "from tests.gpu import benchmark; raise SystemExit(benchmark.main([]))"]  # fmt: skip
    for call in (command, hidden):
        done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        if call is command and done.returncode == 0:
            pytest.skip("there is a device")
        assert done.returncode == 1, done.stderr
        assert "no CUDA device" in done.stderr
        assert not done.stdout


def test_a_wrong_gradient_is_not_timed_on_a_device():
    problem = problems.chain(10)
    with device():
        import cupy

        expected = benchmark.reference(cupy, problem)
        with pytest.raises(SystemExit, match="off by"):
            benchmark.check(problem, "a wrong one", [expected[0] * 1.5], expected, cupy)
        nan = [expected[0] * np.nan]
        with pytest.raises(SystemExit, match="off by"):
            benchmark.check(problem, "nan", nan, expected, cupy)


@pytest.mark.parametrize("problem", problems.problems(True), ids=lambda p: p.name)
def test_the_gradient_by_hand_is_ours_in_double_precision_on_a_device(problem):
    arrays = problem.inputs(np, np.float64)
    value, gradients = problems.ours(problem, arrays)()
    by_hand, expected = problems.by_hand(problem, arrays)()
    np.testing.assert_allclose(value, by_hand, rtol=1e-12)
    for g, e in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(g, e, rtol=1e-10, atol=1e-12)
