"""A view that was built leaves out what an operator has made it skip, whenever that was."""

from typing import TYPE_CHECKING, Any

import pytest
from tests.benchmarks.history import calls

from antiphon.chassis.database import Database
from antiphon.chassis.settings import PostgresSettings
from antiphon.persistence.projections.turns import TURNS
from antiphon.persistence.rebuild import build as build_module
from antiphon.persistence.rebuild.build import build
from antiphon.persistence.rebuild.swap import swap
from antiphon.persistence.resume import skip_event
from antiphon.persistence.verify.views import verify_view

if TYPE_CHECKING:
    from tests.fixtures.filled_log import FilledLog

_SAVED = "select session_id, sequence from event_log where type = 'turn.saved' order by position limit 1"


class Skipping:
    """Skips the first saved turn of the log."""

    def __init__(self, database: Database, dsn: str) -> None:
        self._database = database
        self._settings = PostgresSettings(postgres_dsn=dsn)

    async def skip(self) -> None:
        [(session_id, sequence)] = await self._database.pool.fetch(_SAVED)
        await skip_event(self._settings, TURNS.name, session_id, sequence)


@pytest.fixture
async def skipping(database: Database, filled: "FilledLog", postgres_dsn: str) -> Skipping:
    await filled.put(calls(20))
    await build(postgres_dsn, database, TURNS)
    return Skipping(database, postgres_dsn)


async def test_a_build_that_goes_on_leaves_out_what_was_skipped_after_it_ended(
    skipping: Skipping, database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def killed(*_: object, **__: object) -> None:
        raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        patched.setattr(build_module, "swap", killed)
        with pytest.raises(RuntimeError, match="killed"):
            await build(postgres_dsn, database, TURNS)
    await skipping.skip()

    await build(postgres_dsn, database, TURNS)

    await _differs_in_nothing(database)


async def test_a_build_leaves_out_what_is_skipped_while_it_runs(
    skipping: Skipping, database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    swaps = 0

    async def swap_after_the_skip(*arguments: Any, **options: Any) -> None:
        nonlocal swaps
        swaps += 1
        if swaps == 1:
            await skipping.skip()
        await swap(*arguments, **options)

    monkeypatch.setattr(build_module, "swap", swap_after_the_skip)
    await build(postgres_dsn, database, TURNS)

    assert swaps == 2  # it was built again
    await _differs_in_nothing(database)


async def test_a_build_goes_on_when_an_event_that_it_has_not_folded_is_skipped(
    skipping: Skipping, database: Database, postgres_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is how a build goes on that has met an event that it cannot fold."""
    folded = 0

    def on_progress(events: int, _: float) -> None:
        nonlocal folded
        folded += events
        if folded >= 128 and not stopped:
            raise RuntimeError("killed")

    stopped = False
    monkeypatch.setattr("antiphon.persistence.rebuild.fold.PAGE", 32)
    monkeypatch.setattr("antiphon.persistence.rebuild.fold.BATCH", 32)
    with pytest.raises(RuntimeError, match="killed"):
        await build(postgres_dsn, database, TURNS, on_progress=on_progress)
    [(session_id, sequence)] = await database.pool.fetch(_SAVED.replace("position", "position desc"))
    await skip_event(PostgresSettings(postgres_dsn=postgres_dsn), TURNS.name, session_id, sequence)
    stopped = True

    await build(postgres_dsn, database, TURNS, on_progress=on_progress)

    events = await database.pool.fetchval("select count(*) from event_log where type ~ '^turn[.]'")
    assert events <= folded < events + 128  # what was not committed is folded again
    await _differs_in_nothing(database)


async def _differs_in_nothing(database: Database) -> None:
    report = await verify_view(database, TURNS)
    assert [str(difference) for difference in report.differences] == []
