"""Run a program on a Dask cluster of this machine: a scheduler and worker processes, gone when it ends.

    python deploy/local/run.py --workers 4 examples/particles.py --address {address}

``{address}`` among the program's arguments becomes the scheduler's address.  A program that makes a
``distributed.Client()`` without one finds it too, in the environment variable DASK_SCHEDULER_ADDRESS.

Everything listens on the loopback interface, at random ports.  On a machine with other users, who could
connect to these ports, set DASK_CONFIG to the settings that deploy/tls/make-certificates.sh writes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep

from distributed import Client

LOOPBACK = ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0")
SECONDS = 60  # to start


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Run a program on a Dask cluster of this machine.")
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count(), help="worker processes (default: one a core)"
    )
    parser.add_argument("--threads", type=int, default=1, help="of each worker (default: %(default)s)")
    parser.add_argument("--gpus", type=int, help="instead of --workers: so many, with a GPU each (dask-cuda)")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a Python program and its arguments")
    args = parser.parse_args()
    if min(args.workers, args.threads, 1 if args.gpus is None else args.gpus) < 1:
        parser.error("--workers, --threads and --gpus must be at least 1")
    if not args.program:
        parser.error("name a program to run, such as examples/particles.py --address {address}")
    return args


@contextmanager
def processes(*commands: tuple[str, ...]) -> Iterator[list[subprocess.Popen]]:
    """Dask commands that run side by side; stopped at the end, whatever happens."""
    environment = {"DASK_LOGGING__DISTRIBUTED": "warning", **os.environ}
    running: list[subprocess.Popen] = []
    try:
        for command in commands:
            # Sessions of their own: an interrupt from the keyboard is for the program, and we stop them.
            line = [sys.executable, "-m", "dask", *command]
            running.append(subprocess.Popen(line, env=environment, start_new_session=True))
        yield running
    finally:
        for one in reversed(running):  # the scheduler last: workers take their leave of it
            one.terminate()
            try:
                one.wait(timeout=10)
            except subprocess.TimeoutExpired:
                with suppress(ProcessLookupError):
                    os.killpg(one.pid, signal.SIGKILL)
                one.wait()


def commands(args: argparse.Namespace, folder: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The scheduler's and the workers'."""
    file = ("--scheduler-file", f"{folder}/scheduler.json")
    scheduler = ("scheduler", *file, "--port", "0", *LOOPBACK)
    # The scheduler's dashboard shows the workers; one for each of them would take a while to start.
    threads = ("--nthreads", str(args.threads), "--local-directory", folder, "--no-dashboard")
    if args.gpus is None:
        return scheduler, ("worker", *file, "--nworkers", str(args.workers), *threads, *LOOPBACK)
    # One worker for each GPU of CUDA_VISIBLE_DEVICES.  It takes tasks annotated with resources={"GPU": 1}
    # one after another, and spills from the device to the host at 80 % of its memory.
    gpu = ("--resources", "GPU=1", "--device-memory-limit", "0.8")
    return scheduler, ("cuda", "worker", *file, *gpu, *threads, *LOOPBACK)


def address_in(file: Path, running: list[subprocess.Popen]) -> str:
    """The address that the scheduler writes into its file."""
    end = monotonic() + SECONDS
    while monotonic() < end and all(one.poll() is None for one in running):
        with suppress(FileNotFoundError, json.JSONDecodeError):  # not yet there, or half of it
            address: str = json.loads(file.read_text())["address"]
            return address
        sleep(0.05)
    raise SystemExit("the cluster did not start: its messages are above")


def run(program: list[str], address: str) -> int:
    """The exit status of the program, with the address of the cluster filled in."""
    arguments = [argument.replace("{address}", address) for argument in program]
    environment = {**os.environ, "DASK_SCHEDULER_ADDRESS": address}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def main() -> int:
    """Start, run, stop."""
    args = options()
    if args.gpus is not None:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(args.gpus))))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped
    with (
        tempfile.TemporaryDirectory(prefix="dask-") as folder,
        processes(*commands(args, folder)) as running,
    ):
        address = address_in(Path(folder) / "scheduler.json", running)
        with Client(address, timeout=SECONDS) as client:
            client.wait_for_workers(args.gpus or args.workers, timeout=SECONDS)
        return run(args.program, address)


if __name__ == "__main__":
    sys.exit(main())
