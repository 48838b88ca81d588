"""Publish: retry transient errors, refuse what cannot be stored, recognise our own message.

Several messages go as one atomic batch (ADR-50): all or nothing, and a handful of fsyncs for all of them.
"""

import time
from base64 import b64decode
from collections.abc import Mapping, Sequence
from itertools import count
from secrets import token_hex
from typing import Any

import msgspec

from antiphon.chassis.bus.connection import TRANSIENT, Connection
from antiphon.chassis.bus.errors import (
    ApiError,
    BusError,
    BusUnavailable,
    NotPermitted,
    PayloadTooLarge,
    StreamFull,
    SubjectNotEmpty,
)
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.chassis.bus.metrics import timed
from antiphon.chassis.bus.protocol import check_subject
from antiphon.chassis.retry import retrying
from antiphon.contracts.streams import SESSIONS

PUBLISH_DEADLINE_SECONDS = 10.0
ATTEMPT_SECONDS = 5.0
FIRST_BACKOFF_SECONDS = 0.05
LONGEST_BACKOFF_SECONDS = 1.0
BATCH_LIMIT = 1000  # messages in one atomic batch, the server's own limit

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED_STREAM = "Nats-Expected-Stream"
EXPECTED_LAST = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_LAST_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"

WRONG_LAST_SEQUENCE = (10071, 10164)
# Limits reached, storage or resources of server or account exhausted, sealed: not the message's fault.
STREAM_FULL = (10077, 10047, 10002, 10023, 10109)
TOO_LARGE = (10054,)

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
        super().__init__(error)
        self.err_code = error.err_code

    def __str__(self) -> str:
        error: PubAckError = self.args[0]
        return f"{error.description} ({error.code}/{error.err_code})"


BATCH_FAILED: tuple[type[Exception], ...] = (Refused, *TRANSIENT)

_decoder = msgspec.json.Decoder(PubAck)
_batch_prefix = token_hex(8)
_batch_numbers = count(1)


async def publish(
    connection: Connection, out: Outgoing, expect_empty: str | None, timeout_seconds: float
) -> Ack:
    """Publish one message, with retries until the deadline (see Bus.publish)."""
    return await timed(out.subject, _publish(connection, out, expect_empty, timeout_seconds))


async def _publish(
    connection: Connection, out: Outgoing, expect_empty: str | None, timeout_seconds: float
) -> Ack:
    extra = {EXPECTED_LAST: "0", EXPECTED_LAST_SUBJECT: expect_empty} if expect_empty else None
    deadline = time.monotonic() + timeout_seconds
    try:
        answer = await _acknowledged(connection, out, _headers(out, extra), timeout_seconds)
    except Refused as refusal:
        if expect_empty and refusal.err_code in WRONG_LAST_SEQUENCE:
            return await _ack_own_message(connection, out, expect_empty, refusal, deadline)
        raise
    except BusUnavailable:
        if out.subject.startswith(_EVENTS):
            connection.not_stored_at = time.monotonic()
        raise
    if not answer.duplicate and out.subject.startswith(_EVENTS):
        connection.stored_at = time.monotonic()
    return Ack(answer.seq, answer.duplicate)


async def _acknowledged(
    connection: Connection, out: Outgoing, headers: dict[str, str], timeout_seconds: float
) -> PubAck:
    """Send one message until it is acknowledged or the time is over.

    Raises Refused, PayloadTooLarge, and BusUnavailable, as StreamFull or NotPermitted where it is one.
    """
    deadline = time.monotonic() + timeout_seconds
    retry = retrying(
        *TRANSIENT,
        timeout_seconds=timeout_seconds,
        first_seconds=FIRST_BACKOFF_SECONDS,
        longest_seconds=LONGEST_BACKOFF_SECONDS,
    )
    full = False  # as an attempt was told; the last one may have had no time for an answer

    async def attempt() -> PubAck | NotPermitted:
        nonlocal full
        try:
            return await _publish_once(connection, out.subject, out.payload, headers, deadline)
        except NotPermitted as error:
            return error  # raised below: another attempt would be refused as well
        except StreamFull:
            full = True
            raise

    try:
        answer = await retry(attempt)
    except TRANSIENT as error:
        kind = StreamFull if full else BusUnavailable
        raise kind(f"{out.subject} was not acknowledged within {timeout_seconds:g} s: {error!r}") from error
    if isinstance(answer, NotPermitted):
        raise answer
    return answer


async def publish_many(connection: Connection, outs: Sequence[Outgoing], timeout_seconds: float) -> list[Ack]:
    """Publish as one batch, or one by one where a batch fails (see Bus.publish_many)."""
    if not outs:
        return []
    return await timed(outs[0].subject, _publish_many(connection, outs, timeout_seconds))


async def _publish_many(
    connection: Connection, outs: Sequence[Outgoing], timeout_seconds: float
) -> list[Ack]:
    if len(outs) > BATCH_LIMIT:
        raise ValueError(f"{len(outs)} messages; an atomic batch takes {BATCH_LIMIT}")
    for out in outs:
        check_subject(out.subject)  # before the first is sent
    deadline = time.monotonic() + timeout_seconds
    if len(outs) > 1:
        try:
            return await _publish_batch(connection, outs, deadline)
        except BATCH_FAILED:
            # The server refuses a batch if one of its messages is a duplicate, and after a lost answer the
            # batch may be stored. Published one by one, duplicates are acknowledged as such.
            pass
        except PayloadTooLarge:
            # The headers of a batch take space, and one message alone may fit; the others wait for no answer.
            for out in outs:
                connection.check_size(out.payload, _headers(out))
    acks = []
    for out in outs:
        remaining = max(0.1, deadline - time.monotonic())
        acks.append(await _publish(connection, out, None, remaining))
    return acks


async def _publish_batch(connection: Connection, outs: Sequence[Outgoing], deadline: float) -> list[Ack]:
    batch_id = f"{_batch_prefix}-{next(_batch_numbers)}"
    size = len(outs)
    for number, out in enumerate(outs[:-1], start=1):
        headers = _headers(out, {BATCH_ID: batch_id, BATCH_SEQUENCE: str(number)})
        await connection.publish(out.subject, out.payload, headers)
    last = outs[-1]
    headers = _headers(last, {BATCH_ID: batch_id, BATCH_SEQUENCE: str(size), BATCH_COMMIT: "1"})
    answer = await _publish_once(connection, last.subject, last.payload, headers, deadline)
    if last.subject.startswith(_EVENTS):
        connection.stored_at = time.monotonic()
    return [Ack(answer.seq - size + number, duplicate=False) for number in range(1, size + 1)]


async def _publish_once(
    connection: Connection, subject: str, payload: bytes, headers: dict[str, str], deadline: float
) -> PubAck:
    """Send one message and read the answer.

    Raises one of TRANSIENT, StreamFull, PayloadTooLarge, Refused.
    """
    timeout_seconds = min(ATTEMPT_SECONDS, max(0.01, deadline - time.monotonic()))
    reply = await connection.request(subject, payload, headers, timeout_seconds)
    if reply.status == "503":
        raise BusUnavailable(f"no stream stores {subject}")
    answer = _decoder.decode(reply.data)
    if answer.error is None:
        return answer
    raise _refusal(answer.error)


def _headers(out: Outgoing, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    headers = dict(out.headers)
    if out.message_id:
        headers[MESSAGE_ID] = out.message_id
    if out.subject.startswith(_EVENTS):
        headers[EXPECTED_STREAM] = SESSIONS.name
    if extra:
        headers.update(extra)
    return headers


def _refusal(error: PubAckError) -> BusError:
    if error.err_code in STREAM_FULL:
        return StreamFull(f"{error.description} ({error.err_code})")
    if error.err_code in TOO_LARGE:
        return PayloadTooLarge(error.description)
    if error.code == 503:
        return BusUnavailable(error.description)
    return Refused(error)


async def _ack_own_message(
    connection: Connection, out: Outgoing, expect_empty: str, refusal: Refused, deadline: float
) -> Ack:
    # A single server checks the expectation before it looks for duplicates, so our own retry ends here.
    remaining = max(0.1, deadline - time.monotonic())
    first = await _first_message(connection, SESSIONS.name, expect_empty, remaining)
    if first is not None and first[1] == out.message_id:
        return Ack(first[0], duplicate=True)
    raise SubjectNotEmpty(f"{expect_empty} already holds a message") from refusal


async def _first_message(
    connection: Connection, stream: str, subject_filter: str, timeout_seconds: float
) -> tuple[int, str] | None:
    """Return position and message id of a filter's first message, read from the stream's leader."""
    try:
        answer: dict[str, Any] = await connection.api(
            f"STREAM.MSG.GET.{stream}",
            {"seq": 1, "next_by_subj": subject_filter},
            timeout_seconds=min(ATTEMPT_SECONDS, timeout_seconds),
        )
    except ApiError as error:
        if error.code == 404:
            return None
        raise
    message = answer["message"]
    return int(message["seq"]), _message_id(b64decode(message.get("hdrs", "")))


def _message_id(raw_headers: bytes) -> str:
    for line in raw_headers.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name == MESSAGE_ID.encode():
            return value.strip().decode()
    return ""
