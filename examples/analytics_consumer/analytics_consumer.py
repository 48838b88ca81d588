"""Calls and response latency per flow, from the events on the bus, in a SQLite file.

`python analytics_consumer.py` consumes until SIGTERM; `python analytics_consumer.py report` prints the table.
"""

import asyncio
import logging
import os
import sqlite3
import sys
from pathlib import Path

from faststream import FastStream

from antiphon.chassis.bus.errors import BusError
from antiphon.chassis.bus.typed_consumer import Start, TypedConsumer
from antiphon.chassis.nats_access import InvalidAccess, NatsAccess
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.events.session import SessionClosed, SessionRequested
from antiphon.contracts.events.turn import TurnSaved

# The id of the event is the key of its row: an event that is delivered again changes nothing.
TABLES = """
create table if not exists calls (event_id text primary key, session_id text, flow_id text);
create table if not exists endings (event_id text primary key, session_id text, reason text, seconds real);
create table if not exists turns (event_id text primary key, session_id text, latency real);
"""
REPORT = """
with ranked as (
    select flow_id, latency, cume_dist() over (partition by flow_id order by latency) as rank
    from turns join calls using (session_id) where latency is not null
)
select flow_id,
    count(*) as calls,
    (select count(*) from turns join calls c using (session_id) where c.flow_id = calls.flow_id) as turns,
    (select min(latency) from ranked where ranked.flow_id = calls.flow_id and rank >= 0.95) as p95
from calls group by flow_id order by flow_id
"""


def open_store(path: Path) -> sqlite3.Connection:
    """Open the file, and create its tables if it is new."""
    store = sqlite3.connect(path, isolation_level=None)  # each statement is a transaction
    store.executescript("pragma journal_mode = wal;" + TABLES)
    return store


def make_consumer(name: str, access: NatsAccess, start: Start, store: sqlite3.Connection) -> TypedConsumer:
    """Return the consumer with its handlers."""
    # A locked file or a full disk is retried without end: it is not the fault of the event.
    consumer = TypedConsumer(
        name, access, start=start, transient=(sqlite3.OperationalError,), handler_seconds=5
    )

    @consumer.on(SessionRequested)
    async def call_requested(event: SessionRequested, envelope: Envelope) -> None:
        store.execute(
            "insert or ignore into calls values (?, ?, ?)", (envelope.id, envelope.subject, event.flow_id)
        )

    @consumer.on(TurnSaved)
    async def turn_saved(event: TurnSaved, envelope: Envelope) -> None:
        latency = event.metrics.get("e2e_latency")
        store.execute(
            "insert or ignore into turns values (?, ?, ?)", (envelope.id, envelope.subject, latency)
        )

    @consumer.on(SessionClosed)
    async def call_closed(event: SessionClosed, envelope: Envelope) -> None:
        row = (envelope.id, envelope.subject, event.reason, event.duration_seconds)
        store.execute("insert or ignore into endings values (?, ?, ?, ?)", row)

    return consumer


def report(store: sqlite3.Connection) -> None:
    """Print calls, turns and the 95th percentile of the response latency, per flow."""
    print(f"{'flow':20} {'calls':>7} {'turns':>7} {'p95':>9}")
    for flow_id, calls, turns, p95 in store.execute(REPORT):
        print(f"{flow_id or '(none)':20} {calls:7} {turns:7} {'-' if p95 is None else f'{p95:7.3f} s':>9}")


def main() -> None:
    """Read the settings from the environment, then consume or report."""
    store = open_store(Path(os.environ.get("ANALYTICS_FILE", "analytics.sqlite")))
    if sys.argv[1:] == ["report"]:
        report(store)
        return
    if sys.argv[1:]:
        sys.exit(f"unknown argument {sys.argv[1]!r}: give none to consume, or report")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    try:
        consumer = make_consumer(
            os.environ.get("ANALYTICS_NAME", "analytics"),
            NatsAccess.from_env(),
            Start(os.environ.get("ANALYTICS_START", Start.BEGINNING)),
            store,
        )
    except (InvalidAccess, ValueError) as error:
        sys.exit(f"ANALYTICS_NAME, ANALYTICS_START or the address of the broker is wrong: {error}")
    try:
        asyncio.run(FastStream(consumer.broker, logger=None).run())
    except (BusError, InvalidAccess) as error:
        sys.exit(f"{error}; set ANTIPHON_NATS_URL: examples/analytics_consumer/README.md shows how")
    finally:
        store.close()


if __name__ == "__main__":
    main()
