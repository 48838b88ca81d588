"""A process that ingests what the stream has and prints its pace: `… NATS_URL DSN FOLDER`.

With OTEL_EXPORTER_OTLP_ENDPOINT it exports spans, as persistence does.
"""

import asyncio
import sys
import time

import msgspec

from antiphon.chassis import telemetry
from antiphon.chassis.database import Database
from antiphon.chassis.settings import LogSettings
from antiphon.contracts.subjects import PARTITIONS

from .ingest import EVENTS, ingest, throughput


class Pace(msgspec.Struct):
    """Events per second, and microseconds of processor time of an event."""

    rate: float
    worked: float


async def measure(nats_url: str, dsn: str) -> Pace:
    """Ingest the events of the benchmark from the start."""
    database = await Database.connect(dsn, max_size=PARTITIONS + 4)
    try:
        worked = time.process_time()
        rate = await throughput(ingest, nats_url, database)
        return Pace(rate, (time.process_time() - worked) / EVENTS * 1e6)
    finally:
        await database.close()


if __name__ == "__main__":
    telemetry.configure("benchmark", LogSettings(log_level="error"))
    pace = asyncio.run(measure(sys.argv[1], sys.argv[2]))
    telemetry.flush()
    sys.stdout.buffer.write(msgspec.json.encode(pace))
