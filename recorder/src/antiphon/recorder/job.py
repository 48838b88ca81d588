"""What the recordings of one job share: the connection, the outbox and the adoption of orphaned journals."""

import asyncio
from functools import partial

from livekit.agents import JobContext

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus
from antiphon.contracts.events.session import SessionAdopted
from antiphon.recorder.outbox import BusLink, Orphans, Outbox
from antiphon.recorder.recording import FLUSH_SECONDS, Recording
from antiphon.recorder.settings import NATS_URL, RecorderSettings


class JobRecorder:
    """The recordings of one job; a session that is recorded twice has one recording."""

    def __init__(self, ctx: JobContext, settings: RecorderSettings, *, publishes: bool) -> None:
        self._ctx = ctx
        self.settings = settings
        connect = partial(Bus.connect, settings.nats_url, name=f"recorder {ctx.job.id}")
        about = {
            "variable": NATS_URL,
            "url": without_credentials(settings.nats_url),
            "journal": str(settings.journal_dir),
        }
        self.link = BusLink(connect if publishes else None, about=about)
        self.outbox = Outbox(settings.journal_dir, self.link, job_id=ctx.job.id)
        self.recordings: list[Recording] = []
        self._adopting: BackgroundTask | None = None

    def adopt_orphans(self) -> None:
        """Publish the journals that killed jobs left on this machine; calls after the first do nothing."""
        if self._adopting is None and self.link.enabled:
            orphans = Orphans(self.settings.journal_dir, self.link)
            self._adopting = BackgroundTask(orphans.adopt_all, name="orphans")

    def recording(
        self, session_id: str, tenant: str, *, adopted: SessionAdopted | None, notify_room: bool
    ) -> Recording:
        """Return the session's open recording, or start one.

        A recording after the first of its session is an epoch of its own, as turns are numbered per epoch.
        """
        same = [recording for recording in self.recordings if recording.session_id == session_id]
        for recording in same:
            if not recording.closed:
                return recording
        job_id = self._ctx.job.id
        recording = Recording(
            self._ctx,
            self.outbox,
            self.outbox.writer(session_id, tenant),
            self.link,
            epoch=job_id if not same else f"{job_id}.r{len(same) + 1}",
            adopted=adopted,
            notify_room=notify_room,
        )
        self.recordings.append(recording)
        recording.start()
        return recording

    async def close(self) -> bool:
        """Finish every recording, publish the rest and disconnect; return whether everything is published."""
        try:
            finished = await asyncio.gather(*(recording.finish() for recording in self.recordings))
            return await self.outbox.close(FLUSH_SECONDS if self.link.enabled else 0) and all(finished)
        finally:
            if self._adopting is not None:
                await self._adopting.close()
            await self.link.close()


def without_credentials(urls: str) -> str:
    """Return one or several URLs, separated by commas, without user names and passwords."""
    return ",".join(_without_user(url.strip()) for url in urls.split(","))


def _without_user(url: str) -> str:
    scheme, separator, rest = url.rpartition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
