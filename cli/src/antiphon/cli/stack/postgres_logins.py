"""The logins of the services on the stack's own Postgres: the access of each, and its password."""

import secrets
from pathlib import Path
from types import MappingProxyType

import msgspec

from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private

FILE = "logins.json"
PERSISTENCE, SESSION_API = "persistence", "session_api"
KINDS = MappingProxyType({PERSISTENCE: "ingest,projections", SESSION_API: "reader"})
VARIABLE = "ANTIPHON_ROLE_PASSWORDS"


class PostgresLogins:
    """The logins of one server; a password is text that a DSN takes as it is."""

    def __init__(self, passwords: dict[str, str]) -> None:
        self._passwords = passwords

    @classmethod
    def stored(cls, directory: Path) -> "PostgresLogins":
        """Return the logins of a server's folder; the first call generates their passwords.

        Raises StackError when the file is damaged.
        """
        path = directory / FILE
        try:
            found = msgspec.json.decode(path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            found = {}
        except msgspec.MsgspecError:  # its message may quote the content
            raise StackError(f"{path} is damaged: delete it, and the next start makes a new one") from None
        made = {name: found.get(name) or secrets.token_urlsafe(24) for name in KINDS}
        if made != found:
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, msgspec.json.encode(made).decode())
        return cls(made)

    def dsn(self, owner_dsn: str, login: str) -> str:
        """Return the DSN of a login, given that of the owner of the database."""
        scheme, _, rest = owner_dsn.partition("://")
        return f"{scheme}://{login}:{self._passwords[login]}@{rest.rpartition('@')[2]}"

    def arguments(self) -> tuple[str, ...]:
        """Return the arguments of the command that makes the logins."""
        logins = (argument for name, kinds in KINDS.items() for argument in ("--login", f"{name}={kinds}"))
        return ("roles", *logins, "--apply")

    def variables(self) -> dict[str, str]:
        """Return the variable that gives their passwords to that command."""
        return {VARIABLE: msgspec.json.encode(self._passwords).decode()}
