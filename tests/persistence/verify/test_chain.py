"""The chains that Postgres computes are those of a plain reference, for any batches."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

from antiphon.chassis.database import Database
from antiphon.contracts.envelope import Envelope, encode
from antiphon.contracts.subjects import partition_of
from antiphon.persistence.verify.chain import NO_HASH, event_digest, link, start_of
from antiphon.persistence.verify.log_chain import verify_log

if TYPE_CHECKING:
    from tests.persistence.conftest import SampleSession
    from tests.persistence.verify.conftest import Committer

STEP = 10  # between two positions of the committer
TURNS = 13

Step = tuple[str, list[tuple[int, int]]]  # commit these events (session, number), or erase a session

events = st.lists(st.tuples(st.integers(0, 2), st.integers(0, TURNS - 1)), min_size=1, max_size=12)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), events),
        st.tuples(st.just("erase"), st.lists(st.tuples(st.integers(0, 2), st.just(0)), max_size=1)),
    ),
    max_size=12,
)


class Reference:
    """The chains as a reader of the documentation would compute them."""

    def __init__(self) -> None:
        self.chains: dict[int, bytes] = {}
        self.counts: Counter[int] = Counter()
        self.sequences: Counter[str] = Counter()
        self.hashes: dict[str, bytes] = {}

    def add(self, envelope: Envelope, position: int, committed_at: datetime) -> tuple[bytes, bytes]:
        """Return hash and chain of the next event."""
        session, partition = envelope.subject, partition_of(envelope.subject)
        self.sequences[session] += 1
        digest = event_digest(
            self.sequences[session],
            position,
            partition,
            envelope.version,
            envelope.time,
            committed_at,
            session,
            envelope.tenant,
            envelope.id,
            envelope.type,
            encode(envelope).decode(),
        )
        self.hashes[session] = link(self.hashes.get(session, NO_HASH), digest)
        before = self.chains.get(partition, start_of(partition, 0))
        self.chains[partition] = link(before, self.hashes[session])
        self.counts[partition] += 1
        return self.hashes[session], self.chains[partition]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    steps=steps,
    texts=st.lists(st.text(max_size=20), min_size=TURNS, max_size=TURNS),
    times=st.lists(
        st.datetimes(datetime(2, 1, 2), datetime(9998, 12, 30), timezones=st.just(UTC)),  # noqa: DTZ001
        min_size=TURNS,
        max_size=TURNS,
    ),
)
def test_any_batches_give_the_chains_of_the_reference(
    steps: list[Step],
    texts: list[str],
    times: list[datetime],
    postgres_dsn: str,
    calls: list["SampleSession"],
    new_committer: "type[Committer]",
) -> None:
    turns = list(zip(range(1, TURNS + 1), texts, times, strict=True))
    bodies = [
        [structs.replace(call.turn(number, text), time=time) for number, text, time in turns]
        for call in calls
    ]
    asyncio.run(_commit_and_compare(postgres_dsn, steps, bodies, calls, new_committer))


async def _commit_and_compare(
    dsn: str,
    steps: list[Step],
    bodies: list[list[Envelope]],
    calls: Sequence["SampleSession"],
    new_committer: "type[Committer]",
) -> None:
    database = await Database.connect(dsn, min_size=0, max_size=2)
    try:
        await database.pool.execute("truncate event_log, checkpoints, erased_events, erased_sessions")
        committer = new_committer(database)
        reference = Reference()
        known: set[str] = set()
        for action, chosen in steps:
            if action == "erase":
                for session, _ in chosen:
                    erased = calls[session].session_id
                    await database.pool.fetchval("select erase_session($1)", erased)
                    known = {event for event in known if not event.startswith(erased)}
                continue
            envelopes = [bodies[session][number] for session, number in chosen]
            fresh = list({e.id: e for e in reversed(envelopes) if e.id not in known}.values())[::-1]
            places: dict[str, int] = {}
            for number, envelope in enumerate(envelopes, start=1):
                places.setdefault(envelope.id, committer.position + number * STEP)
            await committer.commit(envelopes)
            known |= {envelope.id for envelope in fresh}
            rows = await database.pool.fetch(
                "select * from event_log where position = any($1) order by position",
                [places[envelope.id] for envelope in fresh],
            )
            by_id = {envelope.id: envelope for envelope in fresh}
            assert sorted(row["event_id"] for row in rows) == sorted(by_id)
            for row in rows:
                envelope = by_id[row["event_id"]]
                assert (row["hash"], row["chain"]) == reference.add(
                    envelope, places[envelope.id], row["committed_at"]
                )
        heads = await database.pool.fetch("select name, chain, chained from checkpoints")
        for name, chain, chained in heads:
            partition = int(name.removeprefix("ingest:"))
            expected = reference.chains.get(partition, start_of(partition, 0))
            assert (chain, chained) == (expected, reference.counts[partition])
        report = await verify_log(database)
        assert report.differences == []
    finally:
        await database.close()


@pytest.mark.parametrize(
    "time",
    [
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(2000, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    ],
)
async def test_the_first_and_the_last_instant(
    time: datetime, database: Database, committer: "Committer", calls: list["SampleSession"]
) -> None:
    await committer.commit([structs.replace(calls[0].turn(1), time=time)])

    report = await verify_log(database)

    assert (report.differences, report.verified) == ([], 1)


async def test_rows_with_the_same_texts_in_other_columns_have_other_digests(database: Database) -> None:
    query = (
        "select event_digest(1, 1, 1::smallint, 1::smallint, now(), now(), "
        "parts[1], parts[2], parts[3], parts[4], '{}') from unnest($1::text[]) as list (text) "
        "cross join lateral string_to_array(text, '|') as parts"
    )
    rows = await database.pool.fetch(query, ["ab|c|d|e", "a|bc|d|e", "a|b|cd|e", "abc||d|e", "|abc|d|e"])

    assert len({row[0] for row in rows}) == 5
