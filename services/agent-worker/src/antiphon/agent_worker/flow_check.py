"""The check of a flow for its publisher: an answer on the bus, made where the flow would run."""

import asyncio
import threading
from collections.abc import Callable

import msgspec
import structlog

from antiphon.agent_worker.catalog import CATALOG_OVER_HTTP
from antiphon.agent_worker.flow import Flow, InvalidFlow, load_flow
from antiphon.agent_worker.flow.check import Catalog
from antiphon.agent_worker.flow.template import placeholders, render
from antiphon.contracts.flows import (
    FLOW_CHECK,
    FLOW_CHECKERS,
    MAX_PROBLEMS,
    MAX_REASON,
    FlowCheckReply,
    FlowCheckRequest,
    FlowProblem,
    FlowSummary,
    decode_check_request,
)
from antiphon.recorder.outbox import BusLink

log = structlog.get_logger(__name__)

CHECK_SECONDS = 8.0  # the publisher waits a little longer
MAX_STUCK = 3  # checks that did not end: the import of a tool can hang

Check = Callable[[FlowCheckRequest], FlowCheckReply]


class ChecksStuck(Exception):
    """Earlier checks have not ended; the worker must be restarted."""


def summary_of(flow: Flow) -> FlowSummary:
    """Return what is stored beside the source of a flow; a greeting that depends on the session is not."""
    greeting = flow.greeting or ""
    return FlowSummary(
        flow_id=flow.id,
        name=flow.name,
        description=flow.description,
        language=flow.language,
        greeting="" if placeholders(greeting) else render(greeting, {}),
        requires=[name for name, variable in flow.variables.items() if variable.required],
    )


def check_source(request: FlowCheckRequest, catalog: Catalog = CATALOG_OVER_HTTP) -> FlowCheckReply:
    """Return the summary of a source, or what is wrong with it."""
    try:
        flow = load_flow(request.source, catalog, name=request.name)
    except InvalidFlow as invalid:
        problems = [
            FlowProblem(line=one.line, place=one.place[:MAX_REASON], reason=one.reason[:MAX_REASON])
            for one in invalid.problems[:MAX_PROBLEMS]
        ]
        return FlowCheckReply(problems=problems, more=len(invalid.problems) - len(problems))
    return FlowCheckReply(summary=summary_of(flow))


class FlowChecks:
    """Checks sources in threads of their own: one that hangs keeps neither the worker nor its end."""

    def __init__(self, check: Check = check_source) -> None:
        self._check = check
        self._running = 0

    async def serve(self, link: BusLink) -> None:
        """Answer checks until cancelled. Raises BusError."""
        bus = await link.bus()
        responder = await bus.serve(
            FLOW_CHECK, self.answer, group=FLOW_CHECKERS, deadline_seconds=CHECK_SECONDS
        )
        try:
            await asyncio.Event().wait()
        finally:
            await responder.close()

    async def answer(self, payload: bytes) -> bytes:
        """Return the encoded reply to an encoded request. Raises InvalidRecord, ChecksStuck."""
        request = decode_check_request(payload)
        if self._running >= MAX_STUCK:
            raise ChecksStuck(f"{self._running} checks of flows have not ended: restart the worker")
        reply = await self._in_thread(request)
        log.info("flow.checked", problems=len(reply.problems) + reply.more, bytes=len(payload))
        return msgspec.json.encode(reply)

    async def _in_thread(self, request: FlowCheckRequest) -> FlowCheckReply:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[FlowCheckReply] = loop.create_future()

        def finish(reply: FlowCheckReply | None, error: BaseException | None) -> None:
            self._running -= 1
            if done.done():  # it was too late
                return
            if reply is not None:
                done.set_result(reply)
            else:
                done.set_exception(error or RuntimeError("no reply"))

        def run() -> None:
            reply, error = None, None
            try:
                reply = self._check(request)
            except BaseException as raised:  # noqa: BLE001 - also SystemExit of a module that is imported
                error = raised if isinstance(raised, Exception) else RuntimeError(repr(raised))
            try:
                loop.call_soon_threadsafe(finish, reply, error)
            except RuntimeError:  # the loop is closed: the worker has ended
                return

        self._running += 1
        # not the executor of the loop: the interpreter waits for its threads before it ends
        threading.Thread(target=run, name="check-flow", daemon=True).start()
        return await done
