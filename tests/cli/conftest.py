import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from antiphon.embedded import EmbeddedStack
from antiphon.settings import StackSettings, beside
from antiphon.stack.build import find_livekit

STUB_STACK = Path(__file__).parent / "stub_stack.py"


@pytest.fixture(scope="session")
def livekit_program() -> Path:
    """The livekit-server of our version; `make test` has built it."""
    return find_livekit(StackSettings().cache, print)


@pytest.fixture
def settings(tmp_path: Path) -> StackSettings:
    """Settings of a stack on free ports, in a folder of this test's own."""
    return beside(tmp_path / "home")


@pytest.fixture
def stub_stack(settings: StackSettings) -> Iterator[EmbeddedStack]:
    """A stack with real NATS, Postgres and LiveKit, and with small HTTP servers as its services."""
    stack = EmbeddedStack(settings, supervisor=(sys.executable, str(STUB_STACK)))
    yield stack
    stack.stop()
