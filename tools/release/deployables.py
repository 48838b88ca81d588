"""The images and charts of a release, made where their tools are; elsewhere, why they are missing."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.release.version import ROOT, chart_version

HELM = "ANTIPHON_HELM"  # a helm that is not on the path
ENGINE_SECONDS = 20
BUILD_SECONDS = 3600
PACKAGE_SECONDS = 120
FETCH_SECONDS = 300  # the charts of others
CHARTS = Path("deploy") / "helm"
IMAGES = Path("deploy") / "images"
IMAGE_PREFIX = "antiphon"  # as `make images` names them
VERSION_LABEL = "org.opencontainers.image.version"


class Missing(Exception):
    """What cannot be made here, and why."""


def charts(folder: Path, version: str, root: Path = ROOT) -> dict[str, str]:
    """Package the charts into a folder, in the version of the release.

    Returns which one is left out, and why: charts of others that it needs are fetched, into a copy. Raises
    Missing without helm or charts, RuntimeError with what helm says.
    """
    found = sorted(path.parent for path in (root / CHARTS).glob("*/Chart.yaml"))
    if not found:
        raise Missing(f"no charts in {CHARTS}")
    helm = os.environ.get(HELM) or shutil.which("helm")
    if helm is None:
        raise Missing(f"no helm on the path: install it, or set {HELM}")
    folder.mkdir(parents=True, exist_ok=True)
    versions = ("--version", chart_version(version), "--app-version", version)
    left_out = {}
    with tempfile.TemporaryDirectory(prefix="charts") as text:
        copy = Path(text) / "helm"
        # a chart finds its neighbour beside it; what was fetched before into the checkout may be old
        shutil.copytree(root / CHARTS, copy, ignore=shutil.ignore_patterns("charts", "Chart.lock"))
        for chart in (copy / path.name for path in found):
            try:
                _run([helm, "dependency", "update", str(chart)], FETCH_SECONDS)
            except (RuntimeError, subprocess.TimeoutExpired) as error:
                left_out[f"chart {chart.name}"] = f"the charts that it needs were not fetched: {error}"
                continue
            _run([helm, "package", str(chart), *versions, "--destination", str(folder)], PACKAGE_SECONDS)
    return left_out


def images(version: str, root: Path = ROOT, base: str | None = None) -> list[dict[str, str]]:
    """Build the images as `make images` does; return the name, id and size of what was made.

    Raises Missing without an engine or Dockerfiles, RuntimeError with what the engine says.
    """
    if not list((root / IMAGES).glob("*.Dockerfile")):
        raise Missing(f"no Dockerfile in {IMAGES}")
    docker = shutil.which("docker")
    if docker is None:
        raise Missing("no docker on the path")
    if subprocess.run([docker, "info"], capture_output=True, timeout=ENGINE_SECONDS, check=False).returncode:
        raise Missing("no Docker engine answers: start one, or set DOCKER_HOST")
    # not by make, which would hand its ARGS on
    build = [sys.executable, "-m", "deploy.images.build", *(["--base", base] if base else [])]
    if subprocess.run(build, cwd=root, timeout=BUILD_SECONDS, check=False).returncode:
        raise RuntimeError("the images were not built: make images says the same")
    listed = _run(
        [
            docker,
            "images",
            "--no-trunc",
            "--format",
            "{{json .}}",
            "--filter",
            f"label={VERSION_LABEL}={version}",
            "--filter",
            f"reference={IMAGE_PREFIX}/*:{version}",  # others have the label too: tests, other products
        ],
        ENGINE_SECONDS,
    )
    return [
        {"name": f"{row['Repository']}:{row['Tag']}", "id": row["ID"], "size": row["Size"]}
        for row in map(json.loads, listed.splitlines())
    ]


def _run(command: list[str], seconds: float) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        # helm says on standard output which chart it did not get, and on standard error what it lacks then
        gets = [line.strip() for line in done.stdout.splitlines() if line.startswith("\tGet ")]
        program = f"{Path(command[0]).name} {command[1]}"
        raise RuntimeError(f"{program} failed: {gets[0] if gets else done.stderr.strip()}")
    return done.stdout
