"""Traces that a process switches on and off in turn, and what is measured with each."""

import asyncio
import signal
import statistics
from collections.abc import Iterator

import msgspec
from opentelemetry import trace

from antiphon.chassis import tracing

ON, OFF = signal.SIGUSR1, signal.SIGUSR2


class Samples(msgspec.Struct):
    """The same figure, measured with and without traces."""

    on: list[float]
    off: list[float]

    def of(self, traced: bool) -> list[float]:
        """Return the figures with traces, or those without."""
        return self.on if traced else self.off

    def compared(self) -> tuple[float, float]:
        """Return a figure with traces and its median without; its ratio to that is the median of the pairs'.

        What slows the machine down for a while slows down both figures of a pair.
        """
        ratio = statistics.median(on / off for on, off in zip(self.on, self.off, strict=True))
        baseline = statistics.median(self.off)
        return baseline * ratio, baseline


def in_turn(passes: int) -> Iterator[bool]:
    """Yield whether a pass has traces, so that what grows meanwhile slows both down alike."""
    for number in range(passes):
        yield from (True, False) if number % 2 else (False, True)


class SwitchedTraces:
    """The traces of this process, after `telemetry.configure`."""

    def __init__(self) -> None:
        self._configured = (trace._TRACER_PROVIDER, tracing.begins_here)

    def switch(self, on: bool) -> None:
        """Let the process have traces as it was configured, or as without an exporter."""
        # OpenTelemetry sets its provider only once
        trace._TRACER_PROVIDER, tracing.begins_here = self._configured if on else (None, None)

    def obey_signals(self) -> None:
        """Switch traces on and off by signals."""
        for number, on in ((ON, True), (OFF, False)):
            asyncio.get_running_loop().add_signal_handler(number, self.switch, on)
