"""The images, built once, and the platform of the compose file, started once; an engine must run.

    python -m tests.containers.engine -- .venv/bin/pytest tests/containers

The variables TEST_…_IMAGE name the images of the base and the servers. Without them they are built here.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from deploy import compose_env
from deploy.images.build import SERVICES, Docker
from tests.containers import base_image, network, stand_in_images
from tests.containers.engine import Engine

from antiphon.cli.stack.ports import free_port

ROOT = Path(__file__).parents[2]
PREFIX = "antiphon.test"
BUILD_SECONDS = 2400.0
UP_SECONDS = 900.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests of this folder their own deadline: the first of them waits for the images."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.timeout(BUILD_SECONDS + UP_SECONDS))


@pytest.fixture(scope="session")
def engine() -> Engine:
    """The engine that runs, by DOCKER_HOST: its folder has its network too."""
    host = os.environ.get("DOCKER_HOST", "")
    folder = Path(host.removeprefix("unix://")).parent
    if not host.startswith("unix://") or not (folder / "network").exists():
        pytest.exit("no engine runs: make test-containers starts one", returncode=1)
    return Engine(folder, network.Network(int((folder / "network").read_text()), 1500))


@pytest.fixture(scope="session")
def docker(engine: Engine) -> Docker:
    return Docker("docker")


@pytest.fixture(scope="session")
def servers(engine: Engine) -> Mapping[str, str]:
    """The names of the images of the servers and of the base, by the variables that name them."""
    servers = ("NATS", "POSTGRES", "LIVEKIT", "PROMETHEUS")
    names = ("TEST_BASE_IMAGE", *(f"TEST_{server}_IMAGE" for server in servers))
    if all(name in os.environ for name in names):
        return {name: os.environ[name] for name in names}
    return stand_in_images.build(engine).variables()


@pytest.fixture(scope="session")
def base(engine: Engine) -> str:
    return os.environ.get("TEST_BASE_IMAGE") or base_image.load(engine)


@pytest.fixture(scope="session")
def images(docker: Docker, base: str) -> dict[str, str]:
    """Build all images, as `make images` does; return their names by service."""
    command = [
        sys.executable,
        "-m",
        "deploy.images.build",
        "--base",
        base,
        "--prefix",
        PREFIX,
        "--tag",
        "tests",
    ]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=BUILD_SECONDS, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    print(done.stdout[done.stdout.rindex("image ") :])  # the table of sizes
    return {service: f"{PREFIX}/{service}:tests" for service in SERVICES}


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform of the compose file, as it runs."""

    variables: Mapping[str, str]
    command: tuple[str, ...]

    def compose(self, *arguments: str, seconds: float = UP_SECONDS) -> str:
        """Run compose; return what it prints on standard output."""
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-5000:]
        return done.stdout

    def container(self, service: str) -> str:
        """Return the id of a service's container."""
        return self.compose("ps", "--all", "--quiet", service, seconds=120).strip()

    def antiphon(self, *arguments: str, seconds: float = 400.0) -> subprocess.CompletedProcess[str]:
        """Run the command of a user on this machine."""
        api = {
            "ANTIPHON_API_URL": f"http://127.0.0.1:{self.variables['ANTIPHON_API_PORT']}",
            "ANTIPHON_API_KEY": self.variables["ANTIPHON_API_KEY"],
        }
        return subprocess.run(
            [Path(sys.executable).with_name("antiphon"), *arguments],
            cwd=ROOT, env=os.environ | api, capture_output=True, text=True, timeout=seconds, check=False,
        )  # fmt: skip


@cache
def programs() -> Mapping[str, tuple[str, ...]]:
    """Every Compose of this machine, by its version: 2 and later before 1.29."""
    found: dict[str, tuple[str, ...]] = {}
    folders = os.environ["PATH"].split(os.pathsep)
    commands = [("docker", "compose"), *((str(Path(folder, "docker-compose")),) for folder in folders)]
    for command in commands:
        if shutil.which(command[0]) is None:
            continue
        asked = subprocess.run(
            [*command, "version", "--short"], capture_output=True, text=True, timeout=60, check=False
        )
        if asked.returncode == 0:
            found.setdefault(asked.stdout.strip().removeprefix("v"), command)
    newest_first = dict(sorted(found.items(), key=lambda each: each[0].startswith("1.")))
    return newest_first or {"missing": ("docker-compose",)}


@contextmanager
def running(
    program: tuple[str, ...], project: str, variables: Mapping[str, str], file: Path, *services: str
) -> Iterator[Platform]:
    """Start services with `compose up`, all of them by default; remove them with their volumes."""
    compose_env.write(file, variables)
    options = ("-f", "deploy/compose.yaml", "--env-file", str(file), "-p", project)
    platform = Platform(variables, (*program, *options))
    try:
        platform.compose("up", "-d", *services)
        yield platform
    finally:
        platform.compose("down", "--volumes", "--timeout", "10")


@pytest.fixture(scope="session")
def variables(engine: Engine, servers: Mapping[str, str]) -> dict[str, str]:
    """The variables of a platform with the images of the tests, on ports that are free."""
    address = engine.network.gateway  # of this machine, on a bridge of the engine: nobody else reaches it
    ports = (
        "ANTIPHON_API_PORT", "ANTIPHON_FLEET_PORT", "LIVEKIT_PORT", "LIVEKIT_UDP_PORT", "LIVEKIT_TCP_PORT",
        "PROMETHEUS_PORT",
    )  # fmt: skip
    chosen = {name: str(free_port()) for name in ports}
    return compose_env.variables(address, cluster=False, metrics=False) | {
        **chosen,
        "COMPOSE_PROFILES": "fleet,metrics",
        "ANTIPHON_IMAGES": PREFIX,
        "ANTIPHON_VERSION": "tests",
        "NATS_IMAGE": servers["TEST_NATS_IMAGE"],
        "POSTGRES_IMAGE": servers["TEST_POSTGRES_IMAGE"],
        "LIVEKIT_IMAGE": servers["TEST_LIVEKIT_IMAGE"],
        "PROMETHEUS_IMAGE": servers["TEST_PROMETHEUS_IMAGE"],
        "LIVEKIT_BIND": address,
        "ANTIPHON_LIVEKIT_PUBLIC_URL": f"ws://127.0.0.1:{chosen['LIVEKIT_PORT']}",
        "ANTIPHON_AGENT_LOAD_THRESHOLD": "inf",  # a busy machine must not refuse calls
        "ANTIPHON_AGENT_DRAIN_TIMEOUT_SECONDS": "90",
        "ANTIPHON_STREAM_MAX_BYTES": str(256 << 20),
    }


@pytest.fixture(scope="session")
def platform(
    images: dict[str, str], variables: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """Everything that the compose file starts with one broker, from new secrets."""
    newest = next(iter(programs().values()))
    with running(newest, "antiphontests", variables, tmp_path_factory.mktemp("compose") / "env") as platform:
        yield platform
