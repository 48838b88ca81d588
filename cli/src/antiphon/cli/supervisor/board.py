import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from antiphon.cli.supervisor.state import Phase, ServiceState, State, Step, write_state


class Board:
    """Keep the state file true while the supervisor works."""

    def __init__(self, home: Path, state: State) -> None:
        self._home = home
        self.state = state
        self.write()

    def write(self) -> None:
        """Write the state as it is now."""
        write_state(self._home, self.state)

    def enter(self, phase: Phase, failure: str | None = None) -> None:
        """Note where the whole stack is."""
        self.state.phase, self.state.failure = phase, failure
        self.write()

    def show(self, service: ServiceState) -> None:
        """Add a service, or put another state in the place of the one with its name."""
        names = [known.name for known in self.state.services]
        if service.name in names:
            self.state.services[names.index(service.name)] = service
        else:
            self.state.services.append(service)
        self.write()

    @contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Note that a step of the way up runs, and how it ended."""
        step = next(step for step in self.state.steps if step.name == name)
        began = time.monotonic()
        step.progress = "running"
        self.write()
        try:
            yield step
        except BaseException:
            step.progress = "failed"
            raise
        else:
            step.progress = "done"
        finally:
            step.seconds = round(time.monotonic() - began, 3)
            self.write()
