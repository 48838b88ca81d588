"""Publish many messages as one atomic batch (ADR-50): all or nothing, and a handful of fsyncs for all."""

import time
from collections.abc import Sequence
from itertools import count
from secrets import token_hex

from antiphon.chassis.bus import publish as single
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.messages import Ack, Outgoing
from antiphon.chassis.bus.port import BATCH_LIMIT

BATCH_ID = "Nats-Batch-Id"
BATCH_SEQUENCE = "Nats-Batch-Sequence"
BATCH_COMMIT = "Nats-Batch-Commit"

NO_BATCH: tuple[type[Exception], ...] = (single.Refused, *single.RETRIABLE)

_process = token_hex(8)
_numbers = count(1)


async def publish_many(connection: Connection, outs: Sequence[Outgoing], timeout_seconds: float) -> list[Ack]:
    """Publish in one batch, or one by one where a batch cannot be had (see Bus.publish_many)."""
    if len(outs) > BATCH_LIMIT:
        raise ValueError(f"{len(outs)} messages; an atomic batch takes {BATCH_LIMIT}")
    deadline = time.monotonic() + timeout_seconds
    if len(outs) > 1:
        try:
            return await _in_one(connection, outs, min(single.ATTEMPT_SECONDS, timeout_seconds))
        except NO_BATCH:
            # A message that is stored already refuses the whole batch, and after a lost answer the batch may
            # be stored: one by one, each message is told apart from its duplicate.
            pass
    acks = []
    for out in outs:
        left = max(0.1, deadline - time.monotonic())
        acks.append(await single.publish(connection, out, None, left))
    return acks


async def _in_one(connection: Connection, outs: Sequence[Outgoing], timeout_seconds: float) -> list[Ack]:
    batch_id = f"{_process}-{next(_numbers)}"
    last = len(outs)
    for number, out in enumerate(outs[:-1], start=1):
        headers = single.headers_of(out, {BATCH_ID: batch_id, BATCH_SEQUENCE: str(number)})
        await connection.publish(out.subject, out.payload, headers)
    commit = {BATCH_ID: batch_id, BATCH_SEQUENCE: str(last), BATCH_COMMIT: "1"}
    final = outs[-1]
    answer = await single.attempt(
        connection, final.subject, final.payload, single.headers_of(final, commit), timeout_seconds
    )
    return [Ack(answer.seq - last + number, duplicate=False) for number in range(1, last + 1)]
