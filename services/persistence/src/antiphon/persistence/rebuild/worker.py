"""One process of a rebuild: `python -m antiphon.persistence.rebuild.worker`, started by `processes`."""

import asyncio
import gc
import os
import sys
from asyncio import StreamReader, StreamReaderProtocol
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import msgspec
import structlog
import uvloop

from antiphon.chassis import telemetry
from antiphon.chassis.background import end_task
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log
from antiphon.chassis.postgres import connect
from antiphon.chassis.settings import LogSettings, load
from antiphon.contracts.cursor import Cursor
from antiphon.persistence.projection.batch import view_dsn
from antiphon.persistence.projections import PROJECTIONS
from antiphon.persistence.rebuild.fold import COLLECTED_AFTER, STATEMENT_SECONDS, Fold
from antiphon.persistence.rebuild.processes import Report, Work, encode
from antiphon.persistence.rebuild.shadow import fingerprint, search_path
from antiphon.persistence.rebuild.shares import Partitions

READERS = 2

log = structlog.get_logger(__name__)

_work = msgspec.json.Decoder(Work)
_share = msgspec.json.Decoder(Partitions)


Folding = Callable[[Partitions], Awaitable[None]]


@asynccontextmanager
async def folding(work: Work) -> AsyncIterator[Folding]:
    """Yield what folds a share of the partitions and reports each batch; it raises what Fold.to raises."""
    [projection] = [projection for projection in PROJECTIONS if projection.name == work.projection]
    if fingerprint(projection) != work.fingerprint:
        raise RuntimeError("the code of this view was replaced while it is built")
    name = f"persistence rebuild {work.projection} {os.getpid()}"
    database = await Database.connect(work.dsn, name=name, max_size=READERS)
    try:
        connection = await connect(view_dsn(work.dsn), name=name, statement_seconds=STATEMENT_SECONDS)
        try:
            await connection.execute(f"set search_path = {search_path(work.projection)}")
            events = Log(database, None)

            async def fold(share: Partitions) -> None:
                fold = Fold(projection, connection, events, work.epoch, partitions=share, empty=work.empty)
                await fold.begin()
                _report(0, 0.0)
                await fold.to(Cursor(work.until), _report)
                _report(0, 1.0, finished=True)

            yield fold
        finally:
            connection.terminate()
    finally:
        await database.close()


def _report(events: int, done: float, *, finished: bool = False) -> None:
    sys.stdout.buffer.write(encode(Report(events, done, finished)) + b"\n")
    sys.stdout.buffer.flush()


async def main() -> None:
    """Fold share after share, until the process that started this one closes the input."""
    reader = StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    try:
        async with folding(_work.decode(line)) as fold:
            line = await reader.readline()
            while line:
                task = asyncio.ensure_future(fold(_share.decode(line)))
                ahead = asyncio.ensure_future(reader.readline())
                await asyncio.wait([task, ahead], return_when=asyncio.FIRST_COMPLETED)
                if not task.done():  # there is no line before the report that this share is finished
                    await end_task(task)
                await task
                line = await ahead
    except asyncio.CancelledError:
        raise SystemExit(1) from None
    except Exception as error:  # noqa: BLE001 - logged, and the process ends
        log.warning("rebuild.process_failed", error=repr(error))
        raise SystemExit(1) from None


if __name__ == "__main__":
    gc.set_threshold(*COLLECTED_AFTER)
    telemetry.configure("persistence", load(LogSettings))
    uvloop.run(main())
