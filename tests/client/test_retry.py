from collections.abc import Callable
from typing import Any

import pytest

from antiphon.client.calls import Call, Reply
from antiphon.client.errors import (
    ApiError,
    ConnectionFailed,
    InvalidRequest,
    RateLimited,
    ServerUnavailable,
    Timeout,
    UnreadableResponse,
)
from antiphon.client.retry import LONGEST_SECONDS, NotSent, Outcome, Policy, Send, Sleep, attempts, backoff

OK = Reply(200, {}, b"done")
LATER = {"retry-after": "2"}


class Clock:
    """A clock that a sleep sets forward."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def _call(**changes: Any) -> Call[bytes]:
    return Call(method="GET", path="/", parse=lambda reply: reply.body, **changes)


def run(call: Call[bytes], *outcomes: Outcome, policy: Policy | None = None) -> tuple[bytes, list[float]]:
    """Run the steps of a call; the last outcome repeats."""
    clock, slept, left = Clock(), list[float](), list(outcomes)
    steps = attempts(call, policy or Policy(), clock)
    answer: Outcome | None = None
    try:
        while True:
            step = steps.send(answer)
            answer = None
            match step:
                case Send():
                    answer = left.pop(0) if len(left) > 1 else left[0]
                case Sleep():
                    slept.append(step.seconds)
                    clock.now += step.seconds
    except StopIteration as end:
        return end.value, slept


@pytest.mark.parametrize(
    "first",
    [
        ConnectionFailed("broke"),
        NotSent("refused"),
        Timeout("late"),
        *(Reply(status, {}, b"") for status in (429, 502, 503, 504)),
    ],
)
def test_a_call_that_may_be_repeated_is(first: Outcome) -> None:
    result, slept = run(_call(), first, OK)

    assert result == b"done"
    assert len(slept) == 1


@pytest.mark.parametrize(
    ("first", "repeated"),
    [
        (ConnectionFailed("broke"), False),
        (Timeout("late"), False),
        (Reply(502, {}, b""), False),
        (Reply(503, {}, b""), False),
        (NotSent("refused"), True),  # the server has seen nothing of it
        (Reply(429, {}, b""), True),
    ],
)
def test_another_call_is_repeated_only_if_nothing_was_done(first: Outcome, repeated: bool) -> None:
    steps: Callable[[], Any] = lambda: run(_call(repeatable=False), first, OK)  # noqa: E731
    if repeated:
        assert steps()[0] == b"done"
    else:
        with pytest.raises((ApiError, ConnectionFailed, Timeout)):
            steps()


@pytest.mark.parametrize("status", [400, 401, 404, 409, 422, 500, 501])
def test_other_answers_are_not_repeated(status: int) -> None:
    with pytest.raises(ApiError) as failed:
        run(_call(), Reply(status, {}, b""), OK)

    assert failed.value.status == status


def test_an_answer_that_cannot_be_read_is_not_repeated() -> None:
    with pytest.raises(UnreadableResponse):
        run(_call(), UnreadableResponse("too long"), OK)


def test_retry_after_is_honoured() -> None:
    _, slept = run(_call(), Reply(503, LATER, b""), Reply(429, LATER, b""), OK)

    assert all(2.0 <= seconds <= 2.5 for seconds in slept)


def test_a_retry_after_beyond_the_deadline_raises_at_once() -> None:
    with pytest.raises(RateLimited) as failed:
        run(_call(), Reply(429, {"retry-after": "60"}, b""))

    assert failed.value.retry_after == 60.0


def test_all_attempts_together_have_a_deadline() -> None:
    clock = Clock()
    steps = attempts(_call(timeout_seconds=20.0), Policy(max_retries=1000), clock)
    seconds: list[float] = []

    def run_into_deadline(answer: Outcome | None = None) -> None:
        while True:
            step = steps.send(answer)
            clock.now += step.seconds
            seconds.append(step.seconds)
            answer = Timeout("late") if isinstance(step, Send) else None

    with pytest.raises(Timeout):
        run_into_deadline()
    assert clock.now <= 20.0
    assert seconds[0] == 15.0


def test_retries_are_bounded_in_number() -> None:
    with pytest.raises(ServerUnavailable):
        run(_call(), Reply(503, {"retry-after": "0"}, b""), policy=Policy(max_retries=2))


def test_backoff_doubles_with_jitter_up_to_a_limit() -> None:
    assert 0.125 <= backoff(1) <= 0.25
    assert 0.5 <= backoff(3) <= 1.0
    assert LONGEST_SECONDS / 2 <= backoff(10_000) <= LONGEST_SECONDS


def test_the_error_is_the_last_one() -> None:
    with pytest.raises(InvalidRequest):
        run(_call(), Reply(503, {}, b""), Reply(422, {}, b""))
