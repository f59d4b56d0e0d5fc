"""A hierarchical regression, sampled by Hamiltonian Monte Carlo: the log-likelihood is computed in shards.

The data are the weights of 30 young rats in five weeks (Gelfand, Hills, Racine-Poon and Smith, JASA 85,
1990).  Rat i grows on a line of its own, weight = alpha_i + beta_i (day - 22) + noise of size sigma, with
alpha_i ~ N(alpha, tau_alpha) and beta_i ~ N(beta, tau_beta).  A shard is some of the rats, whose data stay
where they were loaded; a gradient is a task a shard and its sweep, on the threads of this process, on worker
processes (``--cluster 2``), or on a cluster that runs already (``--address tcp://...``).

Given the three scales this posterior is normal, so that its means are known without sampling, from a grid of
scales: those of the chains must be within two Monte Carlo standard errors of them.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

import paradual as pdl

TABLE = """
151 199 246 283 320  145 199 249 293 354  147 214 263 312 328  155 200 237 272 297  135 188 230 280 323
159 210 252 298 331  141 189 231 275 305  159 201 248 297 338  177 236 285 350 376  134 182 220 260 296
160 208 261 313 352  143 188 220 273 314  154 200 244 289 325  171 221 270 326 358  163 216 242 281 312
160 207 248 288 324  142 187 234 280 316  156 203 243 283 317  157 212 259 307 336  152 203 246 286 321
154 205 253 298 334  139 190 225 267 302  146 191 229 272 302  157 211 250 285 323  132 185 237 286 331
160 207 257 303 345  169 216 261 295 333  157 205 248 289 316  137 180 219 258 291  153 200 244 286 324"""
WEIGHTS = np.array(TABLE.split(), dtype=float).reshape(30, 5)
RATS, WEEKS = WEIGHTS.shape
# The model counts weights from 240 g in tens of grams, and days from 22 in tens: all scales are near 1.
Y, TIMES = (WEIGHTS - 240.0) / 10.0, np.array([-1.4, -0.7, 0.0, 0.7, 1.4])
NAMES = ("alpha, g", "beta, g/day", "tau_alpha", "tau_beta", "sigma, g")
UNITS, ORIGIN = np.array([10.0, 1.0, 10.0, 1.0, 10.0]), np.array([240.0, 0.0, 0.0, 0.0, 0.0])
WIDE = 10.0  # of the half-normal priors of the scales; alpha and beta have flat ones

# --- the model: a row of q is one chain's (alpha, beta, three log scales, each alpha_i, z of each beta_i) ---


def log_likelihood(shard: tuple[np.ndarray, np.ndarray], q: np.ndarray) -> np.ndarray:
    """Of one shard, for each chain; the slopes are not centred: beta_i = beta + tau_beta z_i."""
    rats, y = shard
    slopes = q[:, 1:2] + np.exp(q[:, 3:4]) * q[:, 5 + RATS + rats]
    residuals = y - q[:, 5 + rats][:, :, None] - slopes[:, :, None] * TIMES
    return -0.5 * np.exp(-2.0 * q[:, 4]) * np.sum(residuals**2, axis=(1, 2)) - y.size * q[:, 4]


def log_prior(q: np.ndarray) -> np.ndarray:
    """Of everything else; the last sum includes the Jacobian of the logarithms."""
    logs, z = q[:, 2:5], q[:, 5 + RATS :]
    levels = (q[:, 5 : 5 + RATS] - q[:, 0:1]) * np.exp(-q[:, 2:3])
    scales = np.sum(logs - 0.5 * np.exp(2.0 * logs) / WIDE**2, axis=1)
    return -0.5 * np.sum(levels**2 + z**2, axis=1) - RATS * q[:, 2] + scales


def log_posterior(q: np.ndarray, shards: list[pdl.Task]) -> tuple[np.ndarray, np.ndarray]:
    """The sum over the chains, which share no parameter: its gradient is that of each; and each."""
    each = log_prior(q) + sum(pdl.map(lambda shard: log_likelihood(shard, q), shards))
    return np.sum(each), each


# --- Hamiltonian Monte Carlo (Neal, Handbook of MCMC, 2011, chapter 5), all chains at once ------------------


def sample(f: Callable, q: np.ndarray, warm_up: int, draws: int, rng: np.random.Generator) -> tuple:
    """Draws (draws, chains, parameters), and the share accepted; the warm-up adapts the step."""
    kept, accepted, step, scale = [], [], 0.2, np.full(q.shape[1], 0.3)
    (_, height), slope = f(q)
    for n in range(warm_up + draws):
        momentum = rng.standard_normal(q.shape)
        energy = height - 0.5 * np.sum(momentum**2, axis=1)
        length = step * scale * rng.uniform(0.8, 1.2)  # jittered, against trajectories that close
        there, g = q, slope
        with np.errstate(over="ignore", invalid="ignore"):  # a trajectory that runs away is rejected
            for _ in range(round(2.0 / np.clip(step, 0.02, 2.0))):
                momentum = momentum + 0.5 * length * g
                there = there + length * momentum
                (_, up), g = f(there)
                momentum = momentum + 0.5 * length * g
            change = up - 0.5 * np.sum(momentum**2, axis=1) - energy
        chance = np.exp(np.minimum(0.0, np.nan_to_num(change, nan=-np.inf)))
        moved = rng.uniform(size=len(q)) < chance
        q, slope = np.where(moved[:, None], there, q), np.where(moved[:, None], g, slope)
        height = np.where(moved, up, height)
        kept.append(q)
        accepted.append(np.mean(chance))
        if n < warm_up:
            step *= np.exp(1.5 * (accepted[-1] - 0.8) / np.sqrt(n + 1))
        if n in (warm_up // 3, 2 * warm_up // 3):
            scale = np.std(q, axis=0)  # of each parameter, among the chains
    return np.array(kept[warm_up:]), float(np.mean(accepted[warm_up:]))


# --- what it should give: no sampler, no gradient, and not even the same likelihood -------------------------


def reference(points: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The exact posterior means, and the grid of sigma with its probabilities.

    By least squares, a rat's level has the variance tau_alpha^2 + sigma^2 / 5, its slope, independently,
    tau_beta^2 + sigma^2 / Sxx, and the rest is sigma^2 times a chi^2 of 3 degrees of freedom.
    """
    sxx = np.sum(TIMES**2)
    level, slope = np.mean(Y, axis=1), Y @ TIMES / sxx
    left_over = np.sum((Y - level[:, None] - slope[:, None] * TIMES) ** 2)
    sigma, tau = np.geomspace(0.3, 1.5, points), np.geomspace(0.02, 8.0, points)
    # grids are even in the logarithm: a density by log(sigma) has one more factor sigma
    log = (1 - RATS * (WEEKS - 2)) * np.log(sigma) - 0.5 * left_over / sigma**2 - 0.5 * (sigma / WIDE) ** 2
    taus = []
    for estimate, variance in ((level, sigma**2 / WEEKS), (slope, sigma**2 / sxx)):
        v = variance[:, None] + tau**2
        spread = np.sum((estimate - np.mean(estimate)) ** 2)
        weights = np.exp(-0.5 * (RATS - 1) * np.log(v) - 0.5 * spread / v - 0.5 * (tau / WIDE) ** 2) * tau
        log = log + np.log(np.sum(weights, axis=1))
        taus.append(weights @ tau / np.sum(weights, axis=1))  # the mean of tau given sigma
    p = np.exp(log - np.logaddexp.reduce(log))
    means = [np.mean(level), np.mean(slope), p @ taus[0], p @ taus[1], p @ sigma]
    return UNITS * means + ORIGIN, UNITS[4] * sigma, p


# --- to run it ----------------------------------------------------------------------------------------------


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Sample a hierarchical regression with gradients in shards.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--cluster", type=int, metavar="N", help="start N worker processes on this machine")
    where.add_argument("--address", metavar="tcp://...", help="join a running cluster")
    parser.add_argument("--shards", type=int, default=2, help="1 to 30 (default: %(default)s)")
    parser.add_argument("--chains", type=int, default=64, help="at least 16 (default: %(default)s)")
    parser.add_argument("--warm-up", type=int, default=60, help="iterations (default: %(default)s)")
    parser.add_argument("--draws", type=int, default=100, help="of each chain (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the chains (default: %(default)s)")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="write sigma's posterior as a picture")
    args = parser.parse_args()
    if min(args.shards, args.draws) < 1 or min(args.chains, args.warm_up) < 16:
        parser.error("--shards and --draws are at least 1, --chains and --warm-up at least 16")
    return args


def picture(sigmas: np.ndarray, grid: np.ndarray, p: np.ndarray, path: Path) -> None:
    """Write the histogram of sigma's draws, in grams, and its exact density."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    axes.hist(sigmas.ravel(), bins=60, density=True, alpha=0.5)
    axes.plot(grid, p / np.gradient(grid))
    axes.set(xlabel="sigma, g", xlim=(4.0, 9.0), title="Noise of the weights: chains, exact density")
    figure.savefig(path, dpi=150)


def cluster_client(args: argparse.Namespace) -> AbstractContextManager:
    """Where the tasks run: a client, or nothing for the threads of this process."""
    if args.cluster is None and args.address is None:
        return nullcontext()
    from distributed import Client

    if args.address is not None:
        return Client(args.address)
    return Client(
        n_workers=args.cluster, threads_per_worker=1, processes=True, dashboard_address="127.0.0.1:0"
    )


def main() -> int:
    """Sample, and compare with the exact posterior; 0 if all means are within two standard errors."""
    args = options()
    rng = np.random.default_rng(args.seed)
    q = 0.2 * rng.standard_normal((args.chains, 5 + 2 * RATS))
    q[:, 1] += np.mean(Y[:, -1] - Y[:, 0]) / (TIMES[-1] - TIMES[0])
    q[:, 5 : 5 + RATS] += np.mean(Y, axis=1)
    with cluster_client(args) as client, pdl.executor(client or "threads"):
        parts = np.array_split(np.arange(RATS), args.shards)
        shards = [pdl.submit(lambda rats: (rats, Y[rats]), part) for part in parts]
        f, began = partial(pdl.value_and_grad(log_posterior, has_aux=True), shards=shards), perf_counter()
        kept, accepted = sample(f, q, args.warm_up, args.draws, rng)
        seconds = perf_counter() - began
    print(
        f"{args.chains} chains of {args.draws} draws: {seconds:.0f} s, accepted {accepted:.2f} (at least 0.5)"
    )
    found = UNITS * np.concatenate([kept[:, :, :2], np.exp(kept[:, :, 2:5])], axis=2) + ORIGIN
    each = np.mean(found, axis=0)  # one for a chain: chains are independent, draws of one are not
    means, errors = np.mean(each, axis=0), np.std(each, axis=0, ddof=1) / np.sqrt(args.chains)
    exact, grid, p = reference()
    away = (means - exact) / errors
    print(f"{'mean of':13}{'chains':>9}{'error':>9}{'exact':>10}{'difference / error':>20}")
    for row in zip(NAMES, means, errors, exact, away, strict=True):
        print("{:13}{:9.4f}{:9.4f}{:10.4f}{:20.2f}".format(*row))
    print(f"largest difference: {np.max(np.abs(away)):.2f} Monte Carlo standard errors (allowed: 2)")
    if args.picture:
        picture(found[:, :, 4], grid, p, args.picture)
    return 0 if np.max(np.abs(away)) < 2.0 and accepted > 0.5 else 1  # a wrong gradient would be refused


if __name__ == "__main__":
    sys.exit(main())
