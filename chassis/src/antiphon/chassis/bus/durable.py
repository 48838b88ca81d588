"""A durable of one's own on one partition: made once, found again, and made again where it left off.

It delivers one event at a time (`max_ack_pending` 1): the next comes after the ack of the one before, so the
order of a session survives retries, crashes and a second process that reads the same durable.
"""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from antiphon.chassis.bus.admin import SECOND
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import ApiError, BusUnavailable, DefinitionMismatch, StreamMissing
from antiphon.chassis.bus.stored import StreamState, stream_state
from antiphon.chassis.library_log import get_logger
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PARTITIONS

log = get_logger(__name__)

NAME = re.compile(r"[a-zA-Z0-9_-]{1,48}")
RESERVED = re.compile(r"ingest(-\d+)?")  # persistence reads through ingest-0, ingest-1, …
NOT_FOUND = 404
STREAM_NOT_FOUND = 10059
STREAM_MISSING = f"stream {SESSIONS.name} does not exist: persistence makes it"
ALREADY_EXISTS = (10148, 10105, 10013)  # made by another process in between


class Start(StrEnum):
    """Where a consumer starts when it reads for the first time."""

    BEGINNING = "beginning"  # with the oldest event that the stream still has
    NOW = "now"  # with the events published from now on


@dataclass(frozen=True, slots=True)
class Durable:
    """The durable of one consumer on one partition of the stream of events."""

    consumer: str
    partition: int
    filter_subjects: tuple[str, ...]
    start: Start
    ack_wait_seconds: float

    @property
    def name(self) -> str:
        """Its name on the server."""
        return f"{self.consumer}-{self.partition}"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a consumer is: the last position that it is done with, in the stream that was created then."""

    stream_created_at: datetime
    position: int


def check_name(name: str) -> None:
    """Check the name of a consumer.

    Raises ValueError.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a consumer's name: 1 to 48 of a-z, A-Z, 0-9, _ and -")
    if RESERVED.fullmatch(name):
        raise ValueError(f"{name!r} is taken: persistence reads through consumers of this name")


def filters(partition: int, tenant: str, families: Sequence[str] | None) -> tuple[str, ...]:
    """Return the subjects of a partition's events, of some families or all; none matches `sessions.probe`."""
    return tuple(
        f"sessions.{partition}.{tenant}.*.{family}" for family in (sorted(families) if families else ["*"])
    )


def permissions(name: str) -> dict[str, list[str]]:
    """Return the subjects that the NATS user of a consumer must be allowed to publish and to subscribe to."""
    stream, dead = SESSIONS.name, dead_letter_stream(name)
    publish = [
        f"$JS.API.STREAM.INFO.{stream}",
        f"$JS.API.STREAM.INFO.{dead}",
        f"$JS.API.STREAM.CREATE.{dead}",
    ]
    for partition in range(PARTITIONS):
        durable = f"{stream}.{name}-{partition}"
        publish += [f"$JS.API.CONSUMER.{verb}.{durable}" for verb in ("INFO", "CREATE", "MSG.NEXT")]
        publish.append(f"$JS.ACK.{durable}.>")
    return {"publish": [*publish, dead_letter_subject(name)], "subscribe": ["_INBOX.>"]}


def dead_letter_stream(name: str) -> str:
    """Return the name of the stream with the dead letters of a consumer."""
    return f"DEAD_{name}"


def dead_letter_subject(name: str) -> str:
    """Return the subject that the dead letters of a consumer are published on."""
    return f"dead.{name}"


async def explained(connection: Connection, ensure: Callable[[], Awaitable[None]]) -> None:
    """Call a function; when the server does not answer, add what it has said: perhaps a missing permission.

    Raises BusUnavailable, and what else the function raises.
    """
    try:
        await ensure()
    except BusUnavailable as error:
        if connection.last_error is None:
            raise
        raise BusUnavailable(f"{error}; the server said: {connection.last_error}") from error


async def ensure_durable(connection: Connection, durable: Durable, left: Place | None = None) -> Place:
    """Make the durable if it does not exist, else give it the filters; return where it is.

    One that is gone is made again to deliver what comes after the place where it was `left`, or the whole
    stream if that is another one by now.
    Raises DefinitionMismatch, StreamMissing, BusUnavailable.
    """
    stream = await stream_state(connection, SESSIONS.name)  # first: a place in a later one would skip events
    if stream is None:
        raise StreamMissing(STREAM_MISSING)
    return Place(stream.created_at, await _ensure(connection, durable, left, stream))


async def _ensure(connection: Connection, durable: Durable, left: Place | None, stream: StreamState) -> int:
    try:
        info = await connection.api(f"CONSUMER.INFO.{SESSIONS.name}.{durable.name}")
    except ApiError as error:
        if error.code != NOT_FOUND:
            raise
        if error.err_code == STREAM_NOT_FOUND:
            raise StreamMissing(STREAM_MISSING) from error
        return await _create(connection, durable, left, stream)
    wanted = _config(durable)
    found = info["config"]
    if found.get("ack_policy") != "explicit" or found.get("max_ack_pending") != 1:
        raise DefinitionMismatch(
            f"the stream {SESSIONS.name} has another consumer called {durable.name}: choose another name"
        )
    changed = {
        key: wanted[key] for key in ("filter_subjects", "ack_wait") if _known(found, key) != wanted[key]
    }
    if changed:
        config = {**found, **changed}
        config.pop("filter_subject", None)
        await _send(connection, durable, config, "update")
        log.info("consumer.changed", extra={"consumer": durable.name, **changed})
    return _position(info)


async def _create(connection: Connection, durable: Durable, left: Place | None, stream: StreamState) -> int:
    config = _config(durable)
    if left is not None:
        # Made again or restored shorter, a stream hands out its positions again.
        if left.stream_created_at != stream.created_at or left.position > stream.last:
            log.error(
                "consumer.stream_replaced",
                extra={
                    "consumer": durable.name,
                    "position": left.position,
                    "first": stream.first,
                    "last": stream.last,
                    "created_at": stream.created_at.isoformat(),
                },
            )
            config["deliver_policy"] = "all"
        else:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": left.position + 1}
    try:
        info = await _send(connection, durable, config, "create")
    except ApiError as error:
        if error.err_code not in ALREADY_EXISTS:
            raise
        info = await connection.api(f"CONSUMER.INFO.{SESSIONS.name}.{durable.name}")
    log.info("consumer.created", extra={"consumer": durable.name, "after": _position(info)})
    return _position(info)


async def _send(
    connection: Connection, durable: Durable, config: dict[str, Any], action: str
) -> dict[str, Any]:
    body = {"stream_name": SESSIONS.name, "config": config, "action": action}
    return await connection.api(f"CONSUMER.CREATE.{SESSIONS.name}.{durable.name}", body)


def _config(durable: Durable) -> dict[str, Any]:
    return {
        "durable_name": durable.name,
        "name": durable.name,
        "description": f"Consumer {durable.consumer}, partition {durable.partition}",
        "filter_subjects": list(durable.filter_subjects),
        "deliver_policy": "all" if durable.start is Start.BEGINNING else "new",
        "ack_policy": "explicit",
        "ack_wait": int(durable.ack_wait_seconds * SECOND),
        "max_ack_pending": 1,
        "max_deliver": -1,  # the server would drop the event without a word
        "replay_policy": "instant",
    }


def _known(config: dict[str, Any], key: str) -> Any:
    if key == "filter_subjects":
        return config.get("filter_subjects") or [config.get("filter_subject")]
    return config.get(key)


def _position(info: dict[str, Any]) -> int:
    # Before the first event a new consumer has acknowledged nothing; it stands where it starts.
    acknowledged, delivered = info["ack_floor"]["stream_seq"], info["delivered"]["stream_seq"]
    return int(acknowledged if info["num_ack_pending"] else max(acknowledged, delivered))
