"""The settings of the recorder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from antiphon.contracts.tenant import DEFAULT_TENANT, is_tenant

NATS_URL = "ANTIPHON_NATS_URL"
JOURNAL_DIR = "ANTIPHON_JOURNAL_DIR"
TENANT = "ANTIPHON_TENANT"

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
    """The recorder's NATS URL and journal directory, and the tenant of sessions whose dispatch names none.

    Raises ValueError for a tenant that is not at most 63 of a-z, 0-9 and -.
    """

    nats_url: str = DEFAULT_NATS_URL
    journal_dir: Path = field(default_factory=default_journal_dir)
    tenant: str = DEFAULT_TENANT

    def __post_init__(self) -> None:
        if not is_tenant(self.tenant):
            raise ValueError(f"{TENANT} is {self.tenant!r}: a tenant is at most 63 of a-z, 0-9 and -")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "RecorderSettings":
        """Read the settings from the environment; unset variables have defaults.

        Raises ValueError, which names the variable.
        """
        nats_url = environment.get(NATS_URL, DEFAULT_NATS_URL)
        _check_url(nats_url)
        tenant = environment.get(TENANT, DEFAULT_TENANT)
        journal_dir = environment.get(JOURNAL_DIR)
        if journal_dir is None:
            return cls(nats_url=nats_url, tenant=tenant)
        if not journal_dir.strip():
            raise ValueError(f"{JOURNAL_DIR} must not be blank")
        return cls(nats_url=nats_url, journal_dir=Path(journal_dir), tenant=tenant)


def _check_url(urls: str) -> None:
    # the message shows no part of the value: a mistyped URL can hold a password anywhere
    for url in urls.split(","):
        if not url.strip().startswith(_SCHEMES):
            raise ValueError(f"{NATS_URL} must start with {' or '.join(_SCHEMES)}")
        try:
            parts = urlsplit(url.strip())
            complete = bool(parts.hostname) and parts.port != 0
        except ValueError:  # of the port, or of an IPv6 address
            complete = False
        if not complete:
            raise ValueError(f"{NATS_URL} is not a URL such as nats://host:4222")
