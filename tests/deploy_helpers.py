"""Clusters started by the files of deploy/, on this machine, and what they leave and listen to."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import psutil
import pytest
from distributed.security import Security

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
SCHEMAS = ROOT / "tests" / "deploy_schemas"
MARK = "PARADUAL_TEST_CLUSTER"  # inherited by all that a cluster starts, whoever its parent is then
# The program: runs until told to end.
HOLD = "import sys\nprint(sys.argv[1], flush=True)\nsys.stdin.read()\n"


class Cluster(NamedTuple):
    """A cluster that a script of deploy/ has started, and whose program waits."""

    address: str
    mark: str
    environment: dict[str, str]

    def run(self, *arguments: str) -> str:
        """What a Python program with the cluster's settings prints."""
        done = subprocess.run(
            [sys.executable, *arguments], env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def run_example(self) -> None:
        """The smallest particles, whose objective the paper gives; without a picture, which takes a while."""
        hide = "import runpy, sys; sys.modules['matplotlib'] = None; "
        script = str(ROOT / "examples" / "particles.py")
        size = ("--particles", "4", "--steps", "10", "--address", self.address)
        out = self.run("-c", hide + "runpy.run_path(sys.argv.pop(1), {}, '__main__')", script, *size)
        assert "objective: 3.7381040176478" in out
        assert "without parallelism: 0 of 16" in out


def load(script: Path) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location("deployed_" + script.parent.name, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def certificates(folder: Path, *options: str) -> Path:
    """The folder, with a new authority and certificates in it."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    script = DEPLOY / "tls" / "make-certificates.sh"
    subprocess.run(["bash", script, folder, *options], check=True, capture_output=True, text=True)
    return folder


def security(authority: Path, identity: Path) -> Security:
    """That of a client which trusts one authority and shows a certificate of another."""
    return Security(
        require_encryption=True,
        tls_ca_file=str(authority / "ca.pem"),
        tls_client_cert=str(identity / "client.pem"),
        tls_client_key=str(identity / "client-key.pem"),
    )


def environment(home: Path, **settings: str) -> dict[str, str]:
    """One without Dask settings of whoever runs the tests."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("DASK_")}
    return {**clean, "HOME": str(home), "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "default", **settings}


def marked(mark: str) -> list[psutil.Process]:
    """The processes that carry a mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(process)
    return found


def listening(mark: str) -> dict[str, set[str]]:
    """The addresses on which the processes of a cluster listen, by command."""
    found: dict[str, set[str]] = {}
    for process in marked(mark):
        sockets = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        name = "worker" if "--multiprocessing-fork" in process.cmdline() else " ".join(process.cmdline())
        found.setdefault(name, set()).update(c.laddr.ip for c in sockets)
    return {name: addresses for name, addresses in found.items() if addresses}


@contextmanager
def cluster(
    script: str, *options: str, home: Path, settings: dict[str, str], mark: str | None = None
) -> Iterator[Cluster]:
    """What a script of deploy/ starts.

    All of it is gone at the end, whatever happens, and a test fails if it would not be so by itself.
    """
    mark = mark or uuid.uuid4().hex
    env = environment(home, **{MARK: mark}, **settings)
    log, hold = home / f"{mark}.log", home / f"{mark}.py"
    hold.write_text(HOLD)
    command = [sys.executable, DEPLOY / script, *options, hold, "{address}"]
    try:
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            ) as running,
        ):
            assert running.stdin is not None
            assert running.stdout is not None
            try:
                address = running.stdout.readline().strip()
                assert address, log.read_text()
                yield Cluster(address, mark, {name: value for name, value in env.items() if name != MARK})
                running.stdin.close()
                assert running.wait(timeout=60) == 0, log.read_text()
            finally:
                running.terminate()
                with suppress(subprocess.TimeoutExpired):
                    running.wait(timeout=60)
                running.kill()
        remaining = psutil.wait_procs(marked(mark), timeout=10)[1]
        assert not remaining, remaining
    finally:
        for process in marked(mark):
            with suppress(psutil.Error):
                process.kill()


def check_options(words: list[str], file: str) -> None:
    """Fail where a command line has an option that is not in a list of tests/deploy_schemas."""
    known = json.loads((SCHEMAS / file).read_text())
    rest = iter(words)
    for word in rest:
        assert word in known["values"] or word in known["flags"], word
        if word in known["values"]:
            next(rest)
