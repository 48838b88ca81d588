"""The users of the stack's own NATS server: one of each service, the operator's, and the health probe's."""

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from antiphon.chassis.nats_config import accounts, as_config
from antiphon.chassis.nats_users import LOG_ACCOUNT, OPERATOR, SERVICES, SUPERVISOR
from antiphon.cli.errors import StackError
from antiphon.cli.home import write_private

FILE = "users.json"
NO_ACCOUNT = "$G"  # the folder of what was stored on a server without accounts


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

    services: str  # of the operator, who was the user of all services in earlier versions
    supervisor: str
    users: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class NatsUsers:
    """The users of one server; a password is text that a URL takes as it is."""

    operator: Login  # commands: everything but the system account
    supervisor: Login  # the health of the server, and no messages
    services: dict[str, Login]

    @classmethod
    def stored(cls, directory: Path) -> "NatsUsers":
        """Return the users of a server's folder; passwords that it lacks are generated.

        Raises StackError when the file is damaged.
        """
        path = directory / FILE
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Passwords)
        except FileNotFoundError:
            found = Passwords(_password(), _password())
        except msgspec.MsgspecError:  # its message may quote the content
            raise StackError(f"{path} is damaged: delete it, and the next start makes a new one") from None
        names = [name for name in SERVICES if name != OPERATOR]
        if missing := {name: _password() for name in names if name not in found.users}:
            found = msgspec.structs.replace(found, users=found.users | missing)
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_private(path, msgspec.json.encode(found).decode())
        return cls(
            Login(OPERATOR, found.services),
            Login(SUPERVISOR, found.supervisor),
            {name: Login(name, found.users[name]) for name in names},
        )

    def config(self) -> str:
        """Return the part of the server's configuration."""
        logins = {OPERATOR: self.operator, SUPERVISOR: self.supervisor} | self.services
        return as_config(accounts(SERVICES), lambda user: json.dumps(logins[user].password))


def move_to_account(store: Path) -> None:
    """Move the streams of a server without accounts to that of the log, while no server runs.

    The server's own account for everybody cannot be given anything to offer. Raises StackError if it has
    streams and the other is there: which of them are wanted, only the user knows.
    """
    before, now = store / "jetstream" / NO_ACCOUNT, store / "jetstream" / LOG_ACCOUNT
    if not before.is_dir():
        return
    if not now.exists():
        before.rename(now)
    elif _has_streams(before):
        raise StackError(
            f"{before} has streams, and {now} is there too: a release from before NATS had accounts has run "
            "on this home after this one. Move the folder that you do not want to another place."
        )


def _has_streams(account: Path) -> bool:
    return any((account / "streams").glob("*"))


def _password() -> str:
    return secrets.token_urlsafe(24)
