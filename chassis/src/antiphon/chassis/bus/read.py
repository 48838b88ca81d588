"""Read stored messages by direct get, without a consumer; every message names its predecessor."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import TRANSIENT, Connection
from antiphon.chassis.bus.errors import BusUnavailable, HistoryGap
from antiphon.chassis.bus.messages import Incoming
from antiphon.chassis.bus.stored import message_at, parse_time
from antiphon.chassis.retry import retrying

BATCH = 500
BATCH_BYTES = 4 << 20  # then the server ends the batch; it holds at least one message
READ_DEADLINE_SECONDS = 10.0  # for one batch, with its retries
ATTEMPT_SECONDS = 4.0
ATTEMPTS = 3

SEQUENCE = "Nats-Sequence"
SUBJECT = "Nats-Subject"
TIME_STAMP = "Nats-Time-Stamp"
LAST_SEQUENCE = "Nats-Last-Sequence"
NUM_PENDING = "Nats-Num-Pending"


class _IncompleteBatch(Exception):
    """The batch ended early or skipped a message; a retry reads it again."""


async def read(
    connection: Connection, stream: str, subject_filter: str, after: int
) -> AsyncIterator[Incoming]:
    """Yield a filter's messages after a position, up to the end that the answering replica knows."""
    position, more = after, True
    retry = retrying(_IncompleteBatch, *TRANSIENT, attempts=ATTEMPTS)
    while more:
        request = {
            "seq": position + 1,
            "next_by_subj": subject_filter,
            "batch": BATCH,
            "max_bytes": BATCH_BYTES,
        }
        try:
            async with asyncio.timeout(READ_DEADLINE_SECONDS):
                batch, more = await retry(_read_batch, connection, stream, request)
        except _IncompleteBatch as error:
            raise HistoryGap(f"{subject_filter} after {position}: {error}") from error
        except TRANSIENT as error:
            raise BusUnavailable(f"{subject_filter} after {position}: {error!r}") from error
        for incoming in batch:
            yield incoming
            position = incoming.position


async def read_all(
    connection: Connection, stream: str, subject_filter: str, after: int
) -> AsyncIterator[Incoming]:
    """Yield a filter's messages after a position, up to the end that the stream's leader knows.

    Any replica answers a direct get, and one that is behind ends early.
    """
    position = after
    while True:
        async for incoming in read(connection, stream, subject_filter, position):
            yield incoming
            position = incoming.position
        request = {"seq": position + 1, "next_by_subj": subject_filter}
        try:
            async with asyncio.timeout(READ_DEADLINE_SECONDS):
                retry = retrying(BusUnavailable, attempts=ATTEMPTS)
                newer = await retry(message_at, connection, stream, request)
        except TimeoutError as error:
            raise BusUnavailable(f"{subject_filter} after {position}: {error!r}") from error
        if newer is None:
            return
        yield newer
        position = newer.position


async def last(connection: Connection, stream: str, subject_filter: str) -> Incoming | None:
    """Return the newest message of a filter that the answering replica has.

    Raises BusUnavailable.
    """
    body = json.dumps({"last_by_subj": subject_filter}).encode()
    try:
        msg = await connection.request(f"$JS.API.DIRECT.GET.{stream}", body)
    except TRANSIENT as error:
        raise BusUnavailable(f"NATS did not answer for {subject_filter}: {error!r}") from error
    incoming = _incoming(msg)
    if incoming is None and msg.status != "404":
        raise BusUnavailable(f"{stream} answered {msg.status} for {subject_filter}")
    return incoming


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
        except Exception as error:  # noqa: BLE001 - raised in the reader
            done.set_exception(error)
        else:
            if more is not None:
                done.set_result(more)

    async with asyncio.timeout(ATTEMPT_SECONDS):
        await connection.connected.wait()
        reply_subject = connection.inbox.add(on_message, done, f"$JS.API.DIRECT.GET.{stream}")
        try:
            body = json.dumps(request).encode()
            await connection.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply_subject)
            return batch, await done
        finally:
            connection.inbox.remove(reply_subject)


def _append(msg: Message, batch: list[Incoming]) -> bool | None:
    """Append a message to the batch; at its end return whether there is more."""
    incoming = _incoming(msg)
    if incoming is None:
        return _at_end(msg, batch)
    previous = _number(msg, LAST_SEQUENCE)
    if batch and previous != batch[-1].position:
        raise _IncompleteBatch(
            f"position {incoming.position} follows {previous}, but the last message was {batch[-1].position}"
        )
    batch.append(incoming)
    return None


def _at_end(msg: Message, batch: list[Incoming]) -> bool:
    if msg.status == "404":
        return False
    if msg.status != "204":
        headers: Mapping[str, str] = msg.headers or {}
        raise _IncompleteBatch(f"status {msg.status} {headers.get('Description', '')}")
    if batch and _number(msg, LAST_SEQUENCE, batch[-1].position) != batch[-1].position:
        raise _IncompleteBatch("the batch does not end with its last message")
    return _number(msg, NUM_PENDING) > 0


def _incoming(msg: Message) -> Incoming | None:
    """Return a stored message, or None for a status.

    Only a stored message has a sequence; its publisher may have given it headers that look like a status.
    """
    headers = msg.headers
    sequence = None if headers is None else headers.added(SEQUENCE)
    if headers is None or sequence is None:
        return None
    return Incoming(
        subject=headers.added(SUBJECT) or "",
        payload=msg.data,
        position=int(sequence),
        consumer_sequence=0,
        headers=headers,
        published_at=parse_time(headers.added(TIME_STAMP)),
    )


def _number(msg: Message, name: str, default: int = 0) -> int:
    value = None if msg.headers is None else msg.headers.added(name)
    return default if value is None else int(value)
