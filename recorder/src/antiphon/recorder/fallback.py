"""The settings of a recording whatever the environment holds: a wrong variable never ends the host's job."""

import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path

from antiphon.chassis.library_log import get_logger
from antiphon.contracts.ids import DEFAULT_TENANT, is_tenant
from antiphon.recorder.settings import (
    ENFORCE_LIMITS,
    JOURNAL_DIR,
    TENANT,
    RecorderSettings,
    default_journal_dir,
    limits_enforced,
)

log = get_logger(__name__)


def usable_settings(environment: Mapping[str, str] = os.environ) -> tuple[RecorderSettings, bool]:
    """Return the settings of the environment, and whether events can be published with them.

    Wrong variables are logged in one line. Without a usable NATS URL, events stay in the journal; in place of
    a wrong journal folder or tenant, the default one is used. Never raises.
    """
    try:
        return RecorderSettings.from_env(environment), True
    except ValueError as error:
        problem = str(error)
    journal_dir, tenant = _journal_dir(environment), environment.get(TENANT, DEFAULT_TENANT)
    tenant = tenant if is_tenant(tenant) else DEFAULT_TENANT
    settings = RecorderSettings(journal_dir=journal_dir, tenant=tenant)
    mended = {**environment, JOURNAL_DIR: str(journal_dir), TENANT: settings.tenant}
    try:
        limits_enforced(environment)
    except ValueError:
        mended[ENFORCE_LIMITS] = "true"
    publishes = True
    try:
        settings = RecorderSettings.from_env(mended)
    except ValueError as error:
        problem, publishes = str(error), False
    log.error(
        "recorder.settings_wrong" if publishes else "recorder.not_publishing",
        extra={"error": problem, "journal": str(settings.journal_dir), "tenant": settings.tenant},
    )
    return settings, publishes


def _journal_dir(environment: Mapping[str, str]) -> Path:
    folder = environment.get(JOURNAL_DIR, "")
    if folder.strip():
        return Path(folder)
    try:
        return default_journal_dir()
    except ValueError:  # a user without a home directory
        return _temporary_folder()


def _temporary_folder() -> Path:
    """Return the user's folder for journals among the temporary files, where others can plant folders too."""
    folder = Path(tempfile.gettempdir()) / f"antiphon-journals-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid():
            return folder
        return Path(tempfile.mkdtemp(prefix="antiphon-journals-"))
    except OSError:  # there is no place on disk: the journal is in memory
        return folder
