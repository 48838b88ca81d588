"""The build of the images: what it refuses, and how it says so. The build itself is in tests/containers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from deploy.images import index_settings
from deploy.images.build import FOLDER, FREE_BYTES, SERVICES, Built, CannotBuild, check_disk, labels, table

ROOT = Path(__file__).parents[2]


def run(*arguments: str, host: str = "unix:///nowhere.sock") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "deploy.images.build", *arguments],
        cwd=ROOT, env={"DOCKER_HOST": host, "PATH": "/usr/bin:/bin"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def test_without_a_client_the_build_says_what_to_install() -> None:
    done = run("--docker", "no-such-docker")

    assert done.returncode == 1
    assert "images: no-such-docker is not installed: install Docker" in done.stderr


def test_without_an_engine_the_build_says_what_to_start(tmp_path: Path) -> None:
    client = tmp_path / "docker"
    client.write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2\nexit 1\n")
    client.chmod(0o755)

    done = run("--docker", str(client))

    assert done.returncode == 1
    assert "images: no Docker engine answers: start one, or set DOCKER_HOST" in done.stderr


def test_an_unknown_service_is_refused() -> None:
    done = run("session_api")

    assert done.returncode == 2
    assert "no service is called session_api: the services are session-api, " in done.stderr


def test_a_full_disk_is_refused_before_the_build() -> None:
    check_disk(Path("/data"), FREE_BYTES)
    with pytest.raises(
        CannotBuild, match=r"/data has 1\.0 GiB of free disk, and building .* 6 GiB: free some"
    ):
        check_disk(Path("/data"), 1 << 30)


def test_the_labels_name_no_path_of_a_machine() -> None:
    found = labels(None)

    assert found["VERSION"]
    assert not found["SOURCE"].startswith("/")
    assert labels("https://example.com/antiphon")["SOURCE"] == "https://example.com/antiphon"


def test_the_table_has_a_line_for_each_image() -> None:
    lines = table(
        [Built("antiphon/a:1", 210_000_000, 3.0), Built("antiphon/longer:1", 5_000_000, 1)]
    ).splitlines()

    assert lines[1].split() == ["antiphon/a:1", "210", "MB", "3.0", "s"]
    assert len({line.index("MB") for line in lines[1:]}) == 1


def bases(files: dict[str, str]) -> set[str]:
    """Return the default bases; each must be pinned by digest."""
    pinned = r"(?m)^ARG BASE_IMAGE=(\S+@sha256:[0-9a-f]{64})$"
    return {re.findall(pinned, text)[0] for text in files.values()}


def test_every_dockerfile_has_the_same_pinned_base() -> None:
    files = {name: (FOLDER / name).read_text() for name in sorted(set(SERVICES.values()))}

    assert len(files) == 2
    assert len(bases(files)) == 1
    with pytest.raises(IndexError):
        bases({"a": "ARG BASE_IMAGE=docker.io/library/python:3.13-slim\n"})


def test_the_image_of_each_service_starts_without_a_shell() -> None:
    text = (FOLDER / "service.Dockerfile").read_text()
    for service in SERVICES:
        if SERVICES[service] == "service.Dockerfile":
            assert f"FROM runtime AS {service}\n" in text
    for name in set(SERVICES.values()):
        run_time = re.findall(r"(?m)^\s*(?:ENTRYPOINT|CMD) (.)", (FOLDER / name).read_text())
        assert set(run_time) == {"["}, name


FIRST, SECOND = "https://one.example/a", "https://two.example/a"  # .example is a reserved name
LISTED = f"""\
:env:.cert='/etc/of-the-variable.pem'
:env:.default-timeout='180'
:env:.find-links='/srv/wheels'
global.cert='/etc/of-the-file.pem'
global.extra-index-url='{FIRST}\\n{SECOND}'
install.retries='7'
"""


def test_the_settings_of_pip_reach_the_build_without_paths() -> None:
    settings = index_settings.settings_of(LISTED)
    config = index_settings.config_of(settings, certificates=True)

    assert settings["cert"] == "/etc/of-the-variable.pem"
    assert config.splitlines() == [
        "[global]",
        f"extra-index-url = {FIRST} {SECOND}",
        "timeout = 180",
        "retries = 7",
        "cert = /run/secrets/ca.crt",
    ]
    assert index_settings.config_of({"find-links": "/srv/wheels"}, certificates=False) == ""
