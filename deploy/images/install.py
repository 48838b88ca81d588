"""Install what an image holds, from the lock: run by the Dockerfiles, within the build.

    python -m deploy.images.install tools FOLDER          what builds wheels and lists components
    python -m deploy.images.install requirements SERVICE FOLDER
    python -m deploy.images.install packages SERVICE TOOLS FOLDER
    python -m deploy.images.install sbom SERVICE TOOLS FOLDER FILE

pip resolves the requirements of one service with the lock as its constraints, for the Python and the platform
of the image. What it downloaded is installed by the entries of the lock alone, with every hash checked.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deploy.images.declared import declared, normal

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
TOOLS = ("hatchling", "cyclonedx-bom")
TOOLS_LOCK = ROOT / "deploy/images/tools.lock"
SECONDS = 1200
ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(?:\[[^\]]*\])?(==[^\s;]+\s*(?:;[^\\]*)?)", re.MULTILINE)


class NotLocked(Exception):
    """The lock does not have what is needed."""


def entries_of(lock: str) -> dict[str, list[str]]:
    """Return the entries of a lock, with their hashes, by name; one for each marker."""
    found: dict[str, list[str]] = {}
    for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock):
        if match := ENTRY.match(entry):
            found.setdefault(normal(match[1]), []).append(entry.rstrip() + "\n")
    return found


def constraints_of(lock: str) -> str:
    """Return the versions of a lock without extras and hashes."""
    return "".join(f"{match[1]}{match[2].strip()}\n" for match in ENTRY.finditer(lock))


def locked(lock: str, found: Sequence[tuple[str, str]]) -> str:
    """Return the entries of the lock for these names and versions.

    Raises NotLocked for what the lock does not have.
    """
    entries = entries_of(lock)
    chosen, missing = [], []
    for name, version in sorted(found):
        known = entries.get(normal(name), [])
        matching = [entry for entry in known if entry.split()[0].partition("==")[2] == version]
        chosen += matching
        missing += [] if matching else [f"{name}=={version}"]
    if missing:
        raise NotLocked(f"the lock has no {', '.join(missing)}: run make lock")
    return "".join(chosen)


def install(requirements: Sequence[str], folder: Path, lock_file: Path = LOCK) -> None:
    """Make a virtual environment without pip, with these requirements and what they require."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder)
    pip = (sys.executable, "-m", "pip", "--python", folder / "bin" / "python")
    lock = lock_file.read_text()
    with tempfile.TemporaryDirectory() as name:
        constraints, wheels, chosen = (Path(name, each) for each in ("constraints", "wheels", "chosen"))
        constraints.write_text(constraints_of(lock))
        download = (
            "download",
            "--quiet",
            "--only-binary=:all:",
            "--dest",
            wheels,
            "--constraint",
            constraints,
        )
        _run(*pip, *download, *requirements)
        chosen.write_text(locked(lock, [resolved(wheel.name) for wheel in wheels.glob("*.whl")]))
        offline = (
            "install",
            "--quiet",
            "--no-index",
            "--find-links",
            wheels,
            "--no-deps",
            "--require-hashes",
        )
        _run(*pip, *offline, "--requirement", chosen)


def resolved(wheel: str) -> tuple[str, str]:
    """Return the name and the version in the name of a wheel."""
    name, version = wheel.split("-")[:2]
    return name, version.replace("_", "+")  # of a local version


def install_packages(service: str, tools: Path, folder: Path) -> None:
    """Build the packages of a service and install them under a folder, to be laid over its environment."""
    with tempfile.TemporaryDirectory() as wheels:
        build = ("-m", "pip", "--python", tools / "bin" / "python", "wheel", "--wheel-dir", wheels)
        offline = ("--quiet", "--no-deps", "--no-index", "--no-build-isolation")
        _run(sys.executable, *build, *offline, *declared(ROOT, service).folders)
        pip = ("-m", "pip", "--python", tools / "bin" / "python", "install", "--no-deps", "--no-index")
        # by name: of a path, pip and the list of components would keep the name of this temporary folder
        names = ["==".join(resolved(wheel.name)) for wheel in sorted(Path(wheels).glob("*.whl"))]
        _run(sys.executable, *pip, "--prefix", folder, "--find-links", wheels, *names)


def write_sbom(service: str, tools: Path, folder: Path, file: Path) -> None:
    """Check that the environment lacks nothing, and list it and the system's packages in CycloneDX."""
    python = folder / "bin" / "python"
    _run(sys.executable, "-m", "pip", "--python", python, "check")
    file.parent.mkdir(parents=True, exist_ok=True)
    project = declared(ROOT, service).folders[-1] / "pyproject.toml"
    options = ("--output-reproducible", "--of", "JSON", "--pyproject", project, "--output-file", file)
    _run(tools / "bin" / "cyclonedx-py", "environment", *options, python)
    document: dict[str, Any] = json.loads(file.read_text())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    document["metadata"]["component"]["version"] = version
    document["components"] += _system_components(python)
    file.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n")


def _system_components(python: Path) -> Iterator[dict[str, str]]:
    version = _output(python, "-c", "import platform; print(platform.python_version())").strip()
    yield {"type": "platform", "name": "python", "version": version, "bom-ref": f"python@{version}"}
    fields = "${Package} ${Version} ${Architecture}\\n"
    for line in _output("dpkg-query", "--show", f"--showformat={fields}").splitlines():
        name, version, architecture = line.split()
        purl = f"pkg:deb/debian/{name}@{quote(version, safe='')}?arch={architecture}"
        yield {"type": "library", "name": name, "version": version, "purl": purl, "bom-ref": purl}


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, timeout=SECONDS)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, check=True, timeout=60, capture_output=True, text=True).stdout


def main(arguments: Sequence[str]) -> None:
    """Run one command."""
    match arguments:
        case ["tools", folder]:
            install(TOOLS, Path(folder), TOOLS_LOCK)
        case ["requirements", service, folder]:
            install(declared(ROOT, service).requirements, Path(folder))
        case ["packages", service, tools, folder]:
            install_packages(service, Path(tools), Path(folder))
        case ["sbom", service, tools, folder, file]:
            write_sbom(service, Path(tools), Path(folder), Path(file))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (NotLocked, subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        sys.exit(f"deploy.images.install: {error}")
