"""Verify the event log: both hash chains, the density of sequences, and columns against envelopes.

What is committed or erased meanwhile makes no difference: each partition is read up to the checkpoint that it
had at the start, and each page with what it depends on in one statement.
"""

import time
from collections.abc import Callable, Mapping
from datetime import datetime

from antiphon.chassis.database import Database
from antiphon.persistence.verify.difference import Difference, LogReport
from antiphon.persistence.verify.heads import Head
from antiphon.persistence.verify.log_rows import Checkpoint, LogRows, Start
from antiphon.persistence.verify.partition_check import PartitionCheck

Progress = Callable[[int, int, int], None]  # positions that are done, positions in all, events that are done


async def verify_log(
    database: Database,
    *,
    since: datetime | None = None,
    tenant: str | None = None,
    anchors: Mapping[int, Head] | None = None,
    progress: Progress = lambda done, total, events: None,
) -> LogReport:
    """Verify the log, or what was committed since a time, or the sessions of one tenant.

    `anchors` are heads of partitions that were kept elsewhere; they need all of the log.
    Raises NoSuchTenant, DatabaseUnavailable, and the errors of Postgres.
    """
    report = LogReport(since, tenant)
    began = time.perf_counter()
    rows = LogRows(database, tenant)
    await rows.check_tenant()
    ends, beyond = await rows.ends()
    report.heads = [_head(end) for end in ends]
    for session_id, sequence, partition, position in beyond:
        text = "it is beyond the checkpoint of its partition: ingest has not committed it"
        report.add(Difference("checkpoint", text, partition, position, session_id, sequence))
    starts = [Start() if since is None else await rows.start_at(end, since) for end in ends]
    total = sum(max(0, end.position - start.position) for end, start in zip(ends, starts, strict=True))
    done = 0
    for end, start in zip(ends, starts, strict=True):
        check = PartitionCheck(end, start, report, (anchors or {}).get(end.partition))
        reached = start.position
        async for page in rows.pages(end.partition, start.position, end.position):
            check.check(page)
            done, reached = done + page[-1].position - reached, page[-1].position
            progress(done, total, report.events)
        check.finish()
        done += max(0, end.position - reached)
        progress(done, total, report.events)
    report.seconds = time.perf_counter() - began
    return report


def _head(end: Checkpoint) -> Head:
    chain = None if end.chain is None else end.chain.hex()
    return Head(end.partition, end.position, end.chained, end.chained_after, chain)
