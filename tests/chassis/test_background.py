"""Background tasks restart after a failure, and their check tells."""

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

import pytest
import structlog
from tests.doubles.finished_spans import keep_spans

from antiphon.chassis import background, tracing
from antiphon.chassis.background import BackgroundTask, BackgroundTaskFailed


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is awaited has no event
            await asyncio.sleep(0.01)


async def test_a_failed_task_is_started_again() -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise ValueError("not yet")
        await asyncio.Event().wait()

    task = BackgroundTask(run, name="worker")
    await _until(lambda: runs == 3)
    assert task.failures == 2
    await task.close()
    assert task.done


async def test_check_raises_while_the_task_fails_and_passes_when_it_has_settled() -> None:
    failing = asyncio.Event()
    failing.set()

    async def run() -> None:
        if failing.is_set():
            raise ValueError("broken")
        await asyncio.Event().wait()

    task = BackgroundTask(run, name="worker", settled_seconds=0.1)
    task.check()
    await _until(lambda: task.failures > 0)
    with pytest.raises(BackgroundTaskFailed, match=r"worker fails: ValueError\('broken'\)"):
        await task.ready()
    failing.clear()
    async with asyncio.timeout(20):
        while True:
            try:
                task.check()
                break
            except BackgroundTaskFailed:
                await asyncio.sleep(0.01)
    await task.close()


async def test_a_task_that_returns_is_done_and_not_started_again() -> None:
    runs = 0

    async def run() -> None:
        nonlocal runs
        runs += 1

    task = BackgroundTask(run, name="worker")
    await _until(lambda: task.done)
    assert runs == 1
    task.check()


async def test_the_first_failure_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        raise ValueError("broken")

    task = BackgroundTask(run, name="worker")
    await _until(lambda: task.failures >= 2)
    await task.close()
    first, second, *_ = [record for record in caplog.records if "background.failed" in record.getMessage()]
    assert first.exc_info is not None
    assert second.exc_info is None
    assert "broken" not in first.getMessage()  # it may quote a caller


async def test_close_ends_a_task_that_swallows_a_cancellation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "CANCEL_SECONDS", 0.05)
    swallowed = 0

    async def run() -> None:
        nonlocal swallowed
        while swallowed < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                swallowed += 1
        await asyncio.Event().wait()

    task = BackgroundTask(run, name="worker")
    await asyncio.sleep(0)
    async with asyncio.timeout(20):
        await task.close()
    assert swallowed == 3


async def test_a_task_that_a_request_starts_is_not_of_that_request(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = keep_spans(monkeypatch)
    found: list[object] = []
    kept: ContextVar[str] = ContextVar("kept")

    async def run() -> None:
        found.extend((structlog.contextvars.get_merged_contextvars(log), tracing.current_ids(), kept.get()))
        with tracing.span("read for all"):
            pass

    log = structlog.get_logger()
    kept.set("job")
    with structlog.contextvars.bound_contextvars(request_id="r-1"), tracing.span("GET"):
        task = BackgroundTask(run, name="shared by requests")
        await task.ended()
        assert structlog.contextvars.get_contextvars() == {"request_id": "r-1"}

    assert found == [{}, None, "job"]
    assert [span.parent for span in spans.get_finished_spans()] == [None, None]
