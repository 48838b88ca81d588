"""The end of a job: its room is deleted by one of agent and recorder."""

from dataclasses import dataclass, field

import pytest
from livekit.agents.testing import fake_job_context

from antiphon.agent_worker import job


@dataclass
class Finished:
    """A recording that is finished."""

    session_continues: bool = False
    closes_room: bool = False
    finished: list[bool] = field(default_factory=list)

    async def finish(self) -> bool:
        self.finished.append(True)
        return True


@pytest.mark.parametrize(
    ("recording", "deletes"),
    [
        (Finished(), True),
        (Finished(session_continues=True), False),
        # LiveKit opens a room once more that is deleted twice at a time
        (Finished(closes_room=True), False),
    ],
    ids=["ended", "another agent", "limit"],
)
async def test_the_room_is_deleted_once(
    recording: Finished, deletes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    deleted: list[str | None] = []

    async def delete_room(name: str | None = None) -> None:
        deleted.append(name)

    monkeypatch.setattr(job, "recording_of", lambda _: recording)
    with fake_job_context(job_id="AJ_1", job_metadata="") as ctx:
        monkeypatch.setattr(ctx, "delete_room", delete_room)
        await job.on_session_end(ctx)
        assert deleted == ([ctx.job.room.name] if deletes else [])

    assert recording.finished
