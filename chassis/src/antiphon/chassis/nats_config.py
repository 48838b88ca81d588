"""The users, accounts and limits of a NATS server: as data, and as its configuration."""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field

from antiphon.chassis.nats_users import LOG_ACCOUNT, OPERATOR, SUPERVISOR, Rights

SYSTEM_ACCOUNT = "SYS"
HEALTH = "$SYS.REQ.SERVER.PING.HEALTHZ"
API_INFO = "$JS.API.INFO"
ANSWER_SECONDS = 120  # in which a request may be answered
READ_SECONDS = 10  # after the last answer to a read, its reply subject is forgotten

Password = Callable[[str], str]  # of a user, as the configuration has it: quoted, or the name of a variable


@dataclass(frozen=True, slots=True)
class Limits:
    """What JetStream may take for the log and the buckets; -1 is what the server has."""

    memory_bytes: int = 16 << 20
    file_bytes: int = -1
    streams: int = 128
    consumers: int = 4096  # of one stream


@dataclass(frozen=True, slots=True)
class Share:
    """A subject that one account offers to others: a service is asked, a stream is heard."""

    subject: str
    service: bool
    many: bool = False  # answers to a request


@dataclass(frozen=True, slots=True)
class User:
    """A user and its permissions; None is everything."""

    name: str
    publish: tuple[str, ...] | None
    subscribe: tuple[str, ...] | None
    answers: bool = False  # may publish to the reply subjects of requests that it gets


@dataclass(slots=True)
class Account:
    """An account: what it offers to which accounts, what it takes from which account, and its users."""

    jetstream: Limits | None = None
    connections: int | None = None  # that it may have at once
    exports: dict[Share, list[str]] = field(default_factory=dict)
    imports: dict[Share, str] = field(default_factory=dict)
    users: list[User] = field(default_factory=list)


def variable_of(user: str) -> str:
    """Return the variable of the server's environment that holds the password of a user."""
    name = re.sub(r"[^A-Z0-9]", "_", user.upper())
    return f"$NATS_{'OPERATOR' if user == OPERATOR else name}_PASSWORD"


def accounts(users: Mapping[str, Rights], limits: Limits | None = None) -> dict[str, Account]:
    """Return all accounts by name; the one of the log is the first."""
    found = {LOG_ACCOUNT: Account(jetstream=limits or Limits())}
    for name, rights in users.items():
        account = found.setdefault(rights.account, Account(connections=rights.connections))
        everything = name == OPERATOR
        account.users.append(
            User(
                name,
                None if everything else rights.publish,
                None if everything else rights.subscribe(name),
                bool(rights.answers),
            )
        )
    for rights in users.values():
        for share, source in _taken(rights, users):
            found[rights.account].imports[share] = source
            takers = found[source].exports.setdefault(share, [])
            if rights.account not in takers:
                takers.append(rights.account)
    found[SYSTEM_ACCOUNT] = Account(users=[User(SUPERVISOR, (HEALTH,), (f"_INBOX.{SUPERVISOR}.>",))])
    return found


def _taken(rights: Rights, users: Mapping[str, Rights]) -> Iterator[tuple[Share, str]]:
    """Yield what the account of a user takes from others, and from which."""
    answering = {subject: other.account for other in users.values() for subject in other.answers}
    saying = {subject: other.account for other in users.values() for subject in other.says}
    if rights.account == LOG_ACCOUNT:
        everything = ">" in rights.asks
        heard = tuple(subject for subject in saying if everything or subject in rights.hears)
        asked = (subject for subject in answering if everything or subject in rights.asks)
        wanted = [Share(subject, service=True) for subject in asked]
    else:
        heard = rights.hears
        wanted = [Share(subject, service=True) for subject in rights.asks]
        wanted += [Share(subject, service=True, many=True) for subject in rights.reads]
        # Without it the server gives the account a JetStream API that answers everything with a refusal.
        wanted.append(Share(API_INFO, service=True))
    for share in wanted:
        yield from _from(share, answering.get(share.subject, LOG_ACCOUNT), rights)
    for subject in heard:
        yield from _from(Share(subject, service=False), saying.get(subject, LOG_ACCOUNT), rights)


def _from(share: Share, source: str, rights: Rights) -> Iterator[tuple[Share, str]]:
    if source != rights.account:
        yield share, source


def as_data(found: Mapping[str, Account]) -> str:
    """Return the accounts as JSON."""
    shown = {
        name: {
            "jetstream": None if account.jetstream is None else asdict(account.jetstream),
            "connections": account.connections,
            "exports": [asdict(share) | {"to": takers} for share, takers in account.exports.items()],
            "imports": [asdict(share) | {"from": source} for share, source in account.imports.items()],
            "users": [asdict(user) for user in account.users],
        }
        for name, account in found.items()
    }
    return json.dumps({"system_account": SYSTEM_ACCOUNT, "accounts": shown}, indent=2) + "\n"


def as_config(found: Mapping[str, Account], password: Password) -> str:
    """Return the part of the server's configuration with its accounts and users."""
    lines = ["accounts {"]
    for name, account in found.items():
        lines.append(f"  {json.dumps(name)} {{")
        if account.jetstream is not None:
            limits = account.jetstream
            lines.append(
                f"    jetstream {{ max_mem: {limits.memory_bytes}, max_file: {limits.file_bytes}, "
                f"max_streams: {limits.streams}, max_consumers: {limits.consumers} }}"
            )
        if account.connections is not None:
            lines.append(f"    limits {{ max_connections: {account.connections} }}")
        lines += _block("exports", (_export(share, to) for share, to in account.exports.items()))
        lines += _block("imports", (_import(share, source) for share, source in account.imports.items()))
        lines += _block("users", (_user(user, password(user.name)) for user in account.users))
        lines.append("  }")
    return "\n".join([*lines, "}", f"system_account: {SYSTEM_ACCOUNT}", ""])


def _block(name: str, entries: Iterable[str]) -> list[str]:
    shown = [f"      {entry}" for entry in entries]
    return [f"    {name}: [", *shown, "    ]"] if shown else []


def _kind(share: Share) -> str:
    return "service" if share.service else "stream"


def _export(share: Share, to: list[str]) -> str:
    many = f', response_type: "stream", threshold: "{READ_SECONDS}s"' if share.many else ""
    return f"{{ {_kind(share)}: {json.dumps(share.subject)}, accounts: {json.dumps(to)}{many} }}"


def _import(share: Share, source: str) -> str:
    return f"{{ {_kind(share)}: {{ account: {json.dumps(source)}, subject: {json.dumps(share.subject)} }} }}"


def _user(user: User, password: str) -> str:
    entry = f"user: {json.dumps(user.name)}, password: {password}"
    if user.publish is None or user.subscribe is None:
        return f"{{ {entry} }}"
    publish = json.dumps(user.publish) if user.publish else '{ deny: ">" }'
    responses = f', allow_responses: {{ max: 1, expires: "{ANSWER_SECONDS}s" }}' if user.answers else ""
    return (
        f"{{ {entry}, permissions: {{ publish: {publish}, "
        f"subscribe: {json.dumps(user.subscribe)}{responses} }} }}"
    )
