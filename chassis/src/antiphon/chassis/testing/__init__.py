"""Doubles that keep the real ones' promises: the same suite of tests runs over both."""

from antiphon.chassis.testing.clock import FixedClock
from antiphon.chassis.testing.ids import SequentialIds
from antiphon.chassis.testing.memory_bus import InMemoryBus

__all__ = ["FixedClock", "InMemoryBus", "SequentialIds"]
