"""Whatever becomes of announcements, every follower gets each event once, in order within each session."""

import asyncio
import random
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.chassis.log.conftest import INSERT, Writer, rows
from tests.chassis.log.followers import DEADLINE_SECONDS, followers
from tests.fixtures.ids import SequentialIds

from antiphon.chassis.bus import Bus
from antiphon.chassis.database import Database
from antiphon.chassis.log import Log, follow, session_follower
from antiphon.contracts.cursor import Cursor
from antiphon.contracts.envelope import Envelope
from antiphon.contracts.subjects import partition_of

SESSIONS = 6
EXAMPLES = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
commits = st.lists(
    st.tuples(
        st.integers(0, SESSIONS - 1),
        st.integers(1, 4),  # events
        st.booleans(),  # turns
        st.sampled_from(["announced", "dropped", "duplicated", "delayed"]),
    ),
    min_size=1,
    max_size=25,
)


class Announcer:
    """The way from a commit to the followers, which loses, repeats, holds back and reorders announcements."""

    def __init__(self, writer: Writer, seed: int) -> None:
        self._writer = writer
        self._random = random.Random(seed)
        self._delayed: list[list[Envelope]] = []

    async def announce(self, envelopes: list[Envelope], fate: str) -> None:
        if fate == "delayed":
            self._delayed.append(envelopes)
        for _ in range({"announced": 1, "duplicated": 2}.get(fate, 0)):
            await self._writer.announce(envelopes)
        if self._random.random() < 0.3:
            await self.flush()

    async def flush(self) -> None:
        self._random.shuffle(self._delayed)
        for envelopes in self._delayed:
            await self._writer.announce(envelopes)
        self._delayed.clear()


@pytest.fixture
def log(database: Database, bus: Bus, monkeypatch: pytest.MonkeyPatch) -> Log:
    monkeypatch.setattr(follow, "PARTITIONS_POLL_SECONDS", 0.2)
    monkeypatch.setattr(session_follower, "SESSION_POLL_SECONDS", 0.2)
    return Log(database, bus)


@EXAMPLES
@given(plan=commits, seed=st.integers(0, 2**32), pauses=st.booleans())
async def test_any_announcements(
    plan: list[tuple[int, int, bool, str]], seed: int, pauses: bool, log: Log, writer: Any
) -> None:
    sessions = _new_sessions(writer)
    announcer = Announcer(writer, seed)
    committed: list[Envelope] = []
    cursor = await log.head()
    one: list[object] = []

    async def follow_one() -> None:
        async with aclosing(log.follow_session("default", sessions[0])) as events:
            async for envelope in events:
                one.append(envelope.sequence)  # noqa: PERF401 - it is read meanwhile

    async with followers(log, cursor) as started, asyncio.timeout(DEADLINE_SECONDS):
        following_one = asyncio.ensure_future(follow_one())
        for number, count, turns, fate in plan:
            tenant = "other" if number % 2 else "default"
            envelopes = await writer.commit(sessions[number], count, tenant, turns=turns)
            committed += envelopes
            await announcer.announce(envelopes, fate)
            if pauses:
                await asyncio.sleep(0.01)
        await announcer.flush()
        head = await log.head()
        for follower in started:
            await follower.check(committed)
            await follower.passes(head)
        expected = [e.sequence for e in committed if e.subject == sessions[0]]
        while len(one) < len(expected):  # noqa: ASYNC110 - a list has no event
            await asyncio.sleep(0.01)
        assert one == expected
        following_one.cancel()
        await asyncio.gather(following_one, return_exceptions=True)


async def test_a_transaction_that_commits_late_is_not_passed(
    log: Log, writer: Any, database: Database
) -> None:
    """Positions of different partitions become visible in any order; of one partition, in theirs."""
    early, late = _new_sessions(writer)[:2]
    assert partition_of(early) != partition_of(late)
    async with followers(log, Cursor()) as started:
        first = writer.envelopes(late, 3, "other", turns=True)
        async with database.transaction() as connection:
            await connection.executemany(INSERT, rows(first))
            second = await writer.commit_and_announce(early, 3)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while not started[0].received:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert await log.head() == Cursor({partition_of(early): 6})
            read = [e async for batch in log.read(Cursor()) for e in batch.envelopes]
            assert [e.position for e in read] == [4, 5, 6]
        await writer.announce(first)

        for follower in started:
            await follower.check(first + second)


def _new_sessions(writer: Writer) -> list[str]:
    """Return ids that no example before has used, each of a partition of its own."""
    ids = SequentialIds()
    found: dict[int, str] = {}
    while len(found) < SESSIONS:
        session = ids()
        if session not in writer.sessions:
            found.setdefault(partition_of(session), session)
    return list(found.values())
