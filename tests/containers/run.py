"""Test images, the compose file, and the broker and database tests in containers, on an engine of our own.

    python -m tests.containers.run [--only images|backend] [--name NAME]

Starts an engine (`engine.py`), builds the base image and those of NATS, Postgres, LiveKit and Prometheus, and
runs pytest twice: `tests/containers`, and with TEST_BACKEND=containers the tests below. What it started is
gone at the end; the images and at most 4 GB of build cache stay for the next run, in the cache folder.
"""

import argparse
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.containers import engine, network, stand_in_images
from tests.containers.engine import Engine

from antiphon.cli.errors import StackError

ROOT = Path(__file__).parents[2]
IMAGES, BACKEND = "images", "backend"
# those that need a broker or a database most, and stop them
BACKEND_TESTS = (
    "tests/chassis/bus",
    "tests/chassis/test_database.py",
    "tests/chassis/test_health.py",
    "tests/persistence/ingest",
)
WORKERS = 2
SECONDS = {IMAGES: 3600.0, BACKEND: 1800.0}
STOP_SECONDS = 60.0  # for pytest to clean up


def main() -> int:
    """Run the parts and return the exit code."""
    options = _options()
    if why := engine.missing():
        print(f"test-containers: {why}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the engine stops
    parts = [options.only] if options.only else [IMAGES, BACKEND]
    try:
        with engine.running(options.name) as started:
            print(f"test-containers: the engine is ready: DOCKER_HOST={started.host}", flush=True)
            images = _build(started)
            failed = [part for part in parts if _run(part, started, images)]
    except (StackError, network.NoNetwork) as error:
        print(f"test-containers: {error}", file=sys.stderr)
        return 1
    kept = subprocess.run(
        ["du", "-sh", started.folder], capture_output=True, text=True, timeout=300, check=False
    )
    print(
        f"test-containers: the engine has stopped; kept for the next run: {kept.stdout.strip()}", flush=True
    )
    print(f"test-containers: {'failed: ' + ', '.join(failed) if failed else 'every part passed'}", flush=True)
    return min(len(failed), 1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="test-containers", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", choices=[IMAGES, BACKEND], help="one part")
    parser.add_argument("--name", default="tests", help="the name of the engine (tests): one run at a time")
    return parser.parse_args()


def _build(started: Engine) -> stand_in_images.Images:
    print("test-containers: building the images of NATS, Postgres, LiveKit and Prometheus", flush=True)
    began = time.monotonic()
    images = stand_in_images.build(started)
    print(f"test-containers: built in {time.monotonic() - began:.1f} s", flush=True)
    return images


def _run(part: str, started: Engine, images: stand_in_images.Images) -> bool:
    """Run one part; return whether it failed."""
    print(f"== {part} (at most {SECONDS[part]:g} s)", flush=True)
    chosen = ["tests/containers"] if part == IMAGES else ["-n", str(WORKERS), *BACKEND_TESTS]
    backend = {"TEST_BACKEND": "containers"} if part == BACKEND else {}
    began = time.monotonic()
    pytest = subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", *chosen],
        cwd=ROOT,
        env=started.environment | images.variables() | backend,
    )
    try:
        failed = pytest.wait(SECONDS[part]) != 0
    except subprocess.TimeoutExpired:
        print(f"test-containers: {part} did not finish in {SECONDS[part]:g} s", file=sys.stderr)
        failed = True
    finally:
        if pytest.poll() is None:
            pytest.send_signal(signal.SIGINT)
            try:
                pytest.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pytest.kill()
                pytest.wait(STOP_SECONDS)
    print(f"== {part}: {time.monotonic() - began:.1f} s", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
