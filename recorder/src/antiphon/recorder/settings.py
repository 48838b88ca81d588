"""Where the recorder writes events first, and where it publishes them."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NATS_URL = "ANTIPHON_NATS_URL"
JOURNAL_DIR = "ANTIPHON_JOURNAL_DIR"

_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def default_journal_dir() -> Path:
    """Return the folder for journals in the user's state directory."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "antiphon" / "journals"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """The recorder's NATS URL and journal directory."""

    nats_url: str = "nats://127.0.0.1:4222"
    journal_dir: Path = field(default_factory=default_journal_dir)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "RecorderSettings":
        """Read the settings from the environment; unset variables have defaults.

        Raises ValueError, which names the variable.
        """
        settings = cls()
        nats_url = environment.get(NATS_URL, settings.nats_url)
        if not nats_url.startswith(_SCHEMES):
            raise ValueError(f"{NATS_URL} must start with {' or '.join(_SCHEMES)}")
        journal_dir = environment.get(JOURNAL_DIR, str(settings.journal_dir))
        if not journal_dir.strip():
            raise ValueError(f"{JOURNAL_DIR} must not be blank")
        return cls(nats_url=nats_url, journal_dir=Path(journal_dir))
