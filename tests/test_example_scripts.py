"""The larger examples run in a reduced size, on threads and on worker processes, and print what is right."""

from __future__ import annotations

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import paradual as pdl

EXAMPLES = Path(__file__).parents[1] / "examples"
WHERE = pytest.mark.parametrize("where", [(), ("--cluster", "2")], ids=["threads", "cluster"])
REDUCED = {
    "neural_network": "--hidden 32 --batch 100 --epochs 4",
    "newton_lu": "--steps 10000 --receivers 2",
    "sharded_posterior": "--chains 16 --warm-up 16 --draws 6",
    "xarray_inversion": "--size 24 --stations 40 --windows 2 --iterations 5",
}


def run(name: str, where: tuple[str, ...], folder: Path) -> str:
    """What an example prints in a reduced size; the test fails if its exit status is not 0."""
    root = str(EXAMPLES.parent)
    environment = {**os.environ, "PYTHONPATH": root, "PYTHONWARNINGS": "error", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *REDUCED[name].split(), *where]
    if not where:
        pytest.importorskip("matplotlib")
        command += ["--picture", "picture.png"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    if not where:
        assert (folder / "picture.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    return done.stdout


def numbers(pattern: str, text: str) -> list[float]:
    """The groups of a pattern that must be there."""
    found = re.search(pattern, text)
    assert found, (pattern, text)
    return [float(number.replace(",", "")) for number in found.groups()]


@WHERE
def test_neural_network(where: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    out = run("neural_network", where, tmp_path)
    assert numbers(r"error of the gradient against a difference: (\S+)", out)[0] < 1e-6
    first, last = numbers(r"loss of the batch: (\S+) at first, (\S+) at the end", out)
    assert last < 0.5 * first
    ours, theirs = numbers(r"paradual (\S+), scikit-learn (\S+)", out)
    assert ours > theirs - 0.02
    assert theirs > 0.85


@WHERE
def test_newton_lu(where: tuple[str, ...], tmp_path: Path) -> None:
    out = run("newton_lu", where, tmp_path)
    assert numbers(r"against the implicit function theorem: (\S+)", out)[0] < 1e-12
    assert numbers(r"(\d+) halved", out)[0] > 0, "the line search was not used"
    # the receiver is at (4 + r cos a, 6 + r sin a): the x of where it is, and by hand dx/dL = 1 - x / L
    x, slope = numbers(r"position \((\S+), \S+\), off by [\s\S]+place: \((\S+), \S+\)", out)
    assert slope == pytest.approx(1.0 - x / 10.0, abs=1e-11)
    growth, tape = numbers(r"growth (\S+) MB[\s\S]+would keep (\S+) MB", out)
    assert growth < 10 < 40 < tape


@WHERE
def test_sharded_posterior(where: tuple[str, ...], tmp_path: Path) -> None:
    out = run("sharded_posterior", where, tmp_path)
    # a wrong gradient would not spoil the means of Hamiltonian Monte Carlo, but nearly all would be refused
    assert numbers(r"accepted (\S+)", out)[0] > 0.6
    assert numbers(r"largest difference: (\S+) Monte Carlo", out)[0] < 2.0
    # as published, with vaguer priors: examples of BUGS, volume 1
    assert numbers(r"beta, g/day +\S+ +\S+ +(\S+)", out)[0] == pytest.approx(6.19, abs=0.01)
    assert numbers(r"sigma, g +\S+ +\S+ +(\S+)", out)[0] == pytest.approx(6.09, abs=0.05)


@WHERE
def test_xarray_inversion(where: tuple[str, ...], tmp_path: Path) -> None:
    pytest.importorskip("scipy")
    pytest.importorskip("xarray")
    out = run("xarray_inversion", where, tmp_path)
    assert "its gradient: ('y', 'x'), coordinates ['y', 'x'], chunks ((6, 6, 6, 6), (24,))" in out
    assert max(numbers(r"adjoint (\S+), of the slope with a difference (\S+)", out)) < 1e-9
    before, after = numbers(r"error of the field: (\S+) before, (\S+) after", out)
    assert after < 0.5 * before
    start, end = numbers(r"cost (\S+) to (\S+)", out)
    assert end < 0.1 * start


def test_the_exact_posterior_agrees_with_dense_algebra() -> None:
    """The weights of a rat are normal with the covariance s^2 + a^2 11' + b^2 tt', and flat alpha, beta."""
    script = runpy.run_path(str(EXAMPLES / "sharded_posterior.py"))
    y, t, wide, units = script["Y"], script["TIMES"], script["WIDE"], script["UNITS"]
    logs = np.meshgrid(*(np.linspace(*np.log(ends), 24) for ends in ((0.6, 4), (0.1, 1.7), (0.35, 1.3))))
    a, b, s = (np.exp(log).reshape(-1, 1, 1) for log in logs)
    v = np.linalg.inv(s**2 * np.eye(5) + a**2 * np.ones((5, 5)) + b**2 * np.outer(t, t))
    x = np.stack([np.ones(5), t], axis=1)
    information = x.T @ v @ x
    lines = np.linalg.solve(information, x.T @ v @ np.mean(y, axis=0)[:, None])[:, :, 0]
    r = y - (lines @ x.T)[:, None, :]
    log = 15 * np.linalg.slogdet(v)[1] - 0.5 * np.linalg.slogdet(information)[1]
    log -= 0.5 * np.sum((r @ v) * r, axis=(1, 2))
    log += sum(np.log(k) - 0.5 * (k / wide) ** 2 for k in (a, b, s))[:, 0, 0]
    p = np.exp(log - np.max(log))
    scales = np.concatenate([a, b, s], axis=2)[:, 0]
    means = p @ np.concatenate([lines, scales], axis=1) / np.sum(p)
    found, grid, density = script["reference"]()
    np.testing.assert_allclose(found, means * units + script["ORIGIN"], rtol=1e-5)
    assert density @ grid == pytest.approx(found[4], rel=1e-12)


def test_the_gradient_of_the_posterior() -> None:
    script = runpy.run_path(str(EXAMPLES / "sharded_posterior.py"))
    q = np.random.default_rng(1).normal(0.0, 0.3, (2, 65))
    shards = [(rats, script["Y"][rats]) for rats in np.array_split(np.arange(30), 3)]
    with pdl.executor("inline"):
        pdl.testing.check_grads(lambda q: script["log_posterior"](q, shards)[0], (q,), order=1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("neural_network", "--shards 0"),
        ("neural_network", "--shards 9 --batch 8"),
        ("neural_network", "--device tpu"),
        ("newton_lu", "--receivers 0"),
        ("newton_lu", "--steps 10"),
        ("newton_lu", "--cluster 2 --address tcp://127.0.0.1:1"),
        ("sharded_posterior", "--chains 1"),
        ("sharded_posterior", "--draws 0"),
        ("xarray_inversion", "--size 8"),
        ("xarray_inversion", "--stations 0"),
        ("xarray_inversion", "--stations 10000"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    name: str, options: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module in {"neural_network": ["sklearn"], "xarray_inversion": ["scipy", "xarray"]}.get(name, []):
        pytest.importorskip(module)
    monkeypatch.setattr(sys, "argv", [name, *options.split()])
    with pytest.raises(SystemExit) as refused:
        runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]()
    assert refused.value.code == 2
    assert "error: " in capsys.readouterr().err
