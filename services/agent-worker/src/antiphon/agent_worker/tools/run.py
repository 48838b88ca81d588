"""One call of a tool: its time limit, its filler line, its result or error as text.

Whatever a tool does, the call of the caller goes on: an error is a short text for the model.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from livekit.agents import RunContext
from livekit.agents.llm import StopResponse, ToolError, ToolResult
from livekit.agents.voice import SpeechHandle

from antiphon.agent_worker.call import speak
from antiphon.agent_worker.flow.definitions import ToolDefinition
from antiphon.agent_worker.tools.results import error_text, result_text
from antiphon.chassis.background import end_task
from antiphon.chassis.library_log import get_logger
from antiphon.recorder.tools import PERSONAL

log = get_logger(__name__)

RUNNING = 8  # calls of a session at the same time
_FRAMES = 5  # of a crash that are logged
_ENDED = "the call has ended"
_NEXT_TRY_SECONDS = 0.5  # to say a filler line, when the caller speaks

Work = Callable[[], Awaitable[Any]]


class ToolCrashed(Exception):
    """A tool raised SystemExit or the like, which would end the process."""


class _TimeIsUp(Exception):
    """The time limit of a tool, not one that the tool has of its own."""


@dataclass(slots=True)
class Calls:
    """The running calls of a session, and how secrets are hidden in their results."""

    hide: Callable[[str], str]
    running: int = 0
    stopped: bool = False  # for good
    abandoned: set["asyncio.Task[Any]"] = field(default_factory=set)
    _stops: set["asyncio.Future[str]"] = field(default_factory=set)

    def stop(self) -> None:
        """Stop the calls that are running, and all that follow; each is an error."""
        self.stopped = True
        self.stop_running(_ENDED)

    def stop_running(self, why: str) -> None:
        """Stop the calls that are running; each is an error that says why."""
        for stopped in self._stops:
            if not stopped.done():
                stopped.set_result(why)

    async def run(
        self,
        work: Work,
        *,
        name: str,
        definition: ToolDefinition,
        context: RunContext[Any],
        filler: str | None = None,
    ) -> str | ToolResult:
        """Run a tool and return its result as text. Raises ToolError and StopResponse only."""
        if definition.personal:
            context.function_call.extra[PERSONAL] = True
        if self.stopped:
            raise _stopped(name, _ENDED)
        if self.running >= RUNNING:
            raise ToolError(f"{RUNNING} tools are running already; call fewer at once")
        self.running += 1
        try:
            async with _filler(context, definition, filler):
                result = await self._within(work, name, definition.timeout_seconds)
            required = not isinstance(result, ToolResult) or result.reply_required
            output = result.output if isinstance(result, ToolResult) else result
            text = self.hide(result_text(output, definition.outputs))
            return text if required else ToolResult(text, reply_required=False)
        except StopResponse:
            raise
        except ToolError as error:
            raise ToolError(error_text(self.hide(error.message))) from None
        except _TimeIsUp:
            log.warning("tool.timeout", extra={"tool": name, "seconds": definition.timeout_seconds})
            raise ToolError(f"{name} did not answer within {definition.timeout_seconds:g} s") from None
        except Exception as error:  # noqa: BLE001 - the call of the caller goes on
            self._log_crash(name, error)
            raise ToolError(f"{name} failed: {_kind(error)}") from None
        finally:
            self.running -= 1

    async def _within(self, work: Work, name: str, seconds: float) -> Any:
        task = asyncio.create_task(_contained(work), name=f"tool {name}")
        stopped: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._stops.add(stopped)
        try:
            waits: tuple[asyncio.Future[Any], ...] = (task, stopped)
            done, _ = await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                if task.cancelled():
                    raise ToolCrashed("the tool cancelled itself")
                return task.result()
            if stopped in done:
                raise _stopped(name, stopped.result())
        finally:
            self._stops.discard(stopped)
            if not task.done():
                await self._abandon(task)
        # not asyncio.timeout: a tool that swallows the cancellation would hold up the call without end
        raise _TimeIsUp

    async def _abandon(self, task: "asyncio.Task[Any]") -> None:
        self.abandoned.add(task)
        task.add_done_callback(self._forget)
        await end_task(task, attempts=1)

    def _forget(self, task: "asyncio.Task[Any]") -> None:
        self.abandoned.discard(task)
        if not task.cancelled():
            task.exception()

    def _log_crash(self, name: str, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
        where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        log.error(
            "tool.crashed",
            extra={
                "tool": name,
                "error": _kind(error),
                "pii_error": error_text(self.hide(_shown(error))),  # it may quote the arguments
                "where": where,
            },
        )


async def _contained(work: Work) -> Any:
    try:
        return await work()
    except (Exception, asyncio.CancelledError):
        raise
    except BaseException as error:  # SystemExit and KeyboardInterrupt would end the event loop
        raise ToolCrashed(_shown(error)) from error


def _filler(
    context: RunContext[Any], definition: ToolDefinition, text: str | None
) -> contextlib.AbstractAsyncContextManager[None]:
    """Say a line once, when nobody has spoken for a while, and not over the caller."""
    if definition.filler is None or not text:
        return contextlib.nullcontext()

    def line(_step: int) -> SpeechHandle | None:
        return None if context.session.user_state == "speaking" else speak(context.session, text)

    return context.with_filler(
        line, delay=definition.filler.after_seconds, interval=_NEXT_TRY_SECONDS, max_steps=1
    )


def _stopped(name: str, why: str) -> ToolError:
    return ToolError(f"{name} was stopped: {why}")


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except BaseException:  # noqa: BLE001 - of a tool's own class, which may do anything
        return type(error).__name__


def _kind(error: BaseException) -> str:
    return type(error.__cause__ if isinstance(error, ToolCrashed) and error.__cause__ else error).__name__
