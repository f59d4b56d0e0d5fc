"""Logistic regression on chunked data: the gradient is paradual's, Dask runs it, SciPy minimises.

The data are the breast-cancer measurements that come with scikit-learn: 30 features of 569 tumours.
Value and gradient of the loss are one graph of Dask tasks, computed at each evaluation: on the threads
of this process, on worker processes of this machine (``--cluster 2``), or on a cluster that runs
already (``--address tcp://...``).
"""

from __future__ import annotations

import argparse
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from time import perf_counter

import dask
import dask.array as da
import numpy as np
from dask.diagnostics import ProgressBar
from scipy.optimize import OptimizeResult, minimize
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import paradual as pdl

ALLOWED_DIFFERENCE = 1e-4


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Fit a logistic regression with gradients of a Dask graph and compare with scikit-learn."
    )
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument(
        "--chunks", type=int, default=4, help="pieces of the training data (default: %(default)s)"
    )
    parser.add_argument(
        "--penalty", type=float, default=1.0, metavar="C", help="as scikit-learn's C: weight of the data"
    )
    parser.add_argument(
        "--output", type=Path, default="logistic_regression.png", help="loss curve (default: %(default)s)"
    )
    return parser.parse_args()


def data() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Standardised features and labels (0 or 1), to train with and held out."""
    features, labels = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(
        features, labels, test_size=0.25, random_state=0, stratify=labels
    )
    scaler = StandardScaler().fit(x_train)
    return scaler.transform(x_train), scaler.transform(x_test), y_train, y_test


class Objective:
    """The penalised loss of the training data and its gradient, computed by Dask when called.

    Parameters
    ----------
    x, signs : dask array
        Features and labels (-1 or 1), in chunks of samples.
    c : float
        Weight of the data against the penalty.
    on_cluster : bool
        Whether a distributed cluster computes.
    """

    def __init__(self, x: da.Array, signs: da.Array, c: float, on_cluster: bool) -> None:
        self.x, self.signs, self.c, self.on_cluster = x, signs, c, on_cluster
        self.evaluations = 0
        self.seconds = 0.0

    def __call__(self, parameters: np.ndarray) -> tuple[float, np.ndarray]:
        """Value and gradient; the intercept is the last parameter."""
        start = perf_counter()
        weights = da.from_array(parameters[:-1], chunks=-1)
        intercept = da.from_array(parameters[-1:], chunks=-1)
        margins = self.signs * (self.x @ weights + intercept)
        loss = self.c * da.logaddexp(0.0, -margins).sum() + (weights**2).sum() / 2.0
        value, slopes = pdl.value_and_gradients(loss, [weights, intercept])
        value, slopes = self._compute(value, slopes)
        self.evaluations += 1
        self.seconds += perf_counter() - start
        return float(value), np.concatenate(slopes)

    def _compute(self, *lazy: object) -> tuple:
        # One progress bar, for the first evaluation; a bar for each would bury the losses.
        if self.evaluations > 0:
            return dask.compute(*lazy)
        print("first evaluation:")
        if not self.on_cluster:
            with ProgressBar():
                return dask.compute(*lazy)
        from distributed import progress

        lazy = dask.persist(*lazy)
        progress(*lazy, notebook=False)
        print()
        return dask.compute(*lazy)


def fit(objective: Objective, n_features: int) -> tuple[np.ndarray, list[float]]:
    """Minimise; returns the parameters and the loss after each iteration."""
    losses: list[float] = []

    def note(intermediate_result: OptimizeResult) -> None:
        losses.append(intermediate_result.fun)
        if len(losses) % 10 == 0:
            print(f"iteration {len(losses):3d}: loss {losses[-1]:.6f}")

    result = minimize(
        objective,
        np.zeros(n_features + 1),
        jac=True,
        method="L-BFGS-B",
        callback=note,
        options={"gtol": 1e-6, "ftol": 1e-15, "maxiter": 500},
    )
    return result.x, losses


def draw(losses: list[float], path: Path) -> None:
    """Write the loss curve."""
    import matplotlib as mpl

    mpl.use("Agg")  # needs no screen
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    axes.plot(range(1, len(losses) + 1), losses, marker=".")
    axes.set(xlabel="L-BFGS iteration", ylabel="penalised loss", title="Breast cancer, training data")
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150)


def accuracy(parameters: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The share of samples on the right side."""
    return float(np.mean((x @ parameters[:-1] + parameters[-1] > 0) == (y == 1)))


def cluster_client(args: argparse.Namespace) -> AbstractContextManager:
    """Where Dask computes: a client, or nothing for the threads of this process."""
    if args.cluster is None and args.address is None:
        return nullcontext()
    from distributed import Client

    if args.address is not None:
        return Client(args.address)
    return Client(
        n_workers=args.cluster, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


def main() -> int:
    """Fit, compare with scikit-learn, and draw; 0 if both agree."""
    args = options()
    x_train, x_test, y_train, y_test = data()
    rows = -(-len(x_train) // args.chunks)
    with cluster_client(args) as client:
        x = da.from_array(x_train, chunks=(rows, -1))
        signs = da.from_array(np.where(y_train == 1, 1.0, -1.0), chunks=rows)
        if client is not None:
            x, signs = client.persist([x, signs])  # on the workers, once
        objective = Objective(x, signs, args.penalty, client is not None)
        ours, losses = fit(objective, x_train.shape[1])

    theirs = LogisticRegression(C=args.penalty, tol=1e-8, max_iter=10_000).fit(x_train, y_train)
    parameters = np.concatenate([theirs.coef_[0], theirs.intercept_])
    difference = float(np.max(np.abs(ours - parameters)))
    draw(losses, args.output)
    per_evaluation = 1e3 * objective.seconds / objective.evaluations
    print(f"{objective.evaluations} evaluations in {x.numblocks[0]} chunks, {per_evaluation:.0f} ms each")
    print(f"held-out accuracy: paradual {accuracy(ours, x_test, y_test):.4f}, "
          f"scikit-learn {theirs.score(x_test, y_test):.4f}")  # fmt: skip
    print(f"largest coefficient difference: {difference:.2e} (allowed: {ALLOWED_DIFFERENCE:.0e})")
    print(f"loss curve: {args.output}")
    return 0 if difference < ALLOWED_DIFFERENCE else 1


if __name__ == "__main__":
    sys.exit(main())
