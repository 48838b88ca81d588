"""The users of the stack's own NATS server: their passwords, and what each of them may do."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private

FILE = "users.json"

# agent-worker and webhook-ingest may not write API keys, nor make, empty or delete a stream
DENIED_TO_CALLS = (
    "$KV.keys.>",
    "$JS.API.STREAM.CREATE.>",
    "$JS.API.STREAM.UPDATE.>",
    "$JS.API.STREAM.DELETE.>",
    "$JS.API.STREAM.PURGE.>",
    "$JS.API.STREAM.RESTORE.>",
    "$JS.API.STREAM.MSG.DELETE.>",
    "$JS.API.CONSUMER.RESET.>",
)


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
    calls: str
    supervisor: str


@dataclass(frozen=True, slots=True)
class NatsUsers:
    """The users of one server; a password is text that a URL takes as it is."""

    services: Login  # persistence, session-api, commands: everything
    calls: Login  # agent-worker, webhook-ingest
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
            found = Passwords(*(secrets.token_urlsafe(24) for _ in range(3)))
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, msgspec.json.encode(found).decode())
        except msgspec.MsgspecError:  # its message may quote the content
            raise StackError(f"{path} is damaged: delete it, and the next start makes a new one") from None
        return cls(
            Login("antiphon", found.services),
            Login("calls", found.calls),
            Login("supervisor", found.supervisor),
        )

    def config(self) -> str:
        """Return the part of the server's configuration.

        The first two are in the account that a server without users has, so that a home from before keeps
        its streams.
        """
        denied = json.dumps({"publish": {"deny": list(DENIED_TO_CALLS)}})
        return (
            "authorization { users: [\n"
            f"  {_entry(self.services)} }}\n"
            f"  {_entry(self.calls)}, permissions: {denied} }}\n"
            "] }\n"
            f"accounts {{ $SYS {{ users: [{_entry(self.supervisor)} }}] }} }}\n"
        )


def _entry(login: Login) -> str:
    return f"{{ user: {json.dumps(login.user)}, password: {json.dumps(login.password)}"
