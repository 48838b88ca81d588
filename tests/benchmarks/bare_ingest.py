"""A baseline for ingest: pull, decode, the same SQL, ack; no validation, and announcements if wanted.

As a process, `python -m tests.benchmarks.bare_ingest NATS_URL DSN`, it announces until it is terminated.
"""

import asyncio
import json
import sys
from collections import deque
from collections.abc import Sequence

import nats
import uvloop
from nats.aio.client import Client
from nats.aio.msg import Msg

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import decode
from antiphon.contracts.streams import SESSIONS, ingest_consumer
from antiphon.contracts.subjects import PARTITIONS, committed_subject
from antiphon.persistence.ingest.group_writer import INGEST_BATCH

BATCH = 500
NANOSECONDS = 1_000_000_000

_CLAIM = """
insert into checkpoints (name, epoch) values ($1, 1)
on conflict (name) do update set epoch = checkpoints.epoch + 1 returning position, epoch
"""


async def bare_loop(
    nats_url: str, database: Database, stop: asyncio.Event, *, announces: bool = False
) -> None:
    """Ingest every partition until stopped."""
    client = await nats.connect(nats_url)
    ingesting = [
        asyncio.create_task(_ingest(client, database, p, stop, announces)) for p in range(PARTITIONS)
    ]
    stopping = asyncio.create_task(stop.wait())
    try:
        done, _ = await asyncio.wait([stopping, *ingesting], return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        for task in ingesting:
            task.cancel()
        await asyncio.gather(*ingesting, return_exceptions=True)
        await client.close()
    for ended in done:
        ended.result()


async def _ingest(
    client: Client, database: Database, partition: int, stop: asyncio.Event, announces: bool
) -> None:
    consumer = ingest_consumer(partition)
    messages: deque[Msg] = deque()
    arrived = asyncio.Event()
    inbox = client.new_inbox()
    pull = f"$JS.API.CONSUMER.MSG.NEXT.{SESSIONS.name}.{consumer.name}"
    request = json.dumps({"batch": BATCH, "expires": 5 * NANOSECONDS}).encode()
    wanted = 0

    async def on_message(msg: Msg) -> None:
        messages.append(msg)
        arrived.set()

    async with database.pool.acquire() as connection:
        [(position, epoch)] = await connection.fetch(_CLAIM, f"ingest:{partition}")
        reset = f"$JS.API.CONSUMER.RESET.{SESSIONS.name}.{consumer.name}"
        await client.request(reset, json.dumps({"seq": position + 1}).encode())
        await client.subscribe(inbox, cb=on_message)
        # A cancellation can be lost: before Python 3.12 `wait_for` returns instead of raising when the answer
        # to an ack arrives in the same iteration of the loop. So `stop` is checked before every wait.
        while not stop.is_set():
            while wanted <= BATCH:
                await client.publish(pull, request, reply=inbox)
                wanted += BATCH
            while not messages:
                if stop.is_set():
                    return
                arrived.clear()
                await arrived.wait()
            taken = [messages.popleft() for _ in range(min(BATCH, len(messages)))]
            batch = [msg for msg in taken if msg.reply.startswith("$JS.ACK")]
            if len(batch) < len(taken):
                wanted = 0  # a pull has ended: pull again
            if not batch:
                continue
            wanted -= len(batch)
            positions = [int(msg.reply.split(".")[5]) for msg in batch]
            events = [decode(msg.data) for msg in batch]
            await connection.fetch(
                INGEST_BATCH,
                [(partition, epoch, position, positions[-1])],
                [
                    (partition, at, e.subject, e.tenant, e.id, e.type, e.version, e.time, msg.data.decode())
                    for at, e, msg in zip(positions, events, batch, strict=True)
                ],
                [],
                [events[-1].id],
            )
            await _announce(client, batch if announces else [])
            position = positions[-1]
            await batch[-1].ack_sync(timeout=30)


async def _announce(client: Client, messages: Sequence[Msg]) -> None:
    for message in messages:
        event = decode(message.data)
        subject = committed_subject(event.tenant, event.subject)
        await client.publish(subject, b"[" + message.data + b"]")


async def main(nats_url: str, dsn: str) -> None:
    """Ingest and announce until the process is terminated."""
    database = await Database.connect(dsn, max_size=PARTITIONS + 1)
    running = asyncio.create_task(bare_loop(nats_url, database, asyncio.Event(), announces=True))
    await asyncio.sleep(1)
    print("ready", flush=True)
    await running


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], sys.argv[2]))
