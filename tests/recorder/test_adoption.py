"""`session.adopted` is encodable and of a bounded size, whatever the agent's code passes."""

import logging
from typing import Any

import msgspec
import pytest
from livekit.agents.testing import fake_job_context

from antiphon.contracts.events.session import SessionAdopted
from antiphon.recorder import adoption
from antiphon.recorder.adoption import session_adopted


def adopted(**arguments: Any) -> SessionAdopted:
    described: dict[str, Any] = {"user_id": None, "language": None, "metadata": None, **arguments}
    with fake_job_context() as ctx:
        ctx.job.room.name, ctx.job.room.sid, ctx.job.agent_name = "lobby", "RM_1", "desk"
        return session_adopted(ctx, **described)


async def test_room_agent_and_user_are_named() -> None:
    event = adopted(user_id="ada", language="en-GB", metadata={"order": ["A-17", 1.5, None]})
    assert event == SessionAdopted(
        room="lobby",
        room_sid="RM_1",
        agent_name="desk",
        user_id="ada",
        language="en-GB",
        metadata={"order": ["A-17", 1.5, None]},
    )


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "metadata",
    [{"a": object()}, {"a": "\ud800"}, {"large": "x" * 16_384}, nested(65), nested(100_000), ["a"], "text"],
    ids=["object", "surrogate", "large", "deep", "very deep", "list", "text"],
)
async def test_metadata_that_cannot_be_stored_is_left_out(
    metadata: Any, caplog: pytest.LogCaptureFixture
) -> None:
    event = adopted(user_id="ada", metadata=metadata)
    assert (event.metadata, event.user_id) == ({}, "ada")
    assert [r.levelno for r in caplog.records if r.name == adoption.__name__] == [logging.WARNING]


@pytest.mark.parametrize(
    ("user_id", "stored"),
    [("a\ud800b", "a\ufffdb"), ("a\x00b", "a\ufffdb"), ("x" * 300, "x" * 256), (7, "7"), ("", None)],
)
async def test_user_id_is_text_that_can_be_stored(user_id: Any, stored: str | None) -> None:
    event = adopted(user_id=user_id)
    assert event.user_id == stored
    msgspec.json.encode(event)
