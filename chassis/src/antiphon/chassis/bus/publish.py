"""Publish one message: retry what may pass, refuse what cannot, and know our own message again."""

import asyncio
import random
import time
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

import msgspec

from antiphon.chassis.bus.connection import TRANSIENT, ApiError, Connection
from antiphon.chassis.bus.errors import BusError, BusUnavailable, PayloadTooLarge, StreamFull, SubjectNotEmpty
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.contracts.streams import SESSIONS

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"

ATTEMPT_SECONDS = 5.0
FIRST_PAUSE_SECONDS = 0.05
LONGEST_PAUSE_SECONDS = 1.0

WRONG_LAST_SEQUENCE = (10071, 10164)
STREAM_FULL = (10077, 10047, 10023)  # limits reached, storage or resources exhausted
TOO_LARGE = (10054,)

RETRIABLE: tuple[type[Exception], ...] = (BusUnavailable, *TRANSIENT)

_EVENTS = SESSIONS.subjects[0].removesuffix(">")


class PubAckError(msgspec.Struct):
    """The server's reason for refusing a message."""

    code: int = 0
    err_code: int = 0
    description: str = ""


class PubAck(msgspec.Struct):
    """The server's answer to a publish."""

    seq: int = 0
    duplicate: bool = False
    error: PubAckError | None = None


class Refused(BusError):
    """The server refused the message."""

    def __init__(self, error: PubAckError) -> None:
        self.err_code = error.err_code
        super().__init__(f"{error.description} ({error.code}/{error.err_code})")


_decoder = msgspec.json.Decoder(PubAck)


def headers_of(out: Outgoing, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Build the headers of a message: its own, its id, and the stream that must take it."""
    headers = dict(out.headers)
    if out.message_id:
        headers[MESSAGE_ID] = out.message_id
    if out.subject.startswith(_EVENTS):
        headers[EXPECTED_STREAM] = SESSIONS.name
    if extra:
        headers.update(extra)
    return headers


async def attempt(
    connection: Connection, subject: str, payload: bytes, headers: dict[str, str], timeout_seconds: float
) -> PubAck:
    """Send once and read the answer.

    Raises one of TRANSIENT, BusUnavailable, StreamFull, PayloadTooLarge, Refused.
    """
    reply = await connection.request(subject, payload, headers, timeout_seconds)
    if reply.status == "503":
        raise BusUnavailable(f"no stream answers for {subject}")
    answer = _decoder.decode(reply.data)
    if answer.error is None:
        return answer
    raise _refusal(answer.error)


def _refusal(error: PubAckError) -> BusError:
    if error.err_code in STREAM_FULL:
        return StreamFull(f"{error.description} ({error.err_code})")
    if error.err_code in TOO_LARGE:
        return PayloadTooLarge(error.description)
    if error.code == 503:
        return BusUnavailable(error.description)
    return Refused(error)


async def publish(
    connection: Connection, out: Outgoing, expect_empty: str | None, timeout_seconds: float
) -> Ack:
    """Publish with retries until the deadline (see Bus.publish)."""
    extra = {EXPECTED_LAST: "0", EXPECTED_LAST_SUBJECT: expect_empty} if expect_empty else None
    headers = headers_of(out, extra)
    deadline = time.monotonic() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            limit = min(ATTEMPT_SECONDS, max(0.01, deadline - time.monotonic()))
            answer = await attempt(connection, out.subject, out.payload, headers, limit)
            return Ack(answer.seq, answer.duplicate)
        except Refused as refusal:
            if expect_empty and refusal.err_code in WRONG_LAST_SEQUENCE:
                return await _ours_or_not_empty(connection, out, expect_empty, refusal)
            raise
        except RETRIABLE as error:
            if time.monotonic() + pause >= deadline:
                raise _gave_up(error, out.subject, timeout_seconds) from error
        await asyncio.sleep(pause * random.uniform(0.5, 1.5))
        pause = min(pause * 2, LONGEST_PAUSE_SECONDS)


def _gave_up(error: Exception, subject: str, timeout_seconds: float) -> BusUnavailable:
    kind = StreamFull if isinstance(error, StreamFull) else BusUnavailable
    return kind(f"{subject} was not acknowledged within {timeout_seconds:g} s: {error!r}")


async def _ours_or_not_empty(
    connection: Connection, out: Outgoing, expect_empty: str, refusal: Refused
) -> Ack:
    # A single server checks the expectation before it looks for duplicates, so a retry of ours lands here.
    first = await first_of(connection, SESSIONS.name, expect_empty)
    if first is not None and first[1] == out.message_id:
        return Ack(first[0], duplicate=True)
    raise SubjectNotEmpty(f"{expect_empty} already holds a message") from refusal


async def first_of(connection: Connection, stream: str, subject_filter: str) -> tuple[int, str] | None:
    """Return position and message id of the first message of a filter, as the stream's leader sees it."""
    try:
        answer: dict[str, Any] = await connection.api(
            f"STREAM.MSG.GET.{stream}", {"seq": 1, "next_by_subj": subject_filter}
        )
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    message = answer["message"]
    return int(message["seq"]), message_id_in(b64decode(message.get("hdrs", "")))


def message_id_in(raw_headers: bytes) -> str:
    """Find the message id in raw headers; "" when there is none."""
    for line in raw_headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == MESSAGE_ID.encode():
            return value.strip().decode()
    return ""
