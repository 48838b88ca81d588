"""Whether events can be stored: by what was stored lately, else by storing a message that nobody reads.

A stream that could not be written once, because the disk was full, takes no message until its server is
restarted, although the server answers everything else. Only a message that is stored tells.
"""

import asyncio
import math
import time

from antiphon.chassis.bus import publish
from antiphon.chassis.bus.connection import Connection
from antiphon.chassis.bus.errors import BusError, BusUnavailable, StreamFull
from antiphon.chassis.bus.messages import Outgoing
from antiphon.contracts.streams import SESSIONS
from antiphon.contracts.subjects import PROBE

FRESH_SECONDS = 60.0  # after which what was stored says nothing; a probe of an idle process takes 100 bytes
REFUSED_SECONDS = 2.0  # between two probes of a stream that takes none
DEADLINE_SECONDS = 2.0


class PublishProbe:
    """Asked often, it publishes seldom: once a minute while nothing else is stored, and after a failure."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._probing = asyncio.Lock()
        self._refusal: BusError | None = None
        self._refused_at = -math.inf

    async def check(self) -> None:
        """Check that the stream of events takes messages.

        Raises BusUnavailable, StreamFull.
        """
        if self._works():
            return
        async with self._probing:
            if self._works():
                return
            if self._refusal is not None and time.monotonic() - self._refused_at < REFUSED_SECONDS:
                raise _again(self._refusal)
            try:
                await self._check_space()
                out = Outgoing(PROBE, b"", message_id="")
                await publish.publish(self._connection, out, None, DEADLINE_SECONDS)
            except BusError as error:
                self._refused_at = time.monotonic()
                self._refusal = error
                raise
            self._refusal = None

    async def _check_space(self) -> None:
        # A probe is smaller than any event: it may be stored where no event is.
        info = await self._connection.api(
            f"STREAM.INFO.{SESSIONS.name}", timeout_seconds=DEADLINE_SECONDS / 2
        )
        limit, held = info["config"]["max_bytes"], info["state"]["bytes"]
        largest = self._connection.client.max_payload
        if 0 < limit < held + largest:
            raise StreamFull(
                f"the stream {SESSIONS.name} is full: it holds {held} of {limit} bytes, an event may have "
                f"{largest}; set ANTIPHON_STREAM_MAX_BYTES of persistence to more"
            )

    def _works(self) -> bool:
        stored = self._connection.stored_at
        fresh = time.monotonic() - stored < FRESH_SECONDS
        return fresh and stored > max(self._connection.not_stored_at, self._refused_at)


def _again(error: BusError) -> BusError:
    # An instance of its own: a shared one would collect the traceback of every caller.
    return type(error)(*error.args) if isinstance(error, BusUnavailable) else BusUnavailable(str(error))
