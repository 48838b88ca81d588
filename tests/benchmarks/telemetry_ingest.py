"""A process that ingests what the stream has and prints its pace: `… NATS_URL DSN FOLDER`.

It exports spans to OTEL_EXPORTER_OTLP_ENDPOINT, as persistence does, in every other pass.
"""

import asyncio
import sys
import time
from typing import Any

import msgspec

from antiphon.chassis import telemetry
from antiphon.chassis.database import Database
from antiphon.chassis.settings import LogSettings
from antiphon.contracts.subjects import PARTITIONS
from antiphon.persistence.traced_commits import TracedCommits

from .ingest import EVENTS, ingest, throughput
from .switched_traces import Samples, SwitchedTraces, in_turn

PASSES = 8


class Pace(msgspec.Struct):
    """Events per second, and microseconds of processor time of an event.

    `telemetry` is the time in which the process made and sent spans, `rest` all other of the same passes.
    """

    rate: Samples
    telemetry: list[float]
    rest: list[float]


class TimedCommits:
    """The processor time that the spans of commits take on the event loop."""

    def __init__(self) -> None:
        self.seconds = 0.0
        show = TracedCommits.show

        def timed(*arguments: Any, **options: Any) -> None:
            began = time.thread_time()
            show(*arguments, **options)
            self.seconds += time.thread_time() - began

        TracedCommits.show = timed  # type: ignore[method-assign]


async def measure(nats_url: str, dsn: str) -> Pace:
    """Ingest the events of the benchmark from the start, several times."""
    traces, pace, commits = SwitchedTraces(), Pace(Samples([], []), [], []), TimedCommits()
    database = await Database.connect(dsn, max_size=PARTITIONS + 4)
    try:
        await throughput(ingest, nats_url, database)  # the first pass is slower
        for traced in in_turn(PASSES):
            traces.switch(traced)
            worked, on_loop, shown = time.process_time(), time.thread_time(), commits.seconds
            pace.rate.of(traced).append(await throughput(ingest, nats_url, database))
            worked, on_loop = time.process_time() - worked, time.thread_time() - on_loop
            telemetry_seconds = commits.seconds - shown + worked - on_loop  # another thread sends the spans
            if traced:
                pace.telemetry.append(telemetry_seconds / EVENTS * 1e6)
                pace.rest.append((worked - telemetry_seconds) / EVENTS * 1e6)
        return pace
    finally:
        await database.close()


if __name__ == "__main__":
    telemetry.configure("benchmark", LogSettings(log_level="error"))
    pace = asyncio.run(measure(sys.argv[1], sys.argv[2]))
    telemetry.flush()
    sys.stdout.buffer.write(msgspec.json.encode(pace))
