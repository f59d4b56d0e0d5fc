"""deploy/ssh: a cluster of "machines" that all are this one, behind an ssh server on the loopback."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import deploy_helpers
import pytest
from deploy_helpers import DEPLOY, MARK, Cluster

RUN = DEPLOY / "ssh" / "run.py"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A home whose ~/.ssh knows the hosts: a key, who they are, and where.  The mark of what runs on them."""
    pytest.importorskip("asyncssh", reason="the ssh cluster needs asyncssh: pip install asyncssh")
    folder = tmp_path_factory.mktemp("ssh")
    ssh = folder / ".ssh"
    ssh.mkdir(mode=0o700)
    make = "import asyncssh, sys\nfor name in sys.argv[1:]:\n"
    make += "    key = asyncssh.generate_private_key('ssh-ed25519')\n"
    make += "    key.write_private_key(name); key.write_public_key(name + '.pub')"
    subprocess.run([sys.executable, "-c", make, ssh / "id_ed25519", ssh / "host"], check=True)
    server = [
        sys.executable,
        Path(__file__).with_name("deploy_sshd.py"),
        ssh / "host",
        ssh / "id_ed25519.pub",
    ]
    mark = uuid.uuid4().hex
    environment = deploy_helpers.environment(folder)
    with subprocess.Popen(
        [*server, f"{MARK}={mark}"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        try:
            port = running.stdout.readline().strip()
            key = (ssh / "host.pub").read_text().strip()
            (ssh / "known_hosts").write_text(f"[127.0.0.1]:{port} {key}\n")
            (ssh / "config").write_text(f"Host node*\n  HostName 127.0.0.1\n  Port {port}\n")
            yield folder, mark
        finally:
            running.stdin.close()
            running.terminate()


@pytest.fixture(scope="module")
def running(machines: tuple[Path, str]) -> Iterator[Cluster]:
    home, mark = machines
    folder = deploy_helpers.certificates(home / "certificates")
    settings = {"DASK_CONFIG": str(folder / "dask.yaml")}
    (home / "hosts.txt").write_text("node0  # the scheduler\n\nnode1\n")
    options = ("--hosts", str(home / "hosts.txt"), "--interface", "lo")
    with deploy_helpers.cluster("ssh/run.py", *options, home=home, settings=settings, mark=mark) as cluster:
        yield cluster


def test_an_example_runs(running: Cluster) -> None:
    assert running.address.startswith("tls://127.0.0.1:")
    running.run_example()


def test_nothing_listens_beyond_the_interface(running: Cluster) -> None:
    found = deploy_helpers.listening(running.mark)
    assert "worker" in found
    assert set().union(*found.values()) == {"127.0.0.1"}


def test_the_host_file() -> None:
    run = deploy_helpers.load(RUN)
    assert run.hosts_in(DEPLOY / "ssh" / "hosts.txt") == ["node0", "node1", "node2"]


@pytest.mark.parametrize("text", ["", "# nobody\n", "node0\n"])
def test_too_few_hosts(text: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.txt").write_text(text)
    with pytest.raises(SystemExit, match="must name two hosts or more"):
        deploy_helpers.load(RUN).hosts_in(tmp_path / "hosts.txt")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("p.py",), "Dask's settings do not require TLS"),
        ((), "name a program"),
        (("--workers", "0", "p.py"), "must be at least 1"),
    ],
)
def test_bad_options(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    run = deploy_helpers.load(RUN)
    monkeypatch.setattr(sys, "argv", ["run.py", "--hosts", os.devnull, *arguments])
    with pytest.raises(SystemExit) as ended:
        run.options()
    assert ended.value.code == 2
    assert message in capsys.readouterr().err
