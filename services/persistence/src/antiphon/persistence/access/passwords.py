"""Passwords of logins: read from a file or the environment, and sent as verifiers that do not tell them."""

import base64
import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from antiphon.persistence.access.roles import Refused

VARIABLE = "ANTIPHON_ROLE_PASSWORDS"
ITERATIONS = 4096  # Postgres' default
SALT_BYTES = 16


def read_passwords(file: Path | None, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the password of each login, from a JSON object: of the file, or else of the variable.

    Raises Refused.
    """
    where = VARIABLE if file is None else str(file)
    try:
        text = environment.get(VARIABLE, "{}") if file is None else file.read_text("utf-8-sig")
    except (OSError, ValueError) as error:
        raise Refused(f"{where} cannot be read: {type(error).__name__}") from None
    try:
        found = json.loads(text)
    except ValueError:  # its message may quote the content
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise Refused(f'{where} must be a JSON object, as {{"login": "password"}}')
    for name, password in found.items():
        if not password or not password.isascii() or not password.isprintable():
            raise Refused(f"{where} has a password of {name} that is not printable ASCII")
    return found


def verifier(password: str, iterations: int = ITERATIONS) -> str:
    """Return what Postgres stores of a password (SCRAM-SHA-256): so it is in no statement, and in no log."""
    salt = secrets.token_bytes(SALT_BYTES)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${iterations}:{_base64(salt)}${_base64(stored)}:{_base64(server)}"


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
