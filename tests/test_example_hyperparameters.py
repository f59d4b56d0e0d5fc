"""The example of hyperparameters runs, on threads and on processes, and its pieces are right."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_examples import run

import paradual as pdl
from paradual.testing import check_grads

pytest.importorskip("sklearn")

SCRIPT = Path(__file__).parents[1] / "examples" / "hyperparameters.py"
SMALL = ("--digits", "120", "--folds", "2", "--steps", "6", "--iterations", "3")


@pytest.fixture(scope="module")
def example():
    return SimpleNamespace(**runpy.run_path(str(SCRIPT)))


@pytest.mark.parametrize("where", [(), ("--cluster", "2")], ids=["threads", "cluster"])
def test_it_runs(tmp_path, where):
    pytest.importorskip("matplotlib")
    out = run(str(SCRIPT), *where, *SMALL, "--picture", "tuned.png", cwd=tmp_path)
    assert float(re.search(r"relative error: (\S+)", out)[1]) < 1e-6
    before, after = map(float, re.search(r"cross-validation: (\S+) before, (\S+) after", out).groups())
    assert after < before
    assert len(re.findall(r"^iteration", out, re.MULTILINE)) == 4
    assert (tmp_path / "tuned.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


@pytest.fixture
def problem(example):
    rng = np.random.default_rng(0)
    x = np.hstack([rng.random((12, 3)), np.ones((12, 1))])
    folds = example.split(x, rng.integers(0, 10, 12), 2)
    return example.Hyper(-2.0, np.array([-3.0, -2.0, -1.0])), folds


def test_the_gradient_through_training(example, problem):
    hyper, folds = problem
    with pdl.executor("inline"):
        check_grads(lambda hyper: example.objective(hyper, folds, 4), (hyper,), order=1)


def test_the_loop_of_checkpoints_changes_nothing(example, problem):
    hyper, (fold, _) = problem

    def plainly(hyper):
        state = example.begin(np.zeros((4, 10)))
        for i in range(5):
            gradient = pdl.grad(example.penalised)(state.parameters, hyper, fold.x, fold.y)
            state = example.advance(i, state, gradient, np.exp(hyper.rate))
        return np.sum(np.sin(state.parameters))

    def looped(hyper):
        return np.sum(np.sin(example.train(hyper, fold.x, fold.y, 5)))

    wanted, found = pdl.grad(plainly)(hyper), pdl.grad(looped)(hyper)
    assert found.rate == pytest.approx(wanted.rate, rel=1e-12)
    np.testing.assert_allclose(found.penalties, wanted.penalties, rtol=1e-12)


def test_adam_takes_the_published_steps(example):
    # for a constant gradient every step is the rate, against its sign
    state = example.begin(np.array([1.0, -2.0, 0.5]))
    for i in range(3):
        state = example.advance(i, state, np.array([3.0, -0.1, 0.0]), 0.01)
    np.testing.assert_allclose(state.parameters, [0.97, -1.97, 0.5], rtol=1e-9)


def test_cross_entropy_does_not_overflow(example):
    x, y = np.array([[1000.0, 1.0], [-1000.0, 1.0]]), np.array([3, 4])
    weights = np.zeros((2, 10))
    weights[0, 3], weights[0, 4] = 1.0, -1.0
    loss, gradient = pdl.value_and_grad(example.cross_entropy)(weights, x, y)
    assert loss == 0.0
    assert np.all(gradient == 0.0)


def test_folds_are_disjoint_and_complete(example):
    x, y = np.arange(14.0).reshape(7, 2), np.arange(7)
    folds = example.split(x, y, 3)
    np.testing.assert_array_equal(np.sort(np.concatenate([f.y_held_out for f in folds])), y)
    for fold in folds:
        np.testing.assert_array_equal(np.sort(np.concatenate([fold.y, fold.y_held_out])), y)


@pytest.mark.parametrize("arguments", [("--digits", "50"), ("--folds", "1"), ("--steps", "0")])
def test_what_cannot_be_is_refused(example, arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["hyperparameters.py", *arguments])
    with pytest.raises(SystemExit):
        example.main()
    assert "at least 2" in capsys.readouterr().err
