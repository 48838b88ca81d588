"""The settings of a command, read when it runs: its help needs none."""

import gc
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from antiphon.chassis.settings import LogSettings

Loaded = TypeVar("Loaded", bound="LogSettings")


def loaded(settings: type[Loaded]) -> Loaded:
    """Return the settings of a command, with logs and traces set up. Exits with 2 if they are wrong."""
    from antiphon.chassis import telemetry
    from antiphon.chassis.settings import load

    found = load(settings)
    telemetry.configure("persistence", found)
    gc.enable()  # all is imported
    return found
