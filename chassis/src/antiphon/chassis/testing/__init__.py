"""A bus in memory, for tests."""

from antiphon.chassis.testing.memory_bus import InMemoryBus

__all__ = ["InMemoryBus"]
