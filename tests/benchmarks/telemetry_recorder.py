"""A process that records events of a traced job and prints what one costs: `… NATS_URL DSN FOLDER`.

With OTEL_EXPORTER_OTLP_ENDPOINT it exports spans, as a job of the agent worker does.
"""

import asyncio
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from statistics import median

import msgspec

from antiphon.chassis import telemetry, tracing
from antiphon.chassis.bus import Bus
from antiphon.chassis.settings import LogSettings
from antiphon.recorder.outbox import BusLink, Outbox

from .recorder import WRITTEN, _writer

EVENTS = 3_000
PAUSE_EVERY = 10  # events; a call has fewer at once
PAUSE_SECONDS = 0.01


class Cost(msgspec.Struct):
    """Microseconds of an event: to write it down, and of all work until the broker has it."""

    written: float
    published: float


async def measure(nats_url: str, folder: Path) -> Cost:
    """Write events in the span of a job, and publish them."""
    link = BusLink(partial(Bus.connect, nats_url, name="recorder"))
    times: list[int] = []
    try:
        await link.bus()
        outbox = Outbox(folder, link, job_id="AJ_telemetry")
        outbox.start()
        with tracing.span("job_entrypoint"):
            writer = _writer(outbox, "telemetry")
            writer.traceparent = tracing.current_traceparent()
            worked = time.process_time_ns()
            for number in range(EVENTS):
                event = WRITTEN[number % len(WRITTEN)]
                began = time.perf_counter_ns()
                writer.write(event)
                times.append(time.perf_counter_ns() - began)
                if number % PAUSE_EVERY == 0:
                    await asyncio.sleep(PAUSE_SECONDS)
            closed = await outbox.close(60)
            worked = time.process_time_ns() - worked
        if not closed:
            raise RuntimeError("the broker did not take all events")
    finally:
        await link.close()
    return Cost(median(times) / 1000, worked / EVENTS / 1000)


if __name__ == "__main__":
    telemetry.configure("benchmark", LogSettings(log_level="error"))
    with tempfile.TemporaryDirectory(dir=sys.argv[3]) as place:
        cost = asyncio.run(measure(sys.argv[1], Path(place)))
    telemetry.flush()
    sys.stdout.buffer.write(msgspec.json.encode(cost))
