"""Read stored messages by direct get, without a consumer; every message names its predecessor."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import TRANSIENT, Connection
from antiphon.chassis.bus.errors import BusUnavailable, HistoryGap
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.retry import retrying

BATCH = 500
READ_DEADLINE_SECONDS = 10.0
ATTEMPTS = 3


class _IncompleteBatch(Exception):
    """The batch ended early or skipped a message; a retry reads it again."""


async def read(
    connection: Connection, stream: str, subject_filter: str, after: int
) -> AsyncIterator[Incoming]:
    """Yield a filter's messages after a position, up to the current end (see Bus.read)."""
    position, more = after, True
    retry = retrying(_IncompleteBatch, *TRANSIENT, attempts=ATTEMPTS)
    while more:
        request = {"seq": position + 1, "next_by_subj": subject_filter, "batch": BATCH}
        try:
            batch, more = await retry(_read_batch, connection, stream, request)
        except _IncompleteBatch as error:
            raise HistoryGap(f"{subject_filter} after {position}: {error}") from error
        except TRANSIENT as error:
            raise BusUnavailable(f"{subject_filter} after {position}: {error!r}") from error
        for incoming in batch:
            yield incoming
            position = incoming.position


async def last(connection: Connection, stream: str, subject_filter: str) -> Incoming | None:
    """Return the newest message of a filter.

    Raises BusUnavailable.
    """
    body = json.dumps({"last_by_subj": subject_filter}).encode()
    try:
        msg = await connection.request(f"$JS.API.DIRECT.GET.{stream}", body)
    except TRANSIENT as error:
        raise BusUnavailable(f"NATS did not answer for {subject_filter}: {error!r}") from error
    code = msg.status
    if code == "404":
        return None
    if code is not None:
        raise BusUnavailable(f"{stream} answered {code} for {subject_filter}")
    return _incoming(msg)


async def _read_batch(
    connection: Connection, stream: str, request: dict[str, Any]
) -> tuple[list[Incoming], bool]:
    """Return one batch, and whether there is more."""
    done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
    batch: list[Incoming] = []

    def on_message(msg: Message) -> None:
        if done.done():
            return
        try:
            more = _append(msg, batch)
        except _IncompleteBatch as error:
            done.set_exception(error)
        else:
            if more is not None:
                done.set_result(more)

    async with asyncio.timeout(READ_DEADLINE_SECONDS):
        await connection.connected.wait()
        reply_subject = connection.inbox.add(on_message, done)
        try:
            body = json.dumps(request).encode()
            await connection.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply_subject)
            return batch, await done
        finally:
            connection.inbox.remove(reply_subject)


def _append(msg: Message, batch: list[Incoming]) -> bool | None:
    """Append a message to the batch; at its end return whether there is more."""
    code = msg.status
    headers: Mapping[str, str] = msg.headers or {}
    if code == "404":
        return False
    if code == "204":
        if batch and int(headers.get("Nats-Last-Sequence", batch[-1].position)) != batch[-1].position:
            raise _IncompleteBatch("the batch does not end with its last message")
        return int(headers.get("Nats-Num-Pending", 0)) > 0
    if code is not None:
        raise _IncompleteBatch(f"status {code} {headers.get('Description', '')}")
    incoming = _incoming(msg)
    previous = int(headers.get("Nats-Last-Sequence", 0))
    if batch and previous != batch[-1].position:
        raise _IncompleteBatch(
            f"position {incoming.position} follows {previous}, but the last message was {batch[-1].position}"
        )
    batch.append(incoming)
    return None


def _incoming(msg: Message) -> Incoming:
    headers: Mapping[str, str] = msg.headers or {}
    return Incoming(
        subject=headers["Nats-Subject"],
        payload=msg.data,
        position=int(headers["Nats-Sequence"]),
        consumer_sequence=0,
        headers=headers,
        published_at=parse_time(headers.get("Nats-Time-Stamp")),
    )


def parse_time(text: str | None) -> datetime | None:
    """Return a time of the server, cut to microseconds."""
    if text is None:
        return None
    # RFC 3339 with up to nine digits of a second; datetime takes six.
    whole, _, fraction = text.rstrip("Z").partition(".")
    micro = int((fraction + "000000")[:6])
    return datetime.fromisoformat(whole).replace(microsecond=micro, tzinfo=UTC)
