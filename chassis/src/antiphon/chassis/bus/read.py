"""Read history by direct get: no consumer is made, and every message names the one before it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

from antiphon.chassis.bus.client import Message
from antiphon.chassis.bus.connection import TRANSIENT, Connection
from antiphon.chassis.bus.errors import BusUnavailable, HistoryGap
from antiphon.chassis.bus.messages import Incoming

BATCH = 500
READ_DEADLINE_SECONDS = 10.0
ATTEMPTS = 3


class _Broken(Exception):
    """The answer stopped or skipped; what came before it is good."""


RETRIABLE: tuple[type[Exception], ...] = (_Broken, *TRANSIENT)


async def read(
    connection: Connection, stream: str, subject_filter: str, after: int
) -> AsyncIterator[Incoming]:
    """Iterate over a filter's messages after a position, to the end (see Bus.read)."""
    position, failures, more = after, 0, True
    while more:
        request = {"seq": position + 1, "next_by_subj": subject_filter, "batch": BATCH}
        try:
            found, more = await _ask(connection, stream, request)
            failures = 0
        except RETRIABLE as error:
            failures += 1
            if failures == ATTEMPTS:
                kind = HistoryGap if isinstance(error, _Broken) else BusUnavailable
                raise kind(f"{subject_filter} after {position}: {error!r}") from error
            await asyncio.sleep(0.1 * failures)
            continue
        for incoming in found:
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


async def _ask(connection: Connection, stream: str, request: dict[str, Any]) -> tuple[list[Incoming], bool]:
    """Return one batch, and whether there is more."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()
    found: list[Incoming] = []

    def on_message(msg: Message) -> None:
        if done.done():
            return
        try:
            end = _take(msg, found)
        except _Broken as error:
            done.set_exception(error)
        else:
            if end is not None:
                done.set_result(end)

    async with asyncio.timeout(READ_DEADLINE_SECONDS):
        await connection.connected.wait()
        reply_subject = connection.inbox.route(on_message)
        connection.inbox.awaited(done)
        try:
            body = json.dumps(request).encode()
            await connection.publish(f"$JS.API.DIRECT.GET.{stream}", body, reply=reply_subject)
            return found, await done
        finally:
            connection.inbox.forget(done)
            connection.inbox.release(reply_subject)


def _take(msg: Message, found: list[Incoming]) -> bool | None:
    """Add a message to what was found; at the end of the batch say whether there is more."""
    code = msg.status
    headers: Mapping[str, str] = msg.headers or {}
    if code == "404":
        return False
    if code == "204":
        if found and int(headers.get("Nats-Last-Sequence", found[-1].position)) != found[-1].position:
            raise _Broken("the end of the batch names another last message")
        return int(headers.get("Nats-Num-Pending", 0)) > 0
    if code is not None:
        raise _Broken(f"status {code} {headers.get('Description', '')}")
    incoming = _incoming(msg)
    before = int(headers.get("Nats-Last-Sequence", 0))
    if found and before != found[-1].position:
        raise _Broken(f"position {incoming.position} follows {before}, and {found[-1].position} came last")
    found.append(incoming)
    return None


def _incoming(msg: Message) -> Incoming:
    headers: Mapping[str, str] = msg.headers or {}
    return Incoming(
        subject=headers["Nats-Subject"],
        payload=msg.data,
        position=int(headers["Nats-Sequence"]),
        consumer_sequence=0,
        headers=headers,
        published_at=_moment(headers.get("Nats-Time-Stamp")),
    )


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    # RFC 3339 with up to nine digits of a second; datetime takes six.
    whole, _, fraction = text.rstrip("Z").partition(".")
    micro = int((fraction + "000000")[:6])
    return datetime.fromisoformat(whole).replace(microsecond=micro, tzinfo=UTC)
