"""The settings of the recorder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from antiphon.chassis import nats_access
from antiphon.chassis.nats_access import DEFAULT_NATS_URL, NatsAccess
from antiphon.contracts.ids import DEFAULT_TENANT, is_tenant

JOURNAL_DIR = "ANTIPHON_JOURNAL_DIR"
TENANT = "ANTIPHON_TENANT"
ENFORCE_LIMITS = "ANTIPHON_ENFORCE_LIMITS"

_OF_NATS = ("creds", "ca", "cert", "key", "url_file", "user_file", "password_file")
_FILES = tuple(f"nats_{name}" for name in _OF_NATS)
_SWITCH = {"true": True, "1": True, "false": False, "0": False}


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


def limits_enforced(environment: Mapping[str, str]) -> bool:
    """Return whether the limits of sessions are enforced, which is the default.

    Raises ValueError, which names the variable.
    """
    switch = environment.get(ENFORCE_LIMITS, "true").strip().lower()
    if switch not in _SWITCH:
        raise ValueError(f"{ENFORCE_LIMITS} must be true or false")
    return _SWITCH[switch]


def _read(variable: str, description: str | None = None) -> dict[str, str | None]:
    """Return what docs/reference/settings.md says of a field; a service describes those that it has too."""
    return {"variable": variable, "description": description}


@dataclass(frozen=True, slots=True, kw_only=True)
class RecorderSettings:
    """How the recorder reaches NATS, its journal directory, and the tenant of sessions that name none.

    With `enforce_limits` it ends calls at the limits that their request sets.
    A path may be a string. Raises ValueError for a tenant that is not at most 63 of a-z, 0-9 and -.
    """

    # may hold a password
    nats_url: str = field(default=DEFAULT_NATS_URL, repr=False, metadata=_read(nats_access.URL))
    journal_dir: Path = field(default_factory=default_journal_dir, metadata=_read(JOURNAL_DIR))
    tenant: str = field(
        default=DEFAULT_TENANT,
        metadata=_read(
            TENANT, "the tenant of sessions whose dispatch metadata names none: at most 63 of a-z, 0-9 and -"
        ),
    )
    enforce_limits: bool = field(
        default=True,
        metadata=_read(
            ENFORCE_LIMITS,
            "whether calls end at the limits that their request sets; agent-worker always enforces them",
        ),
    )
    nats_creds: Path | None = field(default=None, metadata=_read(nats_access.CREDS))
    nats_user: str | None = field(default=None, metadata=_read(nats_access.USER))
    nats_password: str | None = field(default=None, repr=False, metadata=_read(nats_access.PASSWORD))
    nats_ca: Path | None = field(default=None, metadata=_read(nats_access.CA))
    nats_cert: Path | None = field(default=None, metadata=_read(nats_access.CERT))
    nats_key: Path | None = field(default=None, metadata=_read(nats_access.KEY))
    nats_url_file: Path | None = field(default=None, metadata=_read(f"{nats_access.URL}_FILE"))
    nats_user_file: Path | None = field(default=None, metadata=_read(f"{nats_access.USER}_FILE"))
    nats_password_file: Path | None = field(default=None, metadata=_read(f"{nats_access.PASSWORD}_FILE"))

    def __post_init__(self) -> None:
        for name in ("journal_dir", *_FILES):
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, Path(path))
        if not is_tenant(self.tenant):
            raise ValueError(f"{TENANT} is {self.tenant!r}: a tenant is at most 63 of a-z, 0-9 and -")

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "RecorderSettings":
        """Read the settings from the environment; unset variables have defaults.

        Raises ValueError, which names the variable.
        """
        access = NatsAccess.from_env(environment)
        journal_dir = environment.get(JOURNAL_DIR)
        if journal_dir is not None and not journal_dir.strip():
            raise ValueError(f"{JOURNAL_DIR} must not be blank")
        return cls(
            enforce_limits=limits_enforced(environment),
            nats_url=access.url,
            journal_dir=default_journal_dir() if journal_dir is None else Path(journal_dir),
            tenant=environment.get(TENANT) or DEFAULT_TENANT,
            nats_creds=access.creds,
            nats_user=access.user,
            nats_password=access.password,
            nats_ca=access.ca,
            nats_cert=access.cert,
            nats_key=access.key,
            nats_url_file=access.url_file,
            nats_user_file=access.user_file,
            nats_password_file=access.password_file,
        )

    @property
    def nats(self) -> NatsAccess:
        """How to reach NATS.

        Raises ValueError, which names the variable.
        """
        return NatsAccess.from_settings(self)
