"""No error of ours may reach the framework: LiveKit's emitter raises a handler's TypeError into the call."""

from collections.abc import Callable

import structlog

log = structlog.get_logger(__name__)


class Faults:
    """Catch, log and count the recorder's own errors."""

    def __init__(self) -> None:
        self.count = 0

    def guard(self, name: str, act: Callable[..., object]) -> Callable[..., None]:
        """Wrap a handler so that it returns None and raises nothing, whatever happens in it."""

        def guarded(*arguments: object) -> None:
            try:
                act(*arguments)
            except Exception:
                self.count += 1
                log.exception("recorder.fault", handler=name, faults=self.count)

        return guarded
