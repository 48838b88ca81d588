"""The worker: takes jobs from LiveKit, each into its own process, and looks after what they leave behind."""

import asyncio
import math
import os
import sys
from functools import partial
from weakref import WeakSet

import structlog
from livekit.agents import AgentServer

from antiphon.agent_worker.job import entry, on_request, on_session_end, prewarm_process
from antiphon.agent_worker.settings import AgentSettings
from antiphon.chassis.bus import Bus
from antiphon.chassis.health import Health, serve_health
from antiphon.recorder.outbox import BusLink, Orphans

log = structlog.get_logger(__name__)

SHUTDOWN_PROCESS_SECONDS = 30.0  # for a job to leave its room once its record is closed
SESSION_END_SECONDS = 60.0  # for `on_session_end`: it waits for the broker, but not for ever
LAST_LOOK_SECONDS = 5.0
LIVEKIT_LOG_LEVELS = {"warning": "WARN"}
NO_PRELOAD = "LIVEKIT_AGENTS_PRELOAD_LOCAL_INFERENCE"  # 244 MB of a turn detector that no flow uses


def build_server(settings: AgentSettings) -> AgentServer:
    """Make LiveKit's server of agents as the settings want it, without starting it."""
    unlimited = math.isinf(settings.load_threshold)
    server = AgentServer(
        ws_url=settings.livekit_url,
        api_key=settings.livekit_api_key,
        api_secret=settings.livekit_api_secret,
        load_threshold=settings.load_threshold,
        # LiveKit's own choice of a worker goes by the reported load: without a limit, none is reported
        load_fnc=_no_load if unlimited else None,
        num_idle_processes=settings.idle_processes,
        drain_timeout=settings.drain_timeout_seconds,
        shutdown_process_timeout=SHUTDOWN_PROCESS_SECONDS,
        session_end_timeout=SESSION_END_SECONDS,
        max_retry=sys.maxsize,  # LiveKit comes back, sooner or later
        setup_fnc=prewarm_process,
        preload_modules=["antiphon.agent_worker.preload"],
        host="127.0.0.1",
        port=0,  # its own health page cannot tell whether it is connected; ours can
        log_level=LIVEKIT_LOG_LEVELS.get(settings.log_level, settings.log_level),
    )
    server.rtc_session(
        entry, agent_name=settings.agent_name, on_request=on_request, on_session_end=on_session_end
    )
    return server


def _no_load() -> float:
    return 0.0


class Registration:
    """Know whether LiveKit sends this worker jobs."""

    def __init__(self, server: AgentServer) -> None:
        self._server = server
        self._registered = False
        server.on("worker_registered", self._on_registered)

    def _on_registered(self, *_: object) -> None:
        self._registered = True
        log.info("worker.registered", worker=self._server.id)

    async def check(self) -> None:
        """Raise RuntimeError while LiveKit sends no jobs."""
        if not self._registered or self._server._connecting:
            raise RuntimeError("not registered with LiveKit")
        if self._server.draining:
            raise RuntimeError("draining")


class JobProcesses:
    """Know whether the processes that jobs run in can start: LiveKit would try for ever and look well."""

    def __init__(self) -> None:
        self._initialised: WeakSet[object] = WeakSet()
        self._failing = False

    def on_ready(self, process: object) -> None:
        """Note that a process has loaded what calls need."""
        self._initialised.add(process)
        self._failing = False

    def on_closed(self, process: object) -> None:
        """Note the end of a process: one that never was ready could not start."""
        if process not in self._initialised:
            self._failing = True

    async def check(self) -> None:
        """Raise RuntimeError while processes fail to start."""
        if self._failing:
            raise RuntimeError("job processes cannot start: the log says why")


async def serve(settings: AgentSettings, stop: asyncio.Event) -> None:
    """Run until stopped; then let calls end, for as long as the settings allow."""
    os.environ.setdefault(NO_PRELOAD, "0")
    link = BusLink(partial(Bus.connect, settings.nats_url, name="agent-worker"))
    orphans = Orphans(settings.journal_dir, link)
    server = build_server(settings)
    registration = Registration(server)
    processes = JobProcesses()
    server.on("worker_started", lambda: _watch_jobs(server, orphans, processes))

    async def broker() -> None:
        await (await link.bus()).ready()

    health = Health({"livekit": registration.check, "broker": broker, "processes": processes.check})
    serving = asyncio.create_task(server.run(), name="agent-server")
    adopting = asyncio.create_task(orphans.run(), name="orphans")
    stopped = asyncio.Event()
    reporting = asyncio.create_task(
        serve_health(health, settings.health_host, settings.health_port, stopped), name="health"
    )
    stopping = asyncio.create_task(stop.wait(), name="stop")
    tasks = (serving, adopting, reporting, stopping)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()  # raises what has ended it
        await _stop(server, orphans)
    finally:
        stopped.set()
        for task in (serving, adopting, stopping):
            task.cancel()
        await asyncio.wait(tasks)
        await link.close()


def _watch_jobs(server: AgentServer, orphans: Orphans, processes: JobProcesses) -> None:
    # the pool of processes is made by run(), and is the first to know of a death: within 20 ms
    pool = server._proc_pool
    for process in pool.processes:
        if process.started:
            processes.on_ready(process)
    pool.on("process_ready", processes.on_ready)
    pool.on("process_closed", processes.on_closed)
    pool.on("process_closed", lambda _process: orphans.wake())


async def _stop(server: AgentServer, orphans: Orphans) -> None:
    log.info("worker.draining", jobs=len(server.active_jobs))
    try:
        await server.drain()
    except TimeoutError:
        log.warning("worker.drain_timeout", jobs=len(server.active_jobs))
    await server.aclose()
    try:
        async with asyncio.timeout(LAST_LOOK_SECONDS):
            await orphans.adopt_all()
    except TimeoutError:
        log.warning("worker.journals_left")
