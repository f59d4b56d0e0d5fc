"""deploy/local: one command, a scheduler and workers on the loopback interface, a program."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import deploy_helpers
import pytest
from deploy_helpers import DEPLOY, Cluster
from distributed import Client
from distributed.cli import dask_scheduler, dask_worker

RUN = str(DEPLOY / "local" / "run.py")


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("local")
    with deploy_helpers.cluster("local/run.py", "--workers", "2", home=home, settings={}) as cluster:
        yield cluster


def test_an_example_runs(running: Cluster) -> None:
    running.run_example()


def test_scheduler_and_workers_are_processes_of_their_own(running: Cluster) -> None:
    with Client(running.address) as client:
        workers = client.run(lambda: __import__("os").getpid())
        scheduler = client.run_on_scheduler(lambda: __import__("os").getpid())
    pids = {scheduler, *workers.values()}
    assert len(workers) == 2
    assert len(pids) == 3
    assert pids <= {process.pid for process in deploy_helpers.marked(running.mark)}


def test_nothing_listens_beyond_loopback(running: Cluster) -> None:
    found = deploy_helpers.listening(running.mark)
    assert {"worker"} < set(found)
    assert len(found) == 3  # the scheduler, the nannies, the workers
    assert set().union(*found.values()) == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "2"), "name a program to run"),
        (("--workers", "0", "p.py"), "must be at least 1"),
        (("--workers", "two", "p.py"), "invalid int value"),
        (("--threads", "0", "p.py"), "must be at least 1"),
        (("--gpus", "0", "p.py"), "must be at least 1"),
    ],
)
def test_bad_options(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = deploy_helpers.load(Path(RUN))
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
    with pytest.raises(SystemExit) as ended:
        run.options()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_a_cluster_that_does_not_start(tmp_path: Path) -> None:
    run = deploy_helpers.load(Path(RUN))
    with subprocess.Popen(["false"]) as ended, pytest.raises(SystemExit, match="the cluster did not start"):
        run.address_in(tmp_path / "scheduler.json", [ended])


def test_the_exit_status_is_that_of_the_program(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import os, sys; sys.exit(sys.argv[1:] != ['a', os.environ['DASK_SCHEDULER_ADDRESS']] and 9)"
    )
    run = deploy_helpers.load(Path(RUN))
    assert run.run([str(program), "a", "{address}"], "tcp://127.0.0.1:1") == 0
    program.write_text("import sys; sys.exit(sys.argv[1:] != ['--address=tcp://127.0.0.1:1'])")
    assert run.run([str(program), "--address={address}"], "tcp://127.0.0.1:1") == 0
    program.write_text("raise SystemExit(9)")
    assert run.run([str(program), "b", "{address}"], "tcp://127.0.0.1:1") == 9


@pytest.mark.parametrize("arguments", [("--workers", "3"), ("--gpus", "2")], ids=["workers", "gpus"])
def test_the_commands_have_options_that_dask_knows(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = deploy_helpers.load(Path(RUN))
    monkeypatch.setattr(sys, "argv", ["run.py", *arguments, "p.py"])
    scheduler, workers = run.commands(run.options(), "/tmp")
    assert scheduler[0] == "scheduler"
    dask_scheduler.main.make_context("dask scheduler", list(scheduler[1:]))
    if workers[0] == "worker":
        dask_worker.main.make_context("dask worker", list(workers[1:]))
    else:
        assert workers[:2] == ("cuda", "worker")
        deploy_helpers.check_options(list(workers[2:]), "dask_cuda_worker.json")
    assert ("--host", "127.0.0.1", "--dashboard-address", "127.0.0.1:0") == workers[-4:] == scheduler[-4:]
