import json

import pytest
from livekit.agents.testing import fake_job_context

from antiphon.contracts.ids import named_session_id
from antiphon.recorder.identity import Identity, identity_of

SESSION = named_session_id("default", "identity")


def identified(metadata: str, room: str = "lobby", sid: str = "RM_1", room_metadata: str = "") -> Identity:
    with fake_job_context(job_metadata=metadata) as ctx:
        ctx.job.room.name = room
        ctx.job.room.sid = sid
        ctx.job.room.metadata = room_metadata
        return identity_of(ctx)


async def test_dispatch_metadata_names_session_and_tenant() -> None:
    metadata = json.dumps({"session_id": SESSION, "tenant": "acme"})
    assert identified(metadata) == Identity(SESSION, "acme", requested=True)


async def test_room_named_by_session_id_is_that_session() -> None:
    assert identified("", room=SESSION) == Identity(SESSION, "default")


async def test_other_room_has_session_derived_from_sid() -> None:
    first, again, other = identified(""), identified(""), identified("", sid="RM_2")
    assert first == again != other
    assert first.session_id.startswith("ses_")


async def test_foreign_metadata_is_ignored() -> None:
    for metadata in ("not json", '["a list"]', '{"session_id": 7}', '{"session_id": "../etc"}'):
        assert identified(metadata).session_id == identified("").session_id


async def test_metadata_of_the_room_names_session_and_tenant_too() -> None:
    metadata = json.dumps({"session_id": SESSION, "tenant": "acme"})
    assert identified("", room=SESSION, room_metadata=metadata) == Identity(SESSION, "acme", requested=True)
    assert identified('{"mine": 1}', room_metadata=metadata) == Identity(SESSION, "acme", requested=True)


@pytest.mark.parametrize("tenant", ['"Acme Ltd"', '"acme\\n"', '""', "7", "[]", '{"a": 1}', f'"{"a" * 64}"'])
async def test_tenant_that_is_not_one_is_the_default_tenant(tenant: str) -> None:
    found = identified(f'{{"tenant": {tenant}}}')
    assert (found.session_id, found.tenant) == (identified("").session_id, "default")
    assert found.problem is not None
    assert "Acme" not in found.problem


@pytest.mark.parametrize(
    "metadata",
    [
        "[" * 10_000 + "]" * 10_000,
        '{"tenant":' * 10_000 + "1" + "}" * 10_000,
        "x" * 500_000,
        json.dumps({"notes": "x" * 500_000}),
        "\x00",
        "null",
        '"text"',
    ],
    ids=["nested list", "nested object", "large text", "large object", "NUL", "null", "text"],
)
async def test_any_foreign_metadata_is_ignored(metadata: str) -> None:
    assert identified(metadata).session_id == identified("").session_id
    assert not identified(metadata).requested


async def test_metadata_names_the_deployment() -> None:
    metadata = json.dumps({"session_id": SESSION, "tenant": "acme", "deployment": "testonly"})
    named = Identity(SESSION, "acme", requested=True, deployment="testonly")
    assert identified(metadata) == identified("", room_metadata=metadata) == named
    for wrong in ("../../..", 7, None):
        metadata = json.dumps({"session_id": SESSION, "deployment": wrong})
        assert identified(metadata) == Identity(SESSION, "default", requested=True)
    for beside in ({}, {"session_id": "ses_1"}):  # an application's own word
        assert identified(json.dumps({**beside, "deployment": "frontend"})).deployment is None
