"""A process that ingests what the stream has and prints its pace: `… NATS_URL DSN FOLDER`.

It exports spans to OTEL_EXPORTER_OTLP_ENDPOINT, as persistence does, in every other pass.
"""

import asyncio
import sys
import time

import msgspec

from antiphon.chassis import telemetry
from antiphon.chassis.database import Database
from antiphon.chassis.settings import LogSettings
from antiphon.contracts.subjects import PARTITIONS

from .ingest import ingest, throughput
from .switched_traces import Samples, SwitchedTraces, in_turn

EVENTS = 15_000  # in the stream
PASSES = 20


class Pace(msgspec.Struct):
    """Events per second, and microseconds of processor time of an event."""

    rate: Samples
    worked: Samples


async def measure(nats_url: str, dsn: str) -> Pace:
    """Ingest the events of the benchmark from the start, several times."""
    traces, pace = SwitchedTraces(), Pace(Samples([], []), Samples([], []))
    await _ingest(nats_url, dsn)  # the first pass is slower
    for traced in in_turn(PASSES):
        traces.switch(traced)
        worked = time.process_time()
        pace.rate.of(traced).append(await _ingest(nats_url, dsn))
        pace.worked.of(traced).append((time.process_time() - worked) / EVENTS * 1e6)
    return pace


async def _ingest(nats_url: str, dsn: str) -> float:
    database = await Database.connect(dsn, max_size=PARTITIONS + 4)
    try:
        return await throughput(ingest, nats_url, database, EVENTS)
    finally:
        await database.close()


if __name__ == "__main__":
    telemetry.configure("benchmark", LogSettings(log_level="error"))
    pace = asyncio.run(measure(sys.argv[1], sys.argv[2]))
    telemetry.flush()
    sys.stdout.buffer.write(msgspec.json.encode(pace))
