"""The users of the stack's own NATS server: one of the services, one of the supervisor's health probe."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private

FILE = "users.json"


@dataclass(frozen=True, slots=True)
class Login:
    """A user and its password."""

    user: str
    password: str = field(repr=False)

    def url(self, address: str) -> str:
        """Return an address with the login in it, for programs that take only a URL."""
        scheme, _, host = address.partition("://")
        return f"{scheme}://{self.user}:{self.password}@{host}"


class Passwords(msgspec.Struct, frozen=True):
    """The content of the file, with mode 0600."""

    services: str
    supervisor: str


@dataclass(frozen=True, slots=True)
class NatsUsers:
    """The users of one server; a password is text that a URL takes as it is."""

    services: Login  # the services, agents and commands: everything
    supervisor: Login  # the health of the server, and no messages

    @classmethod
    def stored(cls, directory: Path) -> "NatsUsers":
        """Return the users of a server's folder; the first call generates their passwords.

        Raises StackError when the file is damaged.
        """
        path = directory / FILE
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Passwords)
        except FileNotFoundError:
            found = Passwords(*(secrets.token_urlsafe(24) for _ in range(2)))
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, msgspec.json.encode(found).decode())
        except msgspec.MsgspecError:  # its message may quote the content
            raise StackError(f"{path} is damaged: delete it, and the next start makes a new one") from None
        return cls(Login("antiphon", found.services), Login("supervisor", found.supervisor))

    def config(self) -> str:
        """Return the part of the server's configuration.

        The first is in the account that a server without users has, so that a home from before keeps its
        streams. Permissions of subjects could not divide it: JetStream writes to any subject for its clients.
        """
        return (
            f"authorization {{ users: [{_entry(self.services)}] }}\n"
            f"accounts {{ $SYS {{ users: [{_entry(self.supervisor)}] }} }}\n"
        )


def _entry(login: Login) -> str:
    return f"{{ user: {json.dumps(login.user)}, password: {json.dumps(login.password)} }}"
