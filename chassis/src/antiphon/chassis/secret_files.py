"""Secrets in files, as Docker and Kubernetes mount them: X_FILE names the file that holds the value of X."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from antiphon.chassis.library_log import get_logger

log = get_logger(__name__)

SUFFIX = "_FILE"
MAX_BYTES = 64 * 1024


class InvalidSecretFile(ValueError):
    """A file with a secret cannot be used; the message names the variable and contains no secret."""


def read_secret(variable: str, path: Path | str) -> str:
    """Return the text of a file without the line ends that follow it, and without a byte order mark.

    Raises InvalidSecretFile. `variable` is the one that names the file.
    """
    shown = f"{variable} is {shown_path(path)}"
    try:
        content = _content(path)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or "it is not a path"
        raise InvalidSecretFile(f"{shown}: it cannot be read ({reason})") from None
    if content is None:
        raise InvalidSecretFile(f"{shown}: it is not a regular file")
    if len(content) > MAX_BYTES:
        raise InvalidSecretFile(f"{shown}: it is larger than {MAX_BYTES} bytes")
    try:
        text = content.decode("utf-8-sig").rstrip("\r\n")  # editors of Windows put a mark in front
    except UnicodeDecodeError:
        raise InvalidSecretFile(f"{shown}: it is not UTF-8") from None
    if not text.strip():
        raise InvalidSecretFile(f"{shown}: it is empty")
    if "\0" in text:
        raise InvalidSecretFile(f"{shown}: it holds a NUL byte")
    return text


def _content(path: Path | str) -> bytes | None:
    # a pipe would block, and could not be read again
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        return file.read(MAX_BYTES + 1) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


def secret_of(environment: Mapping[str, str], name: str) -> str | None:
    """Return the value of a variable, or of the file that its `_FILE` names, as it is now; None without both.

    An empty variable counts as unset. Raises InvalidSecretFile, also when both are set.
    """
    value, path = environment.get(name), environment.get(f"{name}{SUFFIX}")
    if not path:
        return value or None
    if value:
        raise both_are_set(name)
    return read_secret(f"{name}{SUFFIX}", path)


def secret_or_none(environment: Mapping[str, str], name: str) -> str | None:
    """Return the value as `secret_of` does; for a file that cannot be used, log why and return None."""
    try:
        return secret_of(environment, name)
    except InvalidSecretFile as error:
        log.warning("secret.unusable", extra={"error": str(error)})
        return None


def both_are_set(name: str) -> InvalidSecretFile:
    """Return the error for a secret that is given twice."""
    return InvalidSecretFile(f"{name} and {name}{SUFFIX} are both set: set one of them")


def without_files_of(environment: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without the `_FILE` of each variable that is given to a process as a value."""
    files = {f"{name}{SUFFIX}" for name in given}
    return {name: value for name, value in environment.items() if name not in files}


def shown_path(path: Path | str) -> str:
    """Return a path as errors show it; hidden if it may be the secret itself, given in place of a path."""
    try:
        folder = Path(path).parent
        named = Path(path).is_absolute() and folder != Path("/") and folder.is_dir()
    except (OSError, ValueError):
        named = False
    return repr(str(path)) if named else "(hidden), not the absolute path of a file in a folder that exists"
