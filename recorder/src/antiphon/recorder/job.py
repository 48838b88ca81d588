"""What the recordings of one job share: the connection, the outbox and the adoption of orphaned journals."""

import asyncio
from functools import partial

from livekit.agents import JobContext

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import URL, NatsAccess
from antiphon.chassis.tracing import current_traceparent
from antiphon.contracts.events.session import SessionAdopted
from antiphon.recorder.adoption import session_of_room
from antiphon.recorder.identity import Identity
from antiphon.recorder.outbox import BusLink, Orphans, Outbox
from antiphon.recorder.recording import FLUSH_SECONDS, Recording
from antiphon.recorder.settings import RecorderSettings

log = get_logger(__name__)


class JobRecorder:
    """The recordings of one job; a session that is recorded twice has one recording."""

    def __init__(self, ctx: JobContext, settings: RecorderSettings, *, publishes: bool) -> None:
        self._ctx = ctx
        self.settings = settings
        access = _access(settings) if publishes else None
        self.link = BusLink(
            None if access is None else partial(Bus.connect, access, name=f"recorder {ctx.job.id}"),
            about={"variable": URL, "url": _shown(access), "journal": str(settings.journal_dir)},
        )
        self.outbox = Outbox(settings.journal_dir, self.link, job_id=ctx.job.id)
        self.recordings: list[Recording] = []  # that are open, or leave something to do, and the newest one
        self._started: dict[str, int] = {}  # recordings of each session
        self._rooms: dict[tuple[str, str], str] = {}  # tenant and sid, and their newest session
        self._adopting: BackgroundTask | None = None

    def adopt_orphans(self) -> None:
        """Publish the journals that killed jobs left on this machine; calls after the first do nothing."""
        if self._adopting is None and self.link.enabled:
            orphans = Orphans(self.settings.journal_dir, self.link)
            self._adopting = BackgroundTask(orphans.adopt_all, name="orphans")

    async def session_of(self, found: Identity) -> str:
        """Return the session to record: for a room that nobody announced, its call that has not ended."""
        if found.room_sid is None:
            return found.session_id
        room = found.tenant, found.room_sid
        if any(known.session_id == self._rooms.get(room) and not known.closed for known in self.recordings):
            return self._rooms[room]
        ended = {
            known.session_id for known in self.recordings if known.closed and not known.session_continues
        }
        session_id = self._rooms[room] = await session_of_room(self.link, *room, ended=ended)
        return session_id

    def has_recorded(self, session_id: str) -> bool:
        """Return whether a recording of the session has been started in this job."""
        return session_id in self._started

    def recording(
        self,
        session_id: str,
        tenant: str,
        *,
        adopted: SessionAdopted | None,
        notify_room: bool,
        refused: str | None = None,
    ) -> Recording:
        """Return the session's open recording, or start one; one that is `refused` records nothing.

        A recording after the first of its session is an epoch of its own, as turns are numbered per epoch.
        """
        for recording in self.recordings:
            if recording.session_id == session_id and not recording.closed:
                return recording
        self._forget_closed()
        job_id = self._ctx.job.id
        number = self._started.get(session_id, 0) + 1
        if refused is None:
            self._started[session_id] = number
        writer = self.outbox.writer(session_id, tenant)
        writer.traceparent = writer.traceparent or current_traceparent()  # of LiveKit's job, if it is traced
        recording = Recording(
            self._ctx,
            self.outbox,
            writer,
            self.link,
            epoch=job_id if number == 1 else f"{job_id}.r{number}",
            adopted=adopted,
            notify_room=notify_room,
            limited=adopted is None and self.settings.enforce_limits,
        )
        self.recordings.append(recording)
        if refused is None:
            recording.start()
        else:
            recording.refuse(refused)
        return recording

    def _forget_closed(self) -> None:
        # the outbox publishes the rest of one that is not finished; one that left has to look back
        closed = [r for r in self.recordings if r.closed and not r.closes_room]
        for recording in [r for r in closed if r.finished or not r.session_continues]:
            recording.detach()
            self.recordings.remove(recording)

    async def close(self) -> bool:
        """Finish every recording, publish the rest and disconnect; return whether everything is published."""
        try:
            unfinished = [recording for recording in self.recordings if not recording.finished]
            await asyncio.gather(
                *(recording.finish() for recording in unfinished),
                *(recording.stop_limits() for recording in self.recordings),
            )
            closed = await self.outbox.close(FLUSH_SECONDS if self.link.enabled else 0)
            return closed and self.outbox.intact
        finally:
            if self._adopting is not None:
                await self._adopting.close()
            await self.link.close()


def _access(settings: RecorderSettings) -> NatsAccess | None:
    """Return how to reach NATS; None, with a line in the log, if the settings are wrong."""
    try:
        return settings.nats
    except ValueError as error:
        extra = {"error": str(error), "journal": str(settings.journal_dir)}
        log.error("recorder.not_publishing", extra=extra)  # noqa: TRY400 - the message says all
        return None


def _shown(access: NatsAccess | None) -> str:
    return "" if access is None else ",".join(access.servers)
