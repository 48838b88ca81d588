"""Doubles that keep the real ones' promises: the same suite of tests runs over both."""

from chassis.testing.clock import FixedClock
from chassis.testing.ids import SequentialIds
from chassis.testing.memory_bus import InMemoryBus

__all__ = ["FixedClock", "InMemoryBus", "SequentialIds"]
