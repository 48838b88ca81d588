"""Call: what a minute of a call costs: events and bytes, processor time and memory of each service, network.

The calls are real ones through a LiveKit server: with the offline voice, and with doubles of Deepgram and
OpenAI, whose models run elsewhere.
"""

import asyncio
import os
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from tests.doubles.server import KEY, serve
from tests.fixtures.stack_settings import isolated_settings

from antiphon.chassis.database import Database
from antiphon.cli.caller import Caller
from antiphon.cli.embedded import EmbeddedStack
from antiphon.cli.supervisor.state import Addresses
from antiphon.client import AsyncAntiphon

from .persistence import until
from .processes import pss_mib, watching
from .report import Report, Result, Servers
from .turns_calls import publish
from .turns_cases import NOVA, OFFLINE, SECRET, Case, doubles

CASES = (Case("stt", OFFLINE), Case("stt", NOVA))
BOOKING = ("i would like to book a table for two", "tomorrow at seven", "yes please")
AT_ONCE = 2
TALK_SECONDS = float(os.environ.get("BENCH_SECONDS", "40"))  # of each call
READY_SECONDS = 180.0  # also on a machine that has other work
ANSWER_SECONDS = 60.0
SETTLE_SECONDS = 10
EVENTS = """
select count(*), sum(octet_length(envelope::text)), extract(epoch from max(occurred_at) - min(occurred_at))
from event_log where session_id = $1
"""
ENDED = "select exists (select from event_log where session_id = $1 and type = 'session.closed')"
SIZE = (
    "select sum(pg_total_relation_size(c.oid)) from pg_class c where c.relkind in ('r', 'p') and c.relname {}"
)
LOG_TABLES = SIZE.format("like 'event_log%'")
ALL_TABLES = SIZE.format("!~ '^(pg_|sql_)'")


@dataclass(frozen=True, slots=True)
class Call:
    """What a call left: its events, their bytes as JSON, its length, and the bytes over the network."""

    events: int
    bytes: int
    seconds: float
    sent: int
    received: int


async def run(servers: Servers, report: Report) -> None:
    """Hold calls of each kind at the same time."""
    report.step("start a whole stack", seconds=400)
    os.environ[SECRET] = KEY
    folder = Path(servers.folder)
    async with serve(*doubles()) as url:
        with EmbeddedStack(isolated_settings(folder / "stack")) as stack:
            status = stack.status()
            pids = {service.name: service.pid for service in status.services if service.pid is not None}
            await publish(status.addresses, folder, url)
            for case in CASES:
                report.step(f"come to rest before {case.name}", seconds=SETTLE_SECONDS + 30)
                await asyncio.sleep(SETTLE_SECONDS)
                idle = pss_mib(pids["agent-worker"])
                report.step(f"{AT_ONCE} calls at once: {case.name}", seconds=READY_SECONDS + 5 * TALK_SECONDS)
                async with watching(pids) as used:
                    held = await asyncio.gather(*(_call(status.addresses, case) for _ in range(AT_ONCE)))
                minutes = sum(call.seconds for call in held) / 60
                for result in _rows(case, held, minutes):
                    report.row(result)
                for name in pids:
                    report.row(
                        Result(
                            name=f"{case.parts}: processor time of a call minute, {name}",
                            value=used.seconds(name) / minutes,
                            unit="s",
                        )
                    )
                report.row(
                    Result(
                        name=f"{case.parts}: memory of a call, agent-worker",
                        value=(used.peak_mib["agent-worker"] - idle) / AT_ONCE,
                        unit="MiB",
                    )
                )
            report.step("stop the stack", seconds=180)


def _rows(case: Case, held: list[Call], minutes: float) -> list[Result]:
    figures = (
        ("events", "", sum(call.events for call in held)),
        ("bytes of events as JSON", "KiB", sum(call.bytes for call in held) / 1024),
        ("sent by the caller", "KiB", sum(call.sent for call in held) / 1024),
        ("received by the caller", "KiB", sum(call.received for call in held) / 1024),
    )
    return [
        Result(name=f"{case.parts}: {name} of a call minute", value=value / minutes, unit=unit)
        for name, unit, value in figures
    ]


async def _call(where: Addresses, case: Case) -> Call:
    """Hold a call for a while, and return what it left when its end is in the log."""
    async with AsyncAntiphon(where.api_url, where.api_key) as client:
        flow = "booking" if case.parts == OFFLINE else case.flow_id
        created = await client.sessions.create(flow_id=flow, user_id="bench", can_publish_data=True)
        async with Caller(created.livekit_url, str(created.token)) as caller:
            await caller.wait_until_ready(timeout_seconds=READY_SECONDS)
            loop = asyncio.get_running_loop()
            until_then = loop.time() + TALK_SECONDS
            for line in cycle(BOOKING if case.parts == OFFLINE else (case.said,)):
                await caller.say_until_understood(line, timeout_seconds=ANSWER_SECONDS)
                if loop.time() >= until_then:
                    break
            sent, received = await _network(caller)
        await client.sessions.end(created.session_id)
    database = await Database.connect(str(where.postgres_dsn), max_size=1)
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await until(database, ENDED, created.session_id)
        left = await database.pool.fetchrow(EVENTS, created.session_id)
    finally:
        await database.close()
    assert left is not None
    events, size, seconds = left
    return Call(events, size, float(seconds), sent, received)


async def _network(caller: Caller) -> tuple[int, int]:
    """Return the bytes that the caller has sent and received, with the headers of RTP."""
    stats = await caller.room.get_rtc_stats()
    every = (*stats.publisher_stats, *stats.subscriber_stats)
    sent = sum(
        each.outbound_rtp.sent.bytes_sent + each.outbound_rtp.outbound.header_bytes_sent
        for each in every
        if each.HasField("outbound_rtp")
    )
    received = sum(
        each.inbound_rtp.inbound.bytes_received + each.inbound_rtp.inbound.header_bytes_received
        for each in every
        if each.HasField("inbound_rtp")
    )
    return int(sent), int(received)
