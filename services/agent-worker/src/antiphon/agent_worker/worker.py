"""The worker process: an AgentServer with a process per job, health, and orphaned journals."""

import asyncio
import sys
from collections.abc import Collection
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from weakref import WeakSet

import structlog
from livekit.agents import AgentServer, JobProcess
from livekit.agents.ipc.job_executor import JobExecutor, JobStatus

from antiphon.agent_worker.capacity import calls_of, load_of, threshold_of
from antiphon.agent_worker.flow_check import FlowChecks
from antiphon.agent_worker.heartbeats import Heartbeats
from antiphon.agent_worker.job import entry, on_request, on_session_end, prewarm_process
from antiphon.agent_worker.job_metrics import JobMetrics
from antiphon.agent_worker.keyed_server import KeyedServer
from antiphon.agent_worker.metrics import jobs, watch
from antiphon.agent_worker.providers.loaded import OFFLINE_PROVIDERS, Named, fork_server_modules
from antiphon.agent_worker.providers.table import PROVIDERS
from antiphon.agent_worker.semantic_turns import preload_if_used
from antiphon.agent_worker.settings import AgentSettings
from antiphon.agent_worker.used_providers import LaterProviders, used_providers
from antiphon.chassis.background import BackgroundTask
from antiphon.chassis.bus import Bus, BusError
from antiphon.chassis.deployment import DeploymentCheck, deployment_of
from antiphon.chassis.health import Check, Health, serve_health
from antiphon.chassis.nats_access import URL
from antiphon.chassis.retry import retrying
from antiphon.chassis.settings import EXIT_BAD_SETTINGS
from antiphon.contracts.deployment import Deployment
from antiphon.recorder.outbox import BusLink, Orphans
from antiphon.recorder.settings import JOURNAL_DIR

log = structlog.get_logger(__name__)

SHUTDOWN_PROCESS_SECONDS = 30.0  # for a job to leave its room after its recording is finished
SESSION_END_SECONDS = 60.0  # for `on_session_end`, which may wait for the broker
ORPHANS_SECONDS = 5.0  # for the journals of the last jobs, at shutdown
INITIALIZE_SECONDS = 30.0  # for a process to load its providers: plugins take seconds on a busy machine
LIVEKIT_LOG_LEVELS = {"warning": "WARN"}


async def serve(settings: AgentSettings, stop: asyncio.Event) -> None:
    """Run until `stop` is set; then drain, for at most `drain_timeout_seconds`.

    Exits with 2 when no journal can be written.
    """
    try:
        write_probe(settings.journal_dir)
    except UnusableFolder as error:
        print(error, file=sys.stderr)  # noqa: T201 - as every invalid setting
        raise SystemExit(EXIT_BAD_SETTINGS) from error
    _log_left_out()
    access = settings.nats
    link = BusLink(
        partial(Bus.connect, access, name="agent-worker"),
        about={
            "variable": URL,
            "url": ",".join(access.servers),
            "effect": "no jobs are taken until it answers",
        },
    )
    orphans = Orphans(settings.journal_dir, link)
    registration = Registration()
    job_metrics = JobMetrics()
    job_metrics.start()
    gauges = watch(settings, calls=lambda: calls_of(registration.server), draining=stop.is_set)
    processes = JobProcesses()
    heartbeats = Heartbeats(
        link,
        pod=settings.pod_name,
        capacity=settings.calls,
        calls=lambda: calls_of(registration.server),
        draining=stop.is_set,
    )

    async def serve_jobs() -> None:
        # the name of the agent, and which jobs are its own, are the deployment's
        deployment = await retrying(BusError)(_deployment, link)
        health.add("deployment", DeploymentCheck(link.bus, deployment).check)
        await retrying(BusError)(_preload, link)
        setup = SetUp(await retrying(BusError)(used_providers, link), job_metrics.path)
        log.info("worker.providers", used=[" ".join(named) for named in sorted(setup.providers)])
        server = build_server(settings, deployment, setup)
        registration.watch(server)
        server.on("worker_registered", heartbeats.begin)
        server.on("worker_started", lambda: _watch_jobs(server, orphans, processes, heartbeats, job_metrics))
        following = BackgroundTask(partial(LaterProviders(setup).follow, link), name="later providers")
        health.add("later providers", following.ready)
        try:
            await server.run()
        finally:
            await following.close()

    health = Health({"livekit": registration.check, "processes": processes.check})
    for name, check in _bus_checks(link).items():
        health.add(name, check)
    serving = asyncio.create_task(serve_jobs(), name="agent-server")
    adopting = BackgroundTask(orphans.run, name="orphans")
    checking = BackgroundTask(partial(FlowChecks().serve, link), name="flow checks")
    health.add("flow checks", checking.ready)
    beating = BackgroundTask(heartbeats.run, name="heartbeats")
    health.add("heartbeats", beating.ready)

    async def journals() -> None:
        adopting.check()
        await asyncio.to_thread(write_probe, settings.journal_dir)

    health.add("journals", journals)
    stopped = asyncio.Event()
    reporting = asyncio.create_task(
        serve_health(health, settings.health_host, settings.health_port, stopped), name="health"
    )
    stopping = asyncio.create_task(stop.wait(), name="stop")
    tasks = (serving, reporting, stopping)
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done - {stopping}:
            task.result()  # raises the error that ended the task
        heartbeats.changed()
        if registration.server is not None:
            await _drain(registration.server, orphans)
            await heartbeats.end()
    finally:
        stopped.set()
        for task in (serving, stopping):
            task.cancel()
        await asyncio.wait(tasks)
        await beating.close()
        await checking.close()
        await adopting.close()
        await link.close()
        job_metrics.close()
        gauges()


def _log_left_out() -> None:
    for failed in PROVIDERS.failed:
        log.warning("worker.provider_left_out", entry_point=failed.name, reason=str(failed))


def _bus_checks(link: BusLink) -> dict[str, Check]:
    async def broker() -> None:
        await (await link.bus()).ready()

    async def publish() -> None:
        await (await link.bus()).publishable()

    return {"broker": broker, "publish": publish}


async def _deployment(link: BusLink) -> Deployment:
    return await deployment_of(await link.bus())


async def _preload(link: BusLink) -> None:
    await preload_if_used(await link.bus())


class UnusableFolder(Exception):
    """The folder of journals cannot be written; the message names the variable."""


def write_probe(folder: Path) -> None:
    """Create the folder of journals if it is missing, and write a file in it that is removed again.

    Raises UnusableFolder: the events of a call that starts now would be lost.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder, buffering=0) as probe:
            probe.write(b"journal")
    except OSError as error:
        reason = error.strerror or repr(error)
        raise UnusableFolder(f"{JOURNAL_DIR} is {str(folder)!r}: it cannot be written ({reason})") from error


async def _drain(server: AgentServer, orphans: Orphans) -> None:
    log.info("worker.draining", jobs=len(server.active_jobs))
    try:
        await server.drain()
    except TimeoutError:
        log.warning("worker.drain_timeout", jobs=len(server.active_jobs))
    await server.aclose()
    try:
        async with asyncio.timeout(ORPHANS_SECONDS):
            await orphans.adopt_all()
    except TimeoutError:
        log.warning("worker.orphans_left")


class SetUp:
    """LiveKit's `setup_fnc`, pickled when a process starts: with the providers that are used then."""

    def __init__(
        self, providers: Collection[Named] = OFFLINE_PROVIDERS, metrics_path: str | None = None
    ) -> None:
        self.providers = frozenset(providers)
        self._metrics_path = metrics_path

    def __call__(self, process: JobProcess) -> None:
        """Set up a process."""
        prewarm_process(process, self.providers, self._metrics_path)


def build_server(settings: AgentSettings, deployment: Deployment, setup: SetUp | None = None) -> AgentServer:
    """Return the AgentServer for the settings, not started; its processes load what `setup` names."""
    setup = setup or SetUp()
    server = KeyedServer(
        settings.livekit_keys(),
        ws_url=settings.livekit_url,
        load_threshold=threshold_of(settings),
        load_fnc=load_of(settings),
        num_idle_processes=settings.idle_processes,
        drain_timeout=settings.drain_timeout_seconds,
        shutdown_process_timeout=SHUTDOWN_PROCESS_SECONDS,
        session_end_timeout=SESSION_END_SECONDS,
        max_retry=sys.maxsize,  # LiveKit may be unavailable for any length of time
        setup_fnc=setup,
        initialize_process_timeout=INITIALIZE_SECONDS,
        preload_modules=["antiphon.agent_worker.preload", *fork_server_modules(setup.providers)],
        host="127.0.0.1",
        port=0,  # of LiveKit's health route, which ignores whether the worker is connected
        log_level=LIVEKIT_LOG_LEVELS.get(settings.log_level, settings.log_level),
    )
    server.rtc_session(
        entry,
        agent_name=settings.agent_name or deployment.agent_name,
        on_request=partial(on_request, deployment=deployment.id),
        on_session_end=on_session_end,
    )
    return server


class Registration:
    """The worker's registration with LiveKit, without which it receives no jobs."""

    def __init__(self) -> None:
        self.server: AgentServer | None = None
        self._registered = False

    def watch(self, server: AgentServer) -> None:
        """Watch the registration of a server that is about to start."""
        self.server = server
        server.on("worker_registered", self._on_registered)

    def _on_registered(self, *_: object) -> None:
        self._registered = True
        if self.server is not None:
            log.info("worker.registered", worker=self.server.id)

    async def check(self) -> None:
        """Raise RuntimeError while the worker receives no jobs."""
        if self.server is None:
            raise RuntimeError("waiting for the broker, which has the name of the agent")
        if not self._registered or self.server._connecting:
            raise RuntimeError("not registered with LiveKit")
        if self.server.draining:
            raise RuntimeError("draining")


class JobProcesses:
    """The health of job processes. LiveKit itself restarts them without limit and reports healthy."""

    def __init__(self) -> None:
        self._initialised: WeakSet[object] = WeakSet()
        self._failing = False

    def on_ready(self, process: object) -> None:
        """Record that a process has been initialised."""
        self._initialised.add(process)
        self._failing = False

    def on_closed(self, process: object) -> None:
        """Record the end of a process; it failed to start if it was never initialised."""
        if process not in self._initialised:
            self._failing = True

    async def check(self) -> None:
        """Raise RuntimeError while processes fail to start."""
        if self._failing:
            raise RuntimeError("job processes cannot start: see the log")


def _count_job(job_metrics: JobMetrics, process: JobExecutor) -> None:
    job_metrics.ended(getattr(process, "pid", None))
    if process.running_job is not None:
        jobs.add(1, "ended" if process.status is JobStatus.SUCCESS else "failed")


def _watch_jobs(
    server: AgentServer,
    orphans: Orphans,
    processes: JobProcesses,
    heartbeats: Heartbeats,
    job_metrics: JobMetrics,
) -> None:
    # the process pool is created by run(); it notices the end of a process within 20 ms
    pool = server._proc_pool
    for process in pool.processes:
        if process.started:
            processes.on_ready(process)
    pool.on("process_ready", processes.on_ready)
    pool.on("process_closed", processes.on_closed)
    pool.on("process_closed", partial(_count_job, job_metrics))
    pool.on("process_closed", lambda _process: orphans.wake())
    pool.on("process_job_launched", heartbeats.changed)
    pool.on("process_closed", heartbeats.changed)
