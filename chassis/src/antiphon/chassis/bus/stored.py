"""The state of the stream of events, and single messages of it, as its leader answers."""

from base64 import b64decode
from datetime import datetime

from msgspec import Struct

from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import ApiError
from antiphon.chassis.bus.read import parse_time

NOT_FOUND = 404


class StreamState(Struct, frozen=True):
    """A stream: when it was created, and the positions that it has; it is empty when first = last + 1."""

    created_at: datetime
    first: int
    last: int
    messages: int
    subjects: tuple[str, ...]


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
    )


async def payload_at(connection: Connection, stream: str, position: int) -> bytes | None:
    """Return the payload of the message at a position, or None if there is none.

    Not a direct get: a follower may answer that, and it may be behind.
    Raises BusUnavailable.
    """
    try:
        answer = await connection.api(f"STREAM.MSG.GET.{stream}", {"seq": position})
    except ApiError as error:
        if error.code == NOT_FOUND:
            return None
        raise
    return b64decode(answer["message"].get("data", ""))


async def delivered_all(connection: Connection, stream: str, consumer: str, position: int) -> bool:
    """Return whether a consumer has delivered every message that it has, none of them after a position.

    Raises ApiError, BusUnavailable.
    """
    info = await connection.api(f"CONSUMER.INFO.{stream}.{consumer}")
    return bool(info["num_pending"] == 0 and info["delivered"]["stream_seq"] <= position)
