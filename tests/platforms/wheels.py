"""Check that every requirement in requirements.lock has a wheel for each supported Python and platform.

    python -m tests.platforms.wheels

uv resolves the lock against the configured index, as an installation does, without downloading anything.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "requirements.lock"
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = ("x86_64-manylinux_2_28", "aarch64-manylinux_2_28", "aarch64-apple-darwin")
MACOS = "14.0"  # the oldest version with wheels for every requirement
SECONDS = 300.0


def fault(lock: Path, python: str, platform: str) -> str | None:
    """Return the error of resolving the lock with wheels only, or None."""
    with tempfile.TemporaryDirectory() as target:
        done = subprocess.run(
            [
                Path(sys.prefix) / "bin" / "uv", "pip", "install", "--dry-run", "--no-deps",
                "--require-hashes", "--only-binary=:all:",
                f"--python-version={python}", f"--python-platform={platform}",
                f"--target={target}", "--requirements", lock,
            ],
            env=os.environ | {"MACOSX_DEPLOYMENT_TARGET": MACOS},
            capture_output=True, text=True, timeout=SECONDS, check=False,
        )  # fmt: skip
    return done.stderr.strip() if done.returncode else None


def main() -> int:
    """Print one line for each Python and platform; return the exit code."""
    failed = 0
    for python in PYTHONS:
        for platform in PLATFORMS:
            why = fault(LOCK, python, platform)
            failed += why is not None
            print(f"Python {python}  {platform:<24}  {why or 'a wheel for every requirement'}", flush=True)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main())
