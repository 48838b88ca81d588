import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.fixtures.stack_settings import isolated_settings

from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.settings import StackSettings
from antiphon.cli.stack.livekit_build import find_livekit


@pytest.fixture(scope="session")
def livekit_program() -> Path:
    """The pinned livekit-server; `make test` builds it before."""
    return find_livekit(StackSettings().cache, print)


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """Settings of a stack on free ports in the test's folder, with a name that programs may stumble over."""
    return isolated_settings(tmp_path / "my höme dir")


@pytest.fixture(scope="session")
def stub_supervisor() -> tuple[str, ...]:
    """The command of a supervisor whose services are small HTTP servers."""
    return sys.executable, str(Path(__file__).parent / "stub_stack.py")


@pytest.fixture
def stub_stack(settings: StackSettings, stub_supervisor: tuple[str, ...]) -> Iterator[EmbeddedStack]:
    """A stack with real NATS, Postgres and LiveKit, and with small HTTP servers as its services."""
    stack = EmbeddedStack(settings, supervisor=stub_supervisor)
    yield stack
    stack.stop()
