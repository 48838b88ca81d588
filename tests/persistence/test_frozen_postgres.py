"""Postgres that accepts connections and answers nothing: persistence still ends, and loses nothing."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
import pytest

from antiphon.chassis.bus import Bus
from antiphon.cli.stack.postgres import Postgres

if TYPE_CHECKING:
    from tests.persistence.conftest import LogReader, NewSession, Publish, Replicas

pytestmark = [pytest.mark.slow, pytest.mark.embedded_servers]

CALLS = 24  # of every partition, or nearly


@pytest.fixture
def freeze(postgres_server: Postgres) -> Iterator[Callable[[], list[int]]]:
    """Stop every process of Postgres and return their ids, until `_thaw` or the end of the test."""
    frozen: list[int] = []

    def stop() -> list[int]:
        assert postgres_server.process is not None
        main = postgres_server.process.pid
        frozen.append(main)
        os.kill(main, signal.SIGSTOP)  # first: it would start others
        for child in psutil.Process(main).children():
            frozen.append(child.pid)
            child.suspend()
        return frozen

    try:
        yield stop
    finally:
        _thaw(frozen)


def _thaw(frozen: list[int]) -> None:
    while frozen:
        with suppress(ProcessLookupError):
            os.kill(frozen.pop(), signal.SIGCONT)


async def test_sigterm_ends_the_process_while_a_commit_has_no_answer(
    bus: Bus,
    publish: "Publish",
    replica: "Replicas",
    event_log: "LogReader",
    new_session: "NewSession",
    freeze: Callable[[], list[int]],
) -> None:
    calls = [new_session(f"frozen {number}").whole_call() for number in range(2 * CALLS)]
    first = replica()
    await first.start()
    await first.until_ready(60)
    for call in calls[:CALLS]:
        await publish(call)
    await event_log.until(sum(map(len, calls[:CALLS])), 60)

    frozen = freeze()
    for call in calls[CALLS:]:
        await publish(call)
    code = await first.end(seconds=60)
    _thaw(frozen)

    assert code == 0, first.log.read_text()
    second = replica()
    await second.start()
    await event_log.until(sum(map(len, calls)), 60)
    for call in calls:
        assert await event_log.events(call[0].subject) == [(n, e.id) for n, e in enumerate(call, 1)]
    assert await event_log.dead_letters() == []
