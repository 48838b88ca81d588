"""The usage of a session is the sum of what its agents have used, each of which counts from zero."""

from datetime import UTC, datetime
from itertools import count

from msgspec.structs import replace

from antiphon.contracts.envelope import Envelope, committed, seal
from antiphon.contracts.event import LARGEST_COUNT, Event
from antiphon.contracts.events.agent import AgentJoined, AgentLeft
from antiphon.contracts.events.session import CloseReason, FaultSide, SessionClosed
from antiphon.contracts.events.usage import ModelUsage, UsageUpdated
from antiphon.contracts.ids import agent_event_id, closed_id, named_session_id
from antiphon.contracts.session import Session, fold
from antiphon.contracts.usage import FORGOTTEN, MAX_JOBS, total, with_job

SESSION_ID = named_session_id("default", "usage")
AT = datetime(2026, 1, 1, tzinfo=UTC)


def used(tokens: int, model: str = "a") -> list[ModelUsage]:
    return [ModelUsage(kind="llm", provider="p", model=model, input_tokens=tokens, audio_seconds=0.5)]


def joined(job: str) -> AgentJoined:
    return AgentJoined(job_id=job, worker_id="AW_1", epoch=job, identity="agent")


def folded(*events: tuple[str, Event]) -> Session:
    """Return the state after events, each of the job that is named beside it."""
    numbers = count(1)
    return fold(
        SESSION_ID,
        "default",
        [_sealed(event, job, number) for (job, event), number in zip(events, numbers, strict=False)],
    )


def _sealed(event: Event, job: str, number: int) -> Envelope:
    closed = isinstance(event, SessionClosed)
    envelope = seal(
        event,
        id=closed_id(SESSION_ID) if closed else agent_event_id(SESSION_ID, job, number),
        session_id=SESSION_ID,
        tenant="default",
        producer="agent",
        producerseq=number,
        time=AT,
    )
    return committed(envelope, sequence=number, position=number)


def test_the_counts_of_one_agent_replace_those_before() -> None:
    state = folded(
        ("AJ_1", joined("AJ_1")),
        ("AJ_1", UsageUpdated(models=used(5))),
        ("AJ_1", UsageUpdated(models=used(9))),
    )

    assert state.usage == used(9)
    assert (state.usage_epoch, state.usage_by_epoch) == ("AJ_1", {})


def test_the_counts_of_several_agents_are_added_up() -> None:
    state = folded(
        ("AJ_1", joined("AJ_1")),
        ("AJ_1", UsageUpdated(models=used(5))),
        ("AJ_2", joined("AJ_2")),
        ("AJ_2", UsageUpdated(models=used(1, "b"))),
        ("AJ_1", _left("AJ_1", used(7))),  # the end of the first is known late
        ("AJ_2", _closed(used(2, "b"))),
    )

    assert state.usage == [*used(7), *used(2, "b")]
    assert state.usage_by_epoch == {"AJ_1": used(7), "AJ_2": used(2, "b")}


def test_an_end_without_counts_takes_none_away() -> None:
    state = folded(("AJ_1", joined("AJ_1")), ("AJ_1", UsageUpdated(models=used(5))), ("AJ_1", _closed([])))

    assert state.usage == used(5)


def test_the_oldest_of_many_agents_are_summed() -> None:
    by_job: dict[str, list[ModelUsage]] = {}
    for number in range(MAX_JOBS + 10):
        by_job = with_job(by_job, f"AJ_{number}", used(number))

    assert len(by_job) == MAX_JOBS
    assert by_job[FORGOTTEN][0].input_tokens == sum(range(11))
    assert total(by_job.values())[0].input_tokens == sum(range(MAX_JOBS + 10))


def test_a_sum_stays_within_its_column() -> None:
    [largest] = total([used(LARGEST_COUNT), used(LARGEST_COUNT)])

    assert largest == replace(used(LARGEST_COUNT)[0], audio_seconds=1.0)


def _left(job: str, usage: list[ModelUsage]) -> AgentLeft:
    return AgentLeft(
        job_id=job,
        epoch=job,
        reason="replaced",
        fault=FaultSide.NONE,
        duration_seconds=3.0,
        turns=1,
        usage=usage,
    )


def _closed(usage: list[ModelUsage]) -> SessionClosed:
    return SessionClosed(
        reason=CloseReason.CALLER_LEFT, fault=FaultSide.NONE, duration_seconds=9.5, turns=1, usage=usage
    )
