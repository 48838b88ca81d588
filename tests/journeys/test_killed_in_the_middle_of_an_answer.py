"""An agent that is killed in the middle of an answer: its turn is in the log, up to what was heard."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import httpx
import psutil
import pytest
from tests.journeys.json_api import Json, SessionApi

from antiphon.cli.caller import Caller
from antiphon.cli.caller.caller import SPEAKING
from antiphon.cli.embedded import EmbeddedStack

WORKER = "agent-worker"
CHAT = "lk.chat"  # LiveKit's topic of what a user types
BEFORE = "i would like to book a table for two"
LINE = "tomorrow at seven"
SPOKEN_SECONDS = 2.5  # of an answer that takes six or more
RECOVERY_SECONDS = 90.0
COMMIT_LOOKS = 20  # of 0.1 s


def worker_of(stack: EmbeddedStack) -> psutil.Process:
    pid = next(service.pid for service in stack.status().services if service.name == WORKER)
    assert pid is not None
    return psutil.Process(pid)


def job_of(stack: EmbeddedStack, job_id: str) -> psutil.Process:
    """Return the process of a job: the one with its journal open; other calls may not be over yet."""
    for child in worker_of(stack).children(recursive=True):
        if any(file.path.endswith(f"{job_id}.journal") for file in child.open_files()):
            return child
    raise AssertionError("no job is running")


def find_job(stack: EmbeddedStack, job_id: str) -> list[psutil.Process]:
    return [job_of(stack, job_id)]


def find_worker(stack: EmbeddedStack, _: str) -> list[psutil.Process]:
    return [worker_of(stack)]


def find_both(stack: EmbeddedStack, job_id: str) -> list[psutil.Process]:
    return [worker_of(stack), job_of(stack, job_id)]


def kill_together(processes: list[psutil.Process]) -> None:
    """Kill processes so that none of them sees the end of another."""
    for process in processes:
        process.suspend()
    for process in processes:
        process.kill()


async def speak(caller: Caller) -> None:
    await caller.say(LINE)


async def type_in(caller: Caller) -> None:
    await caller.room.local_participant.send_text(LINE, topic=CHAT)


@pytest.mark.parametrize(
    ("find", "tell"),
    [
        pytest.param(find_job, speak, id="job"),
        pytest.param(find_worker, speak, id="worker"),
        pytest.param(find_both, speak, id="both"),
        pytest.param(find_both, type_in, id="both, typed"),
    ],
)
async def test_turn_of_a_killed_agent_is_in_the_log(
    stack: EmbeddedStack,
    api: SessionApi,
    http: httpx.AsyncClient,
    find: Callable[[EmbeddedStack, str], list[psutil.Process]],
    tell: Callable[[Caller], Awaitable[None]],
) -> None:
    await wait_until_ready(stack)
    body = {"flow_id": "booking", "user_id": "ada", "can_publish_data": tell is type_in}
    created = (await http.post("/v1/sessions", json=body)).json()
    session = created["session_id"]
    async with Caller(created["livekit_url"], created["token"]) as caller:
        await caller.wait_until_ready(timeout_seconds=RECOVERY_SECONDS)
        await caller.say_until_understood(BEFORE)
        await caller.wait_for_quiet(timeout_seconds=20)
        job_id = (await events(api, session, "agent.joined"))[-1]["data"]["job_id"]
        victims = await asyncio.to_thread(find, stack, job_id)  # which takes longer than a part of an answer
        assert await asks(caller, api, session, tell)
        await asyncio.sleep(SPOKEN_SECONDS)
        kill_together(victims)
        begun, turn = await last_turn(api, session)

    # the job outlives its worker for a moment, and may save the turn itself
    assert turn["recovered"] or find is find_worker
    assert turn["user_text"] == begun["user_text"]
    assert begun["user_text"] == LINE
    assert begun["input"] == ("text" if tell is type_in else "voice")
    heard, generated = turn["assistant_text"], turn["assistant_text_generated"]
    assert heard
    assert generated.startswith(heard)
    assert len(heard) < len(generated)

    saved = [event["data"] for event in await events(api, session, "turn.saved")]
    assert [data["turn"] for data in saved if data["epoch"] == turn["epoch"]] == list(
        range(1, turn["turn"] + 1)
    )
    assert not any(data["recovered"] for data in saved if data["turn"] < turn["turn"])
    await wait_until_ready(stack)


def _speaks(caller: Caller, since: int) -> bool:
    return any(change.state == SPEAKING for change in caller.log.states[since:])


async def asks(
    caller: Caller, api: SessionApi, session: str, tell: Callable[[Caller], Awaitable[None]]
) -> bool:
    """Tell the line until it is understood, and return when the agent speaks its long answer."""
    for _ in range(5):
        states = len(caller.log.states)
        turns = len(await events(api, session, "turn.started"))
        await tell(caller)
        assert await caller.log.wait_for(partial(_speaks, caller, states), 30)
        begun = await _turns_after(turns, api, session)
        if [turn["data"]["user_text"] for turn in begun] == [LINE]:
            return True
        await caller.wait_for_quiet(timeout_seconds=20)
    return False


async def _turns_after(turns: int, api: SessionApi, session: str) -> list[Json]:
    """Return the turns that have begun since; the agent may be heard before the log shows its turn."""
    for _ in range(COMMIT_LOOKS):
        if begun := (await events(api, session, "turn.started"))[turns:]:
            return begun
        await asyncio.sleep(0.1)
    return []


async def events(api: SessionApi, session: str, kind: str) -> list[Json]:
    return [event async for event in api.events(session) if event["type"] == kind]


async def last_turn(api: SessionApi, session: str) -> tuple[Json, Json]:
    """Wait until every turn that was started is saved; return both events of the last one."""
    async with asyncio.timeout(RECOVERY_SECONDS):
        while True:
            begun = (await events(api, session, "turn.started"))[-1]["data"]
            for event in await events(api, session, "turn.saved"):
                if (event["data"]["epoch"], event["data"]["turn"]) == (begun["epoch"], begun["turn"]):
                    return dict(begun), dict(event["data"])
            await asyncio.sleep(0.2)


async def wait_until_ready(stack: EmbeddedStack) -> None:
    async with asyncio.timeout(RECOVERY_SECONDS):
        while not (await asyncio.to_thread(stack.status)).ready:  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.2)
