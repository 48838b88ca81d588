"""The settings of the recorder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

NATS_URL = "ANTIPHON_NATS_URL"
JOURNAL_DIR = "ANTIPHON_JOURNAL_DIR"

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"

_SCHEMES = ("nats://", "tls://", "ws://", "wss://")


def default_journal_dir() -> Path:
    """Return the folder for journals in the user's state directory.

    Raises ValueError for a user without a home directory.
    """
    state = os.environ.get("XDG_STATE_HOME")
    try:
        folder = Path(state) if state else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise ValueError(f"{JOURNAL_DIR} is not set, and the user has no home directory") from error
    return folder / "antiphon" / "journals"


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """The recorder's NATS URL and journal directory."""

    nats_url: str = DEFAULT_NATS_URL
    journal_dir: Path = field(default_factory=default_journal_dir)

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "RecorderSettings":
        """Read the settings from the environment; unset variables have defaults.

        Raises ValueError, which names the variable.
        """
        nats_url = environment.get(NATS_URL, DEFAULT_NATS_URL)
        if not nats_url.startswith(_SCHEMES):
            raise ValueError(f"{NATS_URL} must start with {' or '.join(_SCHEMES)}")
        journal_dir = environment.get(JOURNAL_DIR)
        if journal_dir is None:
            return cls(nats_url=nats_url)
        if not journal_dir.strip():
            raise ValueError(f"{JOURNAL_DIR} must not be blank")
        return cls(nats_url=nats_url, journal_dir=Path(journal_dir))
