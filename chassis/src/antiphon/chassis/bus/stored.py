"""The state of a stream, and messages of it, as its leader answers; a replica may be behind."""

import asyncio
from base64 import b64decode
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from antiphon.chassis.bus.client import Headers
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import ApiError, BusUnavailable, HistoryGap, StreamMissing
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.retry import retrying

NOT_FOUND = 404
WINDOW = 32  # messages that are requested at the same time: of the largest, 43 MiB
MESSAGE_DEADLINE_SECONDS = 30.0  # with its retries: a cluster elects a leader in between


class StreamState(Struct, frozen=True):
    """A stream: when it was created, and the positions that it has; it is empty when first = last + 1.

    A limit is None when there is none; the times are those of the first and the last message.
    """

    created_at: datetime
    first: int
    last: int
    messages: int
    subjects: tuple[str, ...]
    bytes: int = 0
    max_bytes: int | None = None
    max_age_seconds: float | None = None
    first_at: datetime | None = None
    last_at: datetime | None = None


async def stream_state(connection: Connection, stream: str) -> StreamState | None:
    """Return the state of a stream, or None if it does not exist.

    Raises BusUnavailable.
    """
    try:
        info = await connection.api(f"STREAM.INFO.{stream}")
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    state = info["state"]
    created_at = parse_time(info["created"])
    if created_at is None:
        raise ValueError(f"stream {stream} has no time of creation")
    return StreamState(
        created_at=created_at,
        first=max(1, state["first_seq"]),  # a new stream says 0
        last=state["last_seq"],
        messages=state["messages"],
        subjects=tuple(info["config"].get("subjects") or ()),
        bytes=state["bytes"],
        max_bytes=max(0, info["config"].get("max_bytes", 0)) or None,
        max_age_seconds=info["config"].get("max_age", 0) / 1e9 or None,
        first_at=parse_time(state.get("first_ts")) if state["messages"] else None,
        last_at=parse_time(state.get("last_ts")) if state["messages"] else None,
    )


async def message_at(connection: Connection, stream: str, request: dict[str, Any]) -> Incoming | None:
    """Return the message that a request of the API names, or None if there is none.

    The text of a subject that is not UTF-8 is damaged.
    Raises BusUnavailable.
    """
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", request)
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    message = answer["message"]
    headers = message.get("hdrs")
    return Incoming(
        subject=message["subject"],
        payload=b64decode(message.get("data", "")),
        position=message["seq"],
        consumer_sequence=0,
        headers=None if headers is None else Headers(b64decode(headers)),
        published_at=parse_time(message.get("time")),
    )


async def payload_at(connection: Connection, stream: str, position: int) -> bytes | None:
    """Return the payload of the message at a position, or None if there is none.

    Raises BusUnavailable.
    """
    message = await message_at(connection, stream, {"seq": position})
    return None if message is None else message.payload


async def all_messages(connection: Connection, stream: str) -> AsyncIterator[Incoming]:
    """Yield every message of a stream that takes no others, in order.

    Raises StreamMissing, BusUnavailable, and HistoryGap when the stream has more than was read.
    """
    found, position = 0, 0
    while position < (state := await _existing(connection, stream)).last:
        # Again until the end stays: what was sent before the stream took no more may be stored late.
        for low in range(max(position + 1, state.first), state.last + 1, WINDOW):
            for message in await _window(connection, stream, low, min(low + WINDOW, state.last + 1)):
                yield message
                found += 1
        position = state.last
    if position > state.last or found < state.messages:
        raise HistoryGap(
            f"{stream} has {state.messages} messages, the last at {state.last}; "
            f"{found} were read, up to position {position}"
        )


async def _existing(connection: Connection, stream: str) -> StreamState:
    state = await stream_state(connection, stream)
    if state is None:
        raise StreamMissing(f"stream {stream} does not exist")
    return state


async def _window(connection: Connection, stream: str, start: int, end: int) -> list[Incoming]:
    retry = retrying(BusUnavailable, timeout_seconds=MESSAGE_DEADLINE_SECONDS)
    answers = await asyncio.gather(
        *(retry(message_at, connection, stream, {"seq": position}) for position in range(start, end)),
        return_exceptions=True,
    )
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if isinstance(answer, Incoming)]


async def delivered_all(connection: Connection, stream: str, consumer: str, position: int) -> bool:
    """Return whether a consumer has delivered every message that it has, none of them after a position.

    Raises ApiError, BusUnavailable.
    """
    info = await connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
    return bool(info["num_pending"] == 0 and info["delivered"]["stream_seq"] <= position)


async def undelivered(connection: Connection, stream: str, consumer: str) -> int:
    """Return how many messages a consumer has yet to deliver.

    Raises ApiError, BusUnavailable.
    """
    info = await connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
    return int(info["num_pending"])


async def unacknowledged(connection: Connection, stream: str, consumer: str) -> int | None:
    """Return how many messages a consumer has yet to deliver, or waits for an ack of; None if there is none.

    Raises BusUnavailable.
    """
    try:
        info = await connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    return int(info["num_pending"]) + int(info["num_ack_pending"])


def parse_time(text: str | None) -> datetime | None:
    """Return a time of the server, cut to microseconds."""
    if text is None:
        return None
    # RFC 3339 with up to nine digits of a second; datetime takes six.
    whole, _, fraction = text.rstrip("Z").partition(".")
    micro = int((fraction + "000000")[:6])
    return datetime.fromisoformat(whole).replace(microsecond=micro, tzinfo=UTC)
