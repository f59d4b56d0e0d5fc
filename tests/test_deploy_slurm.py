"""deploy/slurm: the job scripts of dask-jobqueue, run by stand-ins of sbatch and scancel."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import dask
import deploy_helpers
import numpy as np
import pytest
import yaml
from deploy_helpers import DEPLOY, Cluster
from distributed import Client
from distributed.cli import dask_worker
from distributed.security import Security

import paradual as pdl

RUN = DEPLOY / "slurm" / "run.py"
SETTINGS = [DEPLOY / "slurm" / "jobqueue.yaml", DEPLOY / "gpu" / "slurm.yaml"]

# They do what SLURM would do with a job: run its script, and end it.
SBATCH = """#!/bin/bash
cp "$1" "$HOME/job.sh"
setsid bash "$HOME/job.sh" >"$HOME/job.log" 2>&1 </dev/null &
echo "Submitted batch job $!"
"""
SCANCEL = """#!/bin/bash
echo "$1" >"$HOME/cancelled"
kill -TERM -- "-$1"
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install dask-jobqueue")
    folder = tmp_path_factory.mktemp("slurm")
    for name, text in (("sbatch", SBATCH), ("scancel", SCANCEL)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    deploy_helpers.certificates(folder / "certificates")
    # What a user changes: the size of a job, and the network.
    settings = yaml.safe_load(SETTINGS[0].read_text())
    settings["jobqueue"]["slurm"] |= {"cores": 1, "processes": 1, "memory": "1GiB", "interface": "lo"}
    (folder / "jobqueue.yaml").write_text(yaml.safe_dump(settings))
    return folder


@pytest.fixture(autouse=True, scope="module")
def signals() -> Iterator[None]:
    """Handlers as they were: to import dask_jobqueue changes what Ctrl-C does in this process."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def settings(home: Path) -> dict[str, str]:
    path = f"{home}:{os.environ['PATH']}"
    return {"DASK_CONFIG": str(home / "certificates" / "dask.yaml"), "PATH": path}


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[Cluster]:
    options = ("--config", str(home / "jobqueue.yaml"))
    with deploy_helpers.cluster("slurm/run.py", *options, home=home, settings=settings(home)) as cluster:
        yield cluster
    assert (home / "cancelled").read_text().strip().isdigit()


def test_a_job_is_run_and_cancelled(running: Cluster, home: Path) -> None:
    assert running.address.startswith("tls://127.0.0.1:")
    folder = home / "certificates"
    with Client(running.address, security=deploy_helpers.security(folder, folder)) as client:
        point = np.array([1.0, 2.0])
        gradient = client.submit(pdl.grad(np.prod), point).result(timeout=60)
        np.testing.assert_array_equal(gradient, [2.0, 1.0])
        assert len(client.scheduler_info()["workers"]) == 1


def test_nothing_listens_beyond_the_interface(running: Cluster) -> None:
    found = deploy_helpers.listening(running.mark)
    assert "worker" in found
    assert set().union(*found.values()) == {"127.0.0.1"}


@pytest.mark.parametrize("file", SETTINGS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_settings_are_those_that_dask_jobqueue_knows(file: Path) -> None:
    module = pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install dask-jobqueue")
    known = yaml.safe_load((Path(module.__file__).parent / "jobqueue.yaml").read_text())["jobqueue"]["slurm"]
    found = yaml.safe_load(file.read_text())
    assert list(found) == ["jobqueue"]
    assert list(found["jobqueue"]) == ["slurm"]
    assert set(found["jobqueue"]["slurm"]) <= set(known)


@pytest.mark.parametrize(
    ("file", "directives", "command"),
    [
        (SETTINGS[0], {"--cpus-per-task=8", "--mem=32G", "-t 01:00:00"}, ["distributed.cli.dask_worker"]),
        (SETTINGS[1], {"--cpus-per-task=4", "--gpus-per-node=4", "-p gpu"}, ["dask_cuda.cli"]),
    ],
    ids=["slurm", "gpu"],
)
def test_the_job_as_it_comes(
    file: Path, directives: set[str], command: list[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask_jobqueue.slurm import SLURMJob

    folder = home / "certificates"
    role = {name: str(folder / f"worker{end}.pem") for name, end in (("cert", ""), ("key", "-key"))}
    security = Security(
        tls_ca_file=str(folder / "ca.pem"), tls_worker_cert=role["cert"], tls_worker_key=role["key"]
    )
    known = dask.config.get("jobqueue.slurm")
    changed = yaml.safe_load(file.read_text())["jobqueue"]["slurm"]
    with dask.config.set({"jobqueue.slurm": {**known, **changed}}):
        job = SLURMJob("tls://127.0.0.1:1", name="one", security=security, protocol="tls://")
    lines = job.job_script().splitlines()
    assert directives <= {line.removeprefix("#SBATCH ") for line in lines}
    (words,) = (shlex.split(line) for line in lines if "tls://127.0.0.1:1" in line)
    assert words[1:4] == ["-m", *command, "tls://127.0.0.1:1"]
    options = dict(pairwise(words))
    assert options["--dashboard-address"] == "127.0.0.1:0"
    assert options["--tls-key"] == role["key"]
    if file is SETTINGS[1]:
        assert options["--resources"] == "GPU=1"
        deploy_helpers.check_options(words[4:], "dask_cuda_worker.json")
    else:
        dask_worker.main.make_context("dask worker", words[3:])  # complains of options that it does not know


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p.py",), "Dask's settings do not require TLS"),
        ((), "name a program"),
        (("--jobs", "0", "p.py"), "must be at least 1"),
    ],
)
def test_bad_options(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    pytest.importorskip("dask_jobqueue", reason="needs dask-jobqueue: pip install dask-jobqueue")
    run = deploy_helpers.load(RUN)
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.options()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
