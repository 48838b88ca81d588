"""Build the images of all services, print their sizes, and keep the list of components of each.

    python -m deploy.images.build --help

The configuration of pip on this machine (its index, its certificates) reaches the build as secrets, which
no layer keeps. The components are in each image, and in build/images/<service>.cdx.json, as CycloneDX.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.images import index_settings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "images"
SERVICES = {  # and the Dockerfile of each
    "session-api": "service.Dockerfile",
    "persistence": "service.Dockerfile",
    "webhook-ingest": "service.Dockerfile",
    "fleet": "service.Dockerfile",
    "agent-worker": "agent-worker.Dockerfile",
}
SBOM = "/opt/sbom/sbom.cdx.json"
GIB = 1 << 30
FREE_BYTES = 6 * GIB  # the images take less than two; the rest are the stages, and the cache of pip
BUILD_SECONDS = 3600.0
ASK_SECONDS = 120.0
PULL_SECONDS = 900.0
USABLE = "import sys, venv, ensurepip, ssl; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))"


class CannotBuild(Exception):
    """Why no image is built; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Built:
    """An image that was built."""

    name: str
    size: int
    seconds: float


class Docker:
    """The client of an engine."""

    def __init__(self, program: str) -> None:
        self.program = program
        self.environment = os.environ | {"DOCKER_BUILDKIT": "1"}

    def ask(self, *arguments: str, seconds: float = ASK_SECONDS) -> str:
        """Run a command; return what it prints. Raises CannotBuild."""
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env=self.environment, capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        except FileNotFoundError:
            raise CannotBuild(
                f"{self.program} is not installed: install Docker 20.10 or later, or name it with --docker"
            ) from None
        except subprocess.TimeoutExpired:
            raise CannotBuild(f"docker {arguments[0]} did not answer within {seconds:g} s") from None
        if done.returncode:
            raise CannotBuild(f"docker {arguments[0]} failed: {done.stderr.strip()}")
        return done.stdout.strip()

    def show(self, *arguments: str, seconds: float) -> int:
        """Run a command that prints its own progress; return its exit code."""
        return subprocess.run(
            [self.program, *arguments], env=self.environment, cwd=ROOT, timeout=seconds, check=False
        ).returncode


def check_engine(docker: Docker) -> None:
    """Check that an engine answers, and has room. Raises CannotBuild."""
    try:
        docker.ask("version", "--format", "{{.Server.Version}}")
    except CannotBuild as error:
        if "not installed" in str(error):
            raise
        raise CannotBuild(
            f"no Docker engine answers: start one, or set DOCKER_HOST to its address\n{error}"
        ) from None
    folder = Path(docker.ask("info", "--format", "{{.DockerRootDir}}"))
    if folder.is_dir():  # an engine elsewhere has a disk that is not seen from here
        check_disk(folder, shutil.disk_usage(folder).free)


def check_disk(folder: Path, free: int) -> None:
    """Check the free disk of an engine. Raises CannotBuild."""
    if free < FREE_BYTES:
        raise CannotBuild(
            f"{folder} has {free / GIB:.1f} GiB of free disk, and building the images needs "
            f"{FREE_BYTES / GIB:.0f} GiB: free some, as with docker builder prune"
        )


def check_base(docker: Docker, base: str) -> None:
    """Check that a base image has a Python that is supported. Raises CannotBuild."""
    try:
        docker.ask(
            "run", "--rm", "--network=none", "--entrypoint=python3", base, "-c", USABLE, seconds=PULL_SECONDS
        )
    except CannotBuild as error:
        raise CannotBuild(
            f"{base} is no usable base: it must be there or in a registry, and have Python 3.11 to 3.13 "
            f"with venv, ensurepip and ssl\n{error}"
        ) from None


def labels(source: str | None) -> dict[str, str]:
    """Return the build arguments of the labels: version, revision and source."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    revision = _git("rev-parse", "HEAD")
    if revision and _git("status", "--porcelain", "--untracked-files=no"):
        revision += "-modified"
    remote = source or _git("remote", "get-url", "origin")
    public = (
        remote if remote.startswith(("https://", "http://", "git@", "ssh://")) and "@" not in remote else ""
    )
    return {"VERSION": version, "REVISION": revision or "unknown", "SOURCE": source or public or "unknown"}


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-c", f"safe.directory={ROOT}", *arguments]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:  # an archive of the source, built where git is not installed
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def build(docker: Docker, service: str, name: str, options: Sequence[str]) -> Built:
    """Build one image. Raises CannotBuild."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    file = ["--file", str(FOLDER / SERVICES[service])]
    if SERVICES[service] == "service.Dockerfile":
        file += ["--build-arg", f"SERVICE={service}"]
    try:
        code = docker.show("build", *file, "--tag", name, *options, str(ROOT), seconds=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise CannotBuild(f"{name} was not built within {BUILD_SECONDS:g} s") from None
    if code:
        raise CannotBuild(
            f"{name} could not be built: the step that failed is above. If the client has no BuildKit, "
            "install its plugin buildx, or name another client with --docker"
        )
    size = int(docker.ask("image", "inspect", "--format", "{{.Size}}", name))
    return Built(name, size, time.monotonic() - began)


def keep_sbom(docker: Docker, name: str, file: Path) -> None:
    """Copy the list of components out of an image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    container = docker.ask("create", name)
    try:
        docker.ask("cp", f"{container}:{SBOM}", str(file))
    finally:
        docker.ask("rm", "--volumes", container)


def table(built: Sequence[Built]) -> str:
    """Return a table of names and sizes."""
    width = max(len(each.name) for each in built)
    lines = [f"{each.name:<{width}}  {each.size / 1e6:>8.0f} MB  {each.seconds:>7.1f} s" for each in built]
    return "\n".join([f"{'image':<{width}}  {'size':>11}  {'built in':>9}", *lines])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make images", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "services", nargs="*", metavar="SERVICE", help=f"{', '.join(SERVICES)}; all by default"
    )
    parser.add_argument("--base", help="the base image, in place of the one in the Dockerfiles")
    parser.add_argument(
        "--prefix", default="antiphon", help="the registry and folder of the names (antiphon)"
    )
    parser.add_argument("--tag", help="the tag; the version by default")
    parser.add_argument("--source", help="the URL of the source, for the label; the remote origin by default")
    parser.add_argument("--network", help="the network of the build, as host")
    parser.add_argument("--no-cache", action="store_true", help="build every stage")
    parser.add_argument("--docker", default="docker", help="the client's program")
    options = parser.parse_args()
    if unknown := [name for name in options.services if name not in SERVICES]:
        parser.error(f"no service is called {unknown[0]}: the services are {', '.join(SERVICES)}")
    return options


def _build_options(options: argparse.Namespace, arguments: Mapping[str, str], secrets: Path) -> list[str]:
    found = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    found += [f"--build-arg=BASE_IMAGE={options.base}"] if options.base else []
    found += [f"--network={options.network}"] if options.network else []
    found += ["--no-cache"] if options.no_cache else []
    return found + [f"--secret=id={file.name},src={file}" for file in index_settings.write(secrets)]


def run(options: argparse.Namespace) -> list[Built]:
    """Build the images. Raises CannotBuild."""
    docker = Docker(options.docker)
    check_engine(docker)
    if options.base:
        check_base(docker, options.base)
    arguments = labels(options.source)
    built = []
    with tempfile.TemporaryDirectory(prefix="antiphon-") as secrets:
        chosen = _build_options(options, arguments, Path(secrets))
        for service in options.services or SERVICES:
            name = f"{options.prefix}/{service}:{options.tag or arguments['VERSION']}"
            built.append(build(docker, service, name, chosen))
            keep_sbom(docker, name, ROOT / "build" / "images" / f"{service}.cdx.json")
    return built


def main() -> int:
    """Build, print the table; return the exit code."""
    try:
        built = run(_options())
    except CannotBuild as error:
        print(f"images: {error}", file=sys.stderr)
        return 1
    print(table(built))
    return 0


if __name__ == "__main__":
    sys.exit(main())
