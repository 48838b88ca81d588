import json

from livekit.agents.testing import fake_job_context

from antiphon.contracts.ids import session_id_for_key
from antiphon.recorder.identity import Identity, identity_of

SESSION = session_id_for_key("default", "identity")


def identified(metadata: str, room: str = "lobby", sid: str = "RM_1") -> Identity:
    with fake_job_context(job_metadata=metadata) as ctx:
        ctx.job.room.name = room
        ctx.job.room.sid = sid
        return identity_of(ctx)


async def test_dispatch_metadata_names_session_and_tenant() -> None:
    metadata = json.dumps({"session_id": SESSION, "tenant": "acme"})
    assert identified(metadata) == Identity(SESSION, "acme")


async def test_room_named_by_session_id_is_that_session() -> None:
    assert identified("", room=SESSION) == Identity(SESSION, "default")


async def test_other_room_has_session_derived_from_sid() -> None:
    first, again, other = identified(""), identified(""), identified("", sid="RM_2")
    assert first == again != other
    assert first.session_id.startswith("ses_")


async def test_foreign_metadata_is_ignored() -> None:
    for metadata in ("not json", '["a list"]', '{"session_id": 7}', '{"session_id": "../etc"}'):
        assert identified(metadata).session_id == identified("").session_id
