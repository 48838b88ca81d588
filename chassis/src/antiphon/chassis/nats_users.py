"""What each user of the broker may do: the subjects of its work and no others, derived from the contracts.

JetStream writes its answer to whatever reply subject a request names, so permissions on subjects alone do not
limit a user with the right to send any request. Such a user therefore has an account of its own, in which a
reply reaches only what the user may publish itself; the account of the log serves it subject by subject. In
the account of the log are users without requests, and three that are trusted with all of it: the operator,
persistence and session-api.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from antiphon.contracts.event import Family
from antiphon.contracts.flows import FLOW_CHECK, FLOW_CHECKERS
from antiphon.contracts.ids import is_tenant
from antiphon.contracts.streams import (
    AUDIT,
    BUCKETS,
    CONSUMERS,
    DEPLOYMENT,
    FLOW_DRAFTS,
    FLOWS,
    KEYS,
    ROOMS,
    SESSIONS,
    BucketDefinition,
)
from antiphon.contracts.subjects import PARTITIONS, PROBE, committed_filter
from antiphon.contracts.workers import ALL_WORKERS

LOG_ACCOUNT = "ANTIPHON"  # has JetStream, the streams and the buckets
OPERATOR = "antiphon"
SUPERVISOR = "supervisor"  # of the system account: the health of the server
ROUND_TRIP = "antiphon.nobody"  # nobody subscribes to it
CONNECTIONS = 64  # of a consumer: else one could take all that the server has

_CONSUMER = re.compile(r"[A-Za-z0-9_-]{1,48}")
_API = "$JS.API"


class InvalidName(ValueError):
    """A tenant or consumer has a name that is not one token of a subject."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rights:
    """What a user may do, in subjects; and the connections of its account, or None without a limit."""

    account: str = LOG_ACCOUNT
    connections: int | None = None
    asks: tuple[str, ...] = ()  # what gets one answer: stored messages, calls of the JetStream API, acks
    reads: tuple[str, ...] = ()  # what gets many: direct gets, pulls
    says: tuple[str, ...] = ()  # to those who listen at the moment
    hears: tuple[str, ...] = ()  # what others say or store
    answers: tuple[str, ...] = ()  # the requests of others
    inbox: bool = True

    @property
    def publish(self) -> tuple[str, ...]:
        """The subjects that the user may publish to."""
        round_trip = (ROUND_TRIP,) if self.inbox else ()
        return (*self.asks, *self.reads, *self.says, *round_trip)

    def subscribe(self, user: str) -> tuple[str, ...]:
        """Return the subjects that the user may subscribe to; `name group` is for the members of a group."""
        inbox = (f"_INBOX.{user}.>",) if self.inbox else ()
        return (*self.hears, *(f"{subject} {FLOW_CHECKERS}" for subject in self.answers), *inbox)


def _events(families: Iterable[Family]) -> tuple[str, ...]:
    return tuple(f"sessions.*.*.*.{family}" for family in families)


def _info(*streams: str) -> tuple[str, ...]:
    return tuple(f"{_API}.STREAM.INFO.{stream}" for stream in streams)


def _of_buckets(*buckets: BucketDefinition) -> tuple[str, ...]:
    return tuple(f"KV_{bucket.name}" for bucket in buckets)


def _keys(*buckets: BucketDefinition) -> tuple[str, ...]:
    return tuple(f"$KV.{bucket.name}.>" for bucket in buckets)


def _direct(*streams: str) -> tuple[str, ...]:
    return tuple(f"{_API}.DIRECT.GET.{stream}" for stream in streams)


def _single(*streams: str) -> tuple[str, ...]:
    return tuple(f"{_API}.STREAM.MSG.GET.{stream}" for stream in streams)


def _consumers(verb: str, names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{_API}.CONSUMER.{verb}.{SESSIONS.name}.{name}" for name in names)


def _acks(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"$JS.ACK.{SESSIONS.name}.{name}.>" for name in names)


_INGEST = tuple(consumer.name for consumer in CONSUMERS)
# with the info of a bucket come the names of its keys, if a request asks for them
_DEFINITIONS = (*_info(SESSIONS.name, *_of_buckets(*BUCKETS)), *_consumers("INFO", _INGEST))
_IDENTITY = f"$KV.{DEPLOYMENT.name}.*"
_RECORDED = (
    Family.SESSION,
    Family.AGENT,
    Family.TURN,
    Family.TOOL,
    Family.PARTICIPANT,
    Family.MEDIA,
    Family.USAGE,
)

_RECORDER = Rights(
    account="RECORDER",
    asks=(
        *_events(_RECORDED),
        PROBE,
        *_keys(ROOMS),
        *_info(SESSIONS.name),
        *_single(SESSIONS.name),
    ),
    reads=_direct(SESSIONS.name, *_of_buckets(ROOMS, DEPLOYMENT)),
)

SERVICES: dict[str, Rights] = {
    # makes the streams and reads them all; with `>` it does what an operator does by hand
    OPERATOR: Rights(asks=(">",), hears=(">",)),
    "persistence": Rights(
        asks=(
            f"{_API}.INFO",
            *_DEFINITIONS,
            *(f"{_API}.STREAM.CREATE.{name}" for name in (SESSIONS.name, *_of_buckets(*BUCKETS))),
            f"{_API}.STREAM.UPDATE.{SESSIONS.name}",
            *_info(f"{SESSIONS.name}_UNREAD"),
            *(
                f"{_API}.CONSUMER.CREATE.{consumer.stream}.{consumer.name}.{consumer.filter_subject}"
                for consumer in CONSUMERS
            ),
            *_consumers("RESET", _INGEST),
            *_acks(_INGEST),
            *_single(SESSIONS.name),
            _IDENTITY,
            *_keys(AUDIT),  # that it erased a session
        ),
        reads=(*_consumers("MSG.NEXT", _INGEST), *_direct(SESSIONS.name, *_of_buckets(DEPLOYMENT))),
        says=(committed_filter(),),
        hears=(committed_filter(),),  # its projections follow the log
    ),
    # in the account of the log: what one account gets as a service is not heard in a third one
    "session-api": Rights(
        asks=(
            *_events((Family.SESSION, Family.COMMAND)),
            PROBE,
            *_keys(KEYS, FLOWS, FLOW_DRAFTS, AUDIT),
            _IDENTITY,
            FLOW_CHECK,
            *_DEFINITIONS,
            *_single(SESSIONS.name, *_of_buckets(KEYS, FLOWS, AUDIT)),
            f"{_API}.STREAM.PURGE.KV_{KEYS.name}",
        ),
        reads=_direct(SESSIONS.name, *_of_buckets(KEYS, FLOWS, FLOW_DRAFTS, DEPLOYMENT, AUDIT)),
        hears=("sessions.*.*.*.>", committed_filter(), *_keys(KEYS, FLOWS)),
    ),
    "webhook-ingest": Rights(
        account="WEBHOOK_INGEST",
        asks=(
            *_events((Family.LIVEKIT,)),
            PROBE,
            *_info(SESSIONS.name, *_of_buckets(ROOMS, DEPLOYMENT)),
            *_consumers("INFO", _INGEST),
            *_single(SESSIONS.name),
        ),
        reads=_direct(SESSIONS.name, *_of_buckets(ROOMS, DEPLOYMENT)),
    ),
    "agent-worker": replace(
        _RECORDER,
        account="AGENT_WORKER",
        asks=(*_RECORDER.asks, *_info(*_of_buckets(FLOWS)), *_single(*_of_buckets(FLOWS))),
        reads=(*_RECORDER.reads, *_direct(*_of_buckets(FLOWS, FLOW_DRAFTS))),
        says=(ALL_WORKERS,),
        hears=(*_events((Family.COMMAND,)), *_keys(FLOWS)),
        answers=(FLOW_CHECK,),
    ),
    "recorder": _RECORDER,  # in an agent of one's own
    "flow-publisher": Rights(
        account="FLOW_PUBLISHER",
        asks=(*_keys(FLOWS, AUDIT), *_info(*_of_buckets(FLOWS, AUDIT))),
        reads=_direct(*_of_buckets(FLOWS)),
    ),
    "fleet": Rights(hears=(ALL_WORKERS,)),
    "backup": Rights(
        account="BACKUP",
        asks=(
            *_info(SESSIONS.name, f"{SESSIONS.name}_UNREAD", *_of_buckets(*BUCKETS)),
            *_single(SESSIONS.name, *_of_buckets(*BUCKETS)),
        ),
        reads=_direct(SESSIONS.name, *_of_buckets(*BUCKETS)),
    ),
}


def tenant_user(tenant: str) -> tuple[str, Rights]:
    """Return the user of a tenant that reads the bus: it hears the tenant's events, and nothing else.

    Raises InvalidName.
    """
    if not is_tenant(tenant):
        raise InvalidName(f"{tenant!r} is not the name of a tenant: 1 to 63 of a-z, 0-9 and -")
    # in the account of the log: another would not hear what agents publish from theirs
    return f"tenant-{tenant}", Rights(hears=(f"sessions.*.{tenant}.>",), inbox=False)


def consumer_user(consumer: str) -> tuple[str, Rights]:
    """Return the user of a consumer of events: it reads through its durables, which an operator has made.

    Who may make a consumer makes the server write to any subject, so it may not. Raises InvalidName.
    """
    if not _CONSUMER.fullmatch(consumer):
        raise InvalidName(f"{consumer!r} is not the name of a consumer: 1 to 48 of a-z, A-Z, 0-9, _ and -")
    durables = [f"{consumer}-{partition}" for partition in range(PARTITIONS)]
    if any(durable in _INGEST for durable in durables):
        raise InvalidName(f"{consumer!r} is taken: persistence reads through consumers of this name")
    rights = Rights(
        account=f"CONSUMER_{consumer}",
        connections=CONNECTIONS,
        asks=(
            *_info(SESSIONS.name, f"DEAD_{consumer}"),
            *_consumers("INFO", durables),
            *_acks(durables),
            f"dead.{consumer}",
        ),
        reads=_consumers("MSG.NEXT", durables),
    )
    return f"consumer-{consumer}", rights


def users(*, tenants: Iterable[str] = (), consumers: Iterable[str] = ()) -> dict[str, Rights]:
    """Return the rights of all users by name: the services, then those of tenants and consumers.

    Raises InvalidName.
    """
    return SERVICES | dict(map(tenant_user, tenants)) | dict(map(consumer_user, consumers))
