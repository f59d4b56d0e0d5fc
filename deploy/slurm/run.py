"""Run a program on a Dask cluster of SLURM jobs, which are cancelled when it ends.

    export DASK_CONFIG=$HOME/tls/dask.yaml    # from deploy/tls/make-certificates.sh
    python deploy/slurm/run.py --jobs 4 examples/particles.py --address {address}

``{address}`` among the program's arguments becomes the scheduler's address; DASK_SCHEDULER_ADDRESS holds it
too.  The scheduler is in this process: start it where the nodes can connect to, or as a job (job.sh).  What a
job is says --config, by default jobqueue.yaml beside this file.  The connections use TLS, always: the folder
of certificates is on a file system that all nodes share.  Needs ``pip install dask-jobqueue``.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
import yaml
from dask_jobqueue import SLURMCluster
from distributed import Client
from distributed.security import Security


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Run a program on a Dask cluster of SLURM jobs.")
    parser.add_argument("--jobs", type=int, default=1, help="to submit (default: %(default)s)")
    parser.add_argument("--config", type=Path, default=Path(__file__).with_name("jobqueue.yaml"))
    parser.add_argument("--wait", type=float, help="seconds for the jobs to start (default: no limit)")
    parser.add_argument("--dry-run", action="store_true", help="print the script of a job, and end")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a Python program and its arguments")
    args = parser.parse_args()
    if args.jobs < 1:
        parser.error("--jobs must be at least 1")
    if not args.program and not args.dry_run:
        parser.error("name a program to run, such as examples/particles.py --address {address}")
    if not all(dask.config.get(f"distributed.comm.{name}") for name in ("require-encryption", "tls.ca-file")):
        parser.error(
            "Dask's settings do not require TLS, without which anyone on the network could run code as you: "
            "run deploy/tls/make-certificates.sh FOLDER, then export DASK_CONFIG=FOLDER/dask.yaml"
        )
    return args


def run(program: list[str], address: str) -> int:
    """The exit status of the program, with the address of the cluster filled in."""
    arguments = [argument.replace("{address}", address) for argument in program]
    environment = {**os.environ, "DASK_SCHEDULER_ADDRESS": address}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def main() -> int:
    """Submit, run, cancel."""
    args = options()
    dask.config.update(dask.config.config, yaml.safe_load(args.config.read_text()))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the jobs are cancelled
    with SLURMCluster(security=Security(), protocol="tls://") as cluster:
        if args.dry_run:
            print(cluster.job_script())
            return 0
        cluster.scale(jobs=args.jobs)
        with Client(cluster) as client:
            processes = dask.config.get("jobqueue.slurm.processes") or 1  # else dask-jobqueue chooses
            client.wait_for_workers(args.jobs * processes, timeout=args.wait)
            return run(args.program, cluster.scheduler_address)


if __name__ == "__main__":
    sys.exit(main())
