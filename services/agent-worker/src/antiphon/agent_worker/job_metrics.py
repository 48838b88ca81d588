"""The numbers of job processes reach the metrics of their worker: a datagram a second, and one at their end.

A call never waits for it: what cannot be sent now is sent with the next datagram. Only a worker that is gone
gets nothing, and a job that is killed loses its last second.
"""

import asyncio
import socket
from functools import partial
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec
import structlog

from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import metrics as bus_metrics
from antiphon.chassis.metrics import Gauge, Instrument
from antiphon.chassis.metrics.changes import Change, Changes, add
from antiphon.recorder import metrics as outbox_metrics

log = structlog.get_logger(__name__)

INTERVAL_SECONDS: Final = 1.0
LARGEST_BYTES: Final = 128 * 1024  # of a datagram; a job sends some hundred bytes
READ_AT_ONCE: Final = 256  # datagrams, before other tasks have their turn
MAX_JOBS: Final = 10_000  # whose gauges are kept

GAUGES: Final[tuple[Gauge, ...]] = (outbox_metrics.depth, outbox_metrics.size, outbox_metrics.age)
OF_JOBS: Final[dict[str, Instrument]] = {
    metric.name: metric
    for metric in (bus_metrics.duration, bus_metrics.reconnects, outbox_metrics.events, *GAUGES)
}


class Datagram(msgspec.Struct, frozen=True):
    """What one job process has counted since its last datagram."""

    pid: int
    change: Change


_decoder = msgspec.msgpack.Decoder(Datagram)


class JobMetrics:
    """Receives what the job processes of this worker count, on a socket that only its user can open."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._folder = TemporaryDirectory(prefix="antiphon-worker-")
        self.path = str(Path(self._folder.name) / "metrics")
        self._socket.bind(self.path)
        self._gauges: dict[int, dict[str, float]] = {}  # of each job process
        self._unwatch = [gauge.watch(partial(self._combined, gauge.name)) for gauge in GAUGES]

    def start(self) -> None:
        """Receive, on the running loop."""
        asyncio.get_running_loop().add_reader(self._socket, self._receive, READ_AT_ONCE)

    def ended(self, pid: int | None) -> None:
        """Forget the gauges of a process that is gone, after what it has sent last."""
        self._receive(MAX_JOBS)
        if pid is not None:
            self._gauges.pop(pid, None)

    def close(self) -> None:
        """Receive what was sent, and stop."""
        self._receive(MAX_JOBS)
        asyncio.get_running_loop().remove_reader(self._socket)
        for end in self._unwatch:
            end()
        self._socket.close()
        self._folder.cleanup()

    def _receive(self, most: int) -> None:
        for _ in range(most):
            try:
                data = self._socket.recv(LARGEST_BYTES)
            except BlockingIOError:
                return
            try:
                datagram = _decoder.decode(data)
            except msgspec.DecodeError as error:
                log.warning("job_metrics.unreadable", bytes=len(data), error=str(error))
                continue
            add(datagram.change, OF_JOBS)
            if datagram.pid in self._gauges or len(self._gauges) < MAX_JOBS:
                self._gauges[datagram.pid] = datagram.change.gauges

    def _combined(self, name: str) -> float:
        values = [gauges.get(name, 0.0) for gauges in self._gauges.values()]
        return max(values, default=0.0) if name == outbox_metrics.age.name else sum(values)


class Reporter:
    """Sends what this job process counts to its worker."""

    def __init__(self, path: str, pid: int) -> None:
        self._path = path
        self._pid = pid
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._changes = Changes(OF_JOBS.values())
        self._reporting: BackgroundTask | None = None
        # after the job and its recording have ended; nothing later runs in a job process
        Finalize(None, self.report, exitpriority=100)

    def start(self) -> None:
        """Report once a second from now on, on the running loop, until the process ends."""
        self._reporting = BackgroundTask(self._run, name="job metrics")

    def report(self) -> None:
        """Send what has changed, at once or not at all."""
        data = msgspec.msgpack.encode(Datagram(self._pid, self._changes.take()))
        try:
            self._socket.sendto(data, self._path)
        except OSError as error:  # full: it is sent with the next; or the worker is gone
            log.debug("job_metrics.not_sent", error=repr(error))
        else:
            self._changes.sent()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(INTERVAL_SECONDS)
            self.report()
