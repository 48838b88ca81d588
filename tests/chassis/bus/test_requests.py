"""Requests on core NATS: answered once, by one of a group, refused with a reason, and bounded."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from antiphon.chassis.bus import Bus, BusUnavailable, NoResponder, PayloadTooLarge
from antiphon.chassis.bus.requests import WAITING
from antiphon.cli.stack.nats import NatsServer

SUBJECT = "asked"


async def upper(payload: bytes) -> bytes:
    return payload.upper()


async def test_a_request_gets_the_answer(bus: Bus) -> None:
    await bus.serve(SUBJECT, upper, group="g", deadline_seconds=5)

    assert await bus.request(SUBJECT, b"a") == b"A"


async def test_without_a_responder_it_fails_at_once(bus: Bus) -> None:
    with pytest.raises(NoResponder, match="nobody answers"):
        await bus.request("asked.nobody", b"", timeout_seconds=60)


async def test_a_closed_responder_answers_no_more(bus: Bus) -> None:
    responder = await bus.serve("asked.closed", upper, group="g", deadline_seconds=5)
    await responder.close()

    with pytest.raises(NoResponder):
        await bus.request("asked.closed", b"", timeout_seconds=60)


async def test_one_of_a_group_answers(bus: Bus, nats_server: NatsServer) -> None:
    answers: list[bytes] = []

    def answering(name: bytes) -> Callable[[bytes], Awaitable[bytes]]:
        async def answer(payload: bytes) -> bytes:
            answers.append(name)
            return name

        return answer

    others = [await Bus.connect(nats_server.url) for _ in range(2)]
    for number, other in enumerate(others):
        await other.serve("asked.group", answering(b"%d" % number), group="g", deadline_seconds=5)
    for _ in range(40):
        await bus.request("asked.group", b"")

    assert len(answers) == 40
    assert set(answers) == {b"0", b"1"}
    for other in others:
        await other.close()


async def test_a_handler_that_fails_refuses_and_the_next_request_is_answered(bus: Bus) -> None:
    async def fails_once(payload: bytes) -> bytes:
        if payload == b"bad":
            raise ValueError("secret details")
        return payload

    await bus.serve("asked.failing", fails_once, group="g", deadline_seconds=5)
    with pytest.raises(BusUnavailable, match="ValueError") as caught:
        await bus.request("asked.failing", b"bad")

    assert "secret" not in str(caught.value)
    assert await bus.request("asked.failing", b"good") == b"good"


async def test_a_handler_that_hangs_is_ended(bus: Bus) -> None:
    async def hangs(payload: bytes) -> bytes:
        if payload == b"hang":
            await asyncio.Event().wait()
        return payload

    await bus.serve("asked.hanging", hangs, group="g", deadline_seconds=0.2)
    with pytest.raises(BusUnavailable, match="no answer within"):
        await bus.request("asked.hanging", b"hang", timeout_seconds=60)

    assert await bus.request("asked.hanging", b"x") == b"x"


async def test_an_answer_that_is_too_large_is_refused(bus: Bus) -> None:
    async def grows(payload: bytes) -> bytes:
        return b"x" * (bus.max_payload + 1)

    await bus.serve("asked.growing", grows, group="g", deadline_seconds=5)

    with pytest.raises(BusUnavailable, match="too large"):
        await bus.request("asked.growing", b"")
    with pytest.raises(PayloadTooLarge):
        await bus.request("asked.growing", b"x" * (bus.max_payload + 1))


async def test_requests_that_wait_are_bounded(bus: Bus) -> None:
    """The oldest go first: those that asked have waited longest, and ask again."""
    free, handled = asyncio.Event(), []

    async def slow(payload: bytes) -> bytes:
        await free.wait()
        handled.append(payload)
        return payload

    await bus.serve("asked.slow", slow, group="g", deadline_seconds=60)
    asking = [
        asyncio.create_task(bus.request("asked.slow", b"%d" % n, timeout_seconds=5)) for n in range(100)
    ]
    await asyncio.sleep(0.5)
    free.set()
    results = await asyncio.gather(*asking, return_exceptions=True)

    answered = [result for result in results if isinstance(result, bytes)]
    assert WAITING <= len(answered) <= WAITING + 1
    assert answered == handled


async def test_a_responder_survives_a_reconnect(bus: Bus) -> None:
    await bus.serve("asked.again", upper, group="g", deadline_seconds=5)
    transport = bus.connection.client._transport
    assert transport is not None
    transport._io_writer.transport.abort()  # type: ignore[attr-defined]

    async with asyncio.timeout(60):
        while True:
            try:
                assert await bus.request("asked.again", b"a") == b"A"
                break
            except BusUnavailable:
                await asyncio.sleep(0.05)
