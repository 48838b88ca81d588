"""One process of a rebuild: `python -m antiphon.persistence.rebuild.worker`, started by `processes`."""

import asyncio
import gc
import sys
from asyncio import StreamReader, StreamReaderProtocol

import msgspec
import structlog

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

READERS = 2

log = structlog.get_logger(__name__)

_work = msgspec.json.Decoder(Work)


async def fold(work: Work) -> None:
    """Fold the partitions of the work, and report each batch. Raises what Fold.to raises."""
    [projection] = [projection for projection in PROJECTIONS if projection.name == work.projection]
    if fingerprint(projection) != work.fingerprint:
        raise RuntimeError("the code of this view was replaced while it is built")
    name = f"persistence rebuild {work.projection} {work.partitions[0]}"
    database = await Database.connect(work.dsn, name=name, max_size=READERS)
    try:
        connection = await connect(view_dsn(work.dsn), name=name, statement_seconds=STATEMENT_SECONDS)
        try:
            await connection.execute(f"set search_path = {search_path(work.projection)}")
            fold = Fold(
                projection,
                connection,
                Log(database, None),
                work.epoch,
                partitions=work.partitions,
                empty=work.empty,
            )
            await fold.begin()
            _report(0, 0.0)
            await fold.to(Cursor(work.until), _report)
        finally:
            connection.terminate()
    finally:
        await database.close()


def _report(events: int, done: float) -> None:
    sys.stdout.buffer.write(encode(Report(events, done)) + b"\n")
    sys.stdout.buffer.flush()


async def main() -> None:
    """Work until all is done, or the process that started this one closes the input: it has ended."""
    loop = asyncio.get_running_loop()
    reader = StreamReader(limit=1 << 20)
    await loop.connect_read_pipe(lambda: StreamReaderProtocol(reader), sys.stdin)
    line = await reader.readline()
    if not line.endswith(b"\n"):
        raise SystemExit(1)
    folding = asyncio.ensure_future(fold(_work.decode(line)))
    ended = asyncio.ensure_future(reader.read())
    await asyncio.wait([folding, ended], return_when=asyncio.FIRST_COMPLETED)
    await end_task(ended)
    await end_task(folding)
    if folding.cancelled():
        raise SystemExit(1)
    if (error := folding.exception()) is not None:
        log.warning("rebuild.process_failed", error=repr(error))
        raise SystemExit(1)


if __name__ == "__main__":
    gc.set_threshold(*COLLECTED_AFTER)
    telemetry.configure("persistence", load(LogSettings))
    asyncio.run(main())
