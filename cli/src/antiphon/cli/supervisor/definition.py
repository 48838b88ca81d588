from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from antiphon.cli.stack.child import Command
from antiphon.cli.stack.ports import PortUse

# nothing when ready, else why not
Probe = Callable[[], str | None]


@dataclass(frozen=True, slots=True)
class Service:
    """One process of the stack: how to start it, how to see that it is ready, what it binds."""

    name: str
    prepare: Callable[[], Command]  # may write files, may take a while
    probe: Probe  # one real round trip; may block
    ports: tuple[PortUse, ...]
    output: Path
