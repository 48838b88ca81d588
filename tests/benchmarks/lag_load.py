"""A process that publishes events at a steady rate.

`python -m tests.benchmarks.lag_load NATS_URL RATE EVENTS NAME FILE` prints "ready", waits for a line, and
writes the clock at each event's publication to the file, in order. The clock is that of all processes of the
machine.
"""

import asyncio
import gc
import sys
import time
from array import array
from pathlib import Path

import uvloop

from antiphon.chassis.bus import Bus, GroupCommit, outgoing

from .ingest import conversation


async def main(nats_url: str, rate: int, events: int, name: str, path: str) -> None:
    """Publish so many events at a rate."""
    bus = await Bus.connect(nats_url, name="lag load")
    group, times = GroupCommit(bus), array("d")
    publishing: set[asyncio.Task[object]] = set()
    made = [outgoing(envelope) for envelope in conversation(events, name)]
    gc.disable()  # the load must leave the processor to what is measured
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    began = time.monotonic()
    for number, out in enumerate(made):
        if (early := began + number / rate - time.monotonic()) > 0:
            await asyncio.sleep(early)
        times.append(time.monotonic())
        task: asyncio.Task[object] = asyncio.create_task(group.publish(out))
        publishing.add(task)
        task.add_done_callback(publishing.discard)
    await asyncio.gather(*publishing)
    Path(path).write_bytes(times.tobytes())  # noqa: ASYNC240 - the load is over
    await bus.close()


if __name__ == "__main__":
    uvloop.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]))
