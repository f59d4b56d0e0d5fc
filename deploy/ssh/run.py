"""Run a program on a Dask cluster of several machines, which is started by ssh and gone when it ends.

    export DASK_CONFIG=/shared/tls/dask.yaml    # from deploy/tls/make-certificates.sh
    python deploy/ssh/run.py --hosts deploy/ssh/hosts.txt examples/particles.py --address {address}

``{address}`` among the program's arguments becomes the scheduler's address; DASK_SCHEDULER_ADDRESS holds it
too.  The connections use TLS, always: the certificates have the same paths on all machines, or the folder is
on a file system that they share.  The same Python environment is expected on all (or name it: --python).
Host keys are checked: connect to each host by ssh once, before.  Needs ``pip install asyncssh``.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import dask
from distributed import Client, SSHCluster

DASHBOARD = "127.0.0.1:0"  # pages that are neither encrypted nor protected: for an ssh tunnel


def options() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Run a program on a Dask cluster started by ssh.")
    parser.add_argument(
        "--hosts", type=Path, required=True, help="a file: one host a line, the scheduler's first"
    )
    parser.add_argument("--interface", help="the network to listen on, such as eth0 (default: all)")
    parser.add_argument("--workers", type=int, default=1, help="processes a host (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of each worker (default: %(default)s)")
    parser.add_argument("--python", default=sys.executable, help="on the hosts (default: %(default)s)")
    parser.add_argument("--wait", type=float, default=120, help="seconds for workers (default: %(default)s)")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="a Python program and its arguments")
    args = parser.parse_args()
    if args.workers < 1 or args.threads < 1:
        parser.error("--workers and --threads must be at least 1")
    if not args.program:
        parser.error("name a program to run, such as examples/particles.py --address {address}")
    if not all(dask.config.get(f"distributed.comm.{name}") for name in ("require-encryption", "tls.ca-file")):
        parser.error(
            "Dask's settings do not require TLS, without which anyone on the network could run code there: "
            "run deploy/tls/make-certificates.sh FOLDER, then export DASK_CONFIG=FOLDER/dask.yaml"
        )
    return args


def hosts_in(file: Path) -> list[str]:
    """The hosts that a file names; without comments and empty lines."""
    lines = (line.partition("#")[0].strip() for line in file.read_text().splitlines())
    hosts = [line for line in lines if line]
    if len(hosts) < 2:
        raise SystemExit(f"{file} must name two hosts or more: the scheduler's, then those of the workers")
    return hosts


def run(program: list[str], address: str) -> int:
    """The exit status of the program, with the address of the cluster filled in."""
    arguments = [argument.replace("{address}", address) for argument in program]
    environment = {**os.environ, "DASK_SCHEDULER_ADDRESS": address}
    return subprocess.run([sys.executable, *arguments], env=environment, check=False).returncode


def main() -> int:
    """Start, run, stop."""
    args = options()
    hosts = hosts_in(args.hosts)
    logging.getLogger("distributed.deploy.ssh").setLevel(logging.WARNING)  # it repeats what the hosts say
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the cluster is stopped
    common = {"protocol": "tls", "interface": args.interface, "dashboard_address": DASHBOARD}
    with (
        SSHCluster(
            hosts,
            scheduler_options={**common, "port": 0},
            worker_options={**common, "nthreads": args.threads, "n_workers": args.workers},
            remote_python=args.python,
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(args.workers * (len(hosts) - 1), timeout=args.wait)
        return run(args.program, cluster.scheduler_address)


if __name__ == "__main__":
    sys.exit(main())
