"""deploy/tls: certificates, and a cluster that lets in nobody without one of its own authority."""

from __future__ import annotations

import os
import socket
import ssl
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import deploy_helpers
import pytest
import yaml
from deploy_helpers import DEPLOY, Cluster
from distributed import Client
from distributed.security import Security

SCRIPT = DEPLOY / "tls" / "make-certificates.sh"
ROLES = ("scheduler", "worker", "client")


class Folders(NamedTuple):
    """The certificates of the cluster, and those of another one."""

    ours: Path
    others: Path


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    base = tmp_path_factory.mktemp("tls")
    return Folders(
        deploy_helpers.certificates(base / "our cluster"), deploy_helpers.certificates(base / "others")
    )


# --- what the script makes ----------------------------------------------------------------------------


def test_only_the_owner_can_read_the_private_keys(folders: Folders) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folders.ours.iterdir()}
    keys = {name for name in modes if name.endswith("-key.pem")}
    assert keys == {"ca-key.pem", *(f"{role}-key.pem" for role in ROLES)}
    assert {modes[name] for name in keys} == {0o600}
    assert set(modes) - keys == {"ca.pem", "dask.yaml", *(f"{role}.pem" for role in ROLES)}
    assert stat.S_IMODE(folders.ours.stat().st_mode) == 0o700
    assert set(folders.ours.parent.iterdir()) == set(folders)  # nothing beside it


def test_the_settings_name_the_files(folders: Folders) -> None:
    template = yaml.safe_load((DEPLOY / "tls" / "dask.yaml").read_text())
    settings = yaml.safe_load((folders.ours / "dask.yaml").read_text())
    comm = settings["distributed"]["comm"]
    assert comm["require-encryption"] is True
    assert comm["default-scheme"] == "tls"
    assert comm["tls"]["min-version"] == 1.3
    files = [comm["tls"]["ca-file"], *(comm["tls"][role][kind] for role in ROLES for kind in ("cert", "key"))]
    assert [Path(file).name for file in files] == [
        "ca.pem",
        *(f"{r}{k}.pem" for r in ROLES for k in ("", "-key")),
    ]
    assert {Path(file).parent for file in files} == {folders.ours}
    assert all(Path(file).is_file() for file in files)
    # But for the folder they are those of the containers.
    text = (folders.ours / "dask.yaml").read_text().replace(f"{folders.ours}/", "/etc/dask/tls/")
    assert yaml.safe_load(text) == template


def made(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", SCRIPT, *arguments], capture_output=True, text=True, timeout=60)


def test_a_folder_that_exists_is_left_alone(folders: Folders) -> None:
    before = {path: path.read_bytes() for path in folders.ours.iterdir()}
    done = made(str(folders.ours))
    assert done.returncode == 1
    assert "exists, and its keys may be in use" in done.stderr
    assert {path: path.read_bytes() for path in folders.ours.iterdir()} == before


@pytest.mark.parametrize(
    "arguments",
    [(), ("a", "1", "2"), ("a", "soon"), ("a", "0"), ("a", "-1"), ("a", "1.5"), ('a"b',), ("a:b",)],
)
def test_bad_arguments(arguments: tuple[str, ...], tmp_path: Path) -> None:
    rest = arguments[1:]
    done = made(*(str(tmp_path / name) for name in arguments[:1]), *rest)
    assert done.returncode == 2
    assert (
        "usage" in done.stderr
        or "must be a whole number" in done.stderr
        or "the path of FOLDER" in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    # An openssl that fails at the last certificate.
    tools = tmp_path / "bin"
    tools.mkdir()
    fake = tools / "openssl"
    fake.write_text(
        f'#!/bin/bash\ncase "$*" in *client.csr*) echo broken >&2; exit 1;; esac\n'
        f'PATH="{os.environ["PATH"]}" exec openssl "$@"\n'
    )
    fake.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tools}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", SCRIPT, tmp_path / "certificates"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "broken" in done.stderr
    assert list(tmp_path.iterdir()) == [tools]


# --- who may speak to whom: handshakes in memory ------------------------------------------------------


def context(role: str, authority: Path, identity: Path, listen: bool) -> ssl.SSLContext:
    """Dask's own, for a role, that trusts one authority and shows a certificate of another."""
    options = {"tls_ca_file": authority / "ca.pem", f"tls_{role}_cert": identity / f"{role}.pem"}
    options[f"tls_{role}_key"] = identity / f"{role}-key.pem"
    both = Security(require_encryption=True, **{name: str(path) for name, path in options.items()})
    return (both.get_listen_args if listen else both.get_connection_args)(role)["ssl_context"]


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> str:
    """The version of TLS that both agree on; the error of whoever refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        server.wrap_bio(to_server, to_client, server_side=True),
        client.wrap_bio(to_client, to_server, server_side=False),
    ]
    for _ in range(5):
        for end in ends:
            try:
                end.do_handshake()
                end.read(1)  # with TLS 1.3 a client hears only now that it was refused
            except ssl.SSLWantReadError:
                pass
    version = ends[1].version()
    assert version is not None
    return version


@pytest.mark.parametrize(
    ("listens", "connects"),
    [(a, b) for a in ("scheduler", "worker") for b in ROLES],
)
def test_those_who_belong_together_agree(listens: str, connects: str, folders: Folders) -> None:
    ours = folders.ours
    assert handshake(context(listens, ours, ours, True), context(connects, ours, ours, False)) == "TLSv1.3"


@pytest.mark.parametrize("connects", ROLES)
def test_a_certificate_of_another_authority_is_refused(connects: str, folders: Folders) -> None:
    ours, others = folders
    scheduler = context("scheduler", ours, ours, True)
    with pytest.raises(ssl.SSLCertVerificationError):  # by the scheduler
        handshake(scheduler, context(connects, ours, others, False))
    with pytest.raises(ssl.SSLCertVerificationError):  # by the client
        handshake(scheduler, context(connects, others, others, False))


def test_a_client_cannot_pose_as_a_scheduler(folders: Folders) -> None:
    ours = folders.ours
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        handshake(context("client", ours, ours, True), context("worker", ours, ours, False))


# --- a cluster ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, folders: Folders) -> Iterator[Cluster]:
    settings = {"DASK_CONFIG": str(folders.ours / "dask.yaml")}
    home = tmp_path_factory.mktemp("tls-local")
    with deploy_helpers.cluster("local/run.py", "--workers", "1", home=home, settings=settings) as cluster:
        yield cluster


def test_an_example_runs(running: Cluster) -> None:
    assert running.address.startswith("tls://")
    running.run_example()


def test_nothing_listens_beyond_loopback(running: Cluster) -> None:
    found = deploy_helpers.listening(running.mark)
    assert "worker" in found
    assert set().union(*found.values()) == {"127.0.0.1"}


def port(running: Cluster) -> int:
    return int(running.address.rpartition(":")[2])


def test_a_client_with_a_certificate_is_let_in(running: Cluster, folders: Folders) -> None:
    with Client(running.address, security=deploy_helpers.security(*[folders.ours] * 2)) as client:
        assert client.submit(abs, -1).result() == 1


@pytest.mark.parametrize(
    ("scheme", "trusted", "shown", "message"),
    [
        ("tcp", None, None, "closed|Timed out"),  # the scheduler hangs up, and the client tries again
        ("tls", "ours", "others", "closed|Timed out"),
        ("tls", "others", "others", "certificate does not match"),
    ],
    ids=["plain", "wrong certificate", "another cluster's"],
)
def test_other_clients_are_refused(
    scheme: str, trusted: str | None, shown: str | None, message: str, running: Cluster, folders: Folders
) -> None:
    security = None
    if trusted is not None and shown is not None:
        security = deploy_helpers.security(getattr(folders, trusted), getattr(folders, shown))
    address = f"{scheme}://127.0.0.1:{port(running)}"
    with pytest.raises(OSError, match=message), Client(address, security=security, timeout=1):
        pass


def test_bytes_without_encryption_are_refused(running: Cluster) -> None:
    with socket.create_connection(("127.0.0.1", port(running)), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n" * 8)
        received = b""
        try:
            while data := connection.recv(4096):
                received += data
        except ConnectionResetError:
            pass
    assert b"dask" not in received.lower()
    assert len(received) < 16  # an alert of TLS, or nothing


def test_no_certificate_is_refused(running: Cluster, folders: Folders) -> None:
    anonymous = ssl.create_default_context(cafile=str(folders.ours / "ca.pem"))
    anonymous.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port(running)), timeout=10) as connection,
        pytest.raises(ssl.SSLError, match="certificate required"),
        anonymous.wrap_socket(connection) as encrypted,
    ):
        encrypted.recv(1)
