"""The API key from the environment, or from the file that ANTIPHON_API_KEY_FILE names.

The rules are those of the services: line ends at the end are not part of the key.
"""

import os
import stat
from collections.abc import Mapping

from antiphon.client.errors import InvalidClientSettings

KEY_VARIABLE = "ANTIPHON_API_KEY"
FILE_VARIABLE = f"{KEY_VARIABLE}_FILE"
MAX_BYTES = 64 * 1024


def key_of(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return the API key; None if neither the key nor a file is named.

    Raises InvalidClientSettings, which names the variable and shows nothing of the file.
    """
    key, path = environment.get(KEY_VARIABLE), environment.get(FILE_VARIABLE)
    if key and path:
        raise InvalidClientSettings(f"{KEY_VARIABLE} and {FILE_VARIABLE} are both set: set one of them")
    return _read(path) if path else key or None


def _read(path: str) -> str:
    try:
        # a pipe would block
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            regular = stat.S_ISREG(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_BYTES + 1) if regular else b""
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise InvalidClientSettings(f"the file of {FILE_VARIABLE} cannot be read ({reason})") from None
    if not regular or len(content) > MAX_BYTES:
        raise InvalidClientSettings(f"{FILE_VARIABLE} must name a regular file of at most {MAX_BYTES} bytes")
    key = content.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if not key:
        raise InvalidClientSettings(f"the file of {FILE_VARIABLE} is empty")
    return key
