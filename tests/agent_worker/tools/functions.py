"""Python functions as tools, good and bad."""

import asyncio
import os
import sys
import threading
import time
from typing import Any

from livekit.agents import Agent, RunContext, StopResponse, function_tool
from livekit.agents.llm import ToolError
from pydantic import BaseModel

release = threading.Event()


class Order(BaseModel):
    """An order."""

    number: int
    state: str


@function_tool
async def order(number: int) -> Order:
    """Look an order up."""
    return Order(number=number, state="sent")


@function_tool  # type: ignore[type-var]
def blocking(number: int) -> dict[str, Any]:
    """Look an order up, without async."""
    time.sleep(0.01)
    return {"number": number, "thread": threading.current_thread() is not threading.main_thread()}


@function_tool  # type: ignore[type-var]
def stuck() -> str:
    """Block until the test ends."""
    release.wait(60)
    return "late"


@function_tool
async def stubborn() -> str:
    """Swallow the cancellation."""
    for _ in range(300):
        try:
            await asyncio.sleep(0.1)
        except asyncio.CancelledError:
            continue
        if release.is_set():
            break
    return "late"


@function_tool
async def slow(seconds: float) -> str:
    """Take a while."""
    await asyncio.sleep(seconds)
    return "done"


@function_tool
async def crash() -> str:
    """Raise with a secret in the message."""
    raise KeyError(f"no {os.environ['ANTIPHON_SECRET_KEY']} at line 1\n" * 50)


@function_tool
async def refuse() -> str:
    """Raise an error that is meant for the model."""
    raise ToolError(f"the table {os.environ['ANTIPHON_SECRET_KEY']} is taken")


@function_tool
async def leave() -> str:
    """End the process."""
    sys.exit(3)


@function_tool  # type: ignore[type-var]
def leave_blocking() -> str:
    """End the process, in a thread."""
    sys.exit(3)


@function_tool
async def interrupt() -> str:
    """Raise what Ctrl-C raises."""
    raise KeyboardInterrupt


@function_tool  # type: ignore[type-var]
def interrupt_blocking() -> str:
    """Raise what Ctrl-C raises, in a thread."""
    raise KeyboardInterrupt


@function_tool
async def end_generator() -> str:
    """Raise what closes a generator."""
    raise GeneratorExit


@function_tool
async def recurse() -> str:
    """Call itself without end."""
    return _recursive(0)


@function_tool  # type: ignore[type-var]
def recurse_blocking() -> str:
    """Call itself without end, in a thread."""
    return _recursive(0)


def _recursive(depth: int) -> str:
    return _recursive(depth + 1) + "."


@function_tool
async def fail_together() -> str:
    """Raise several errors, one of which would end the process."""
    raise BaseExceptionGroup("two", [KeyError("a"), SystemExit(3)])


@function_tool  # type: ignore[type-var]
def cancel_blocking() -> str:
    """Raise a cancellation, in a thread."""
    raise asyncio.CancelledError


@function_tool
async def time_out() -> str:
    """Have a time limit of its own."""
    async with asyncio.timeout(0.01):
        await asyncio.sleep(60)
    return "late"


class Unprintable(Exception):
    """An error that cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no text")

    __str__ = __repr__


@function_tool
async def raise_unprintable() -> str:
    """Raise an error that cannot be shown."""
    raise Unprintable


@function_tool  # type: ignore[type-var]
def stop_iterating() -> str:
    """Raise what no future can have."""
    raise StopIteration


@function_tool
async def cancel_itself() -> str:
    """Cancel the task that it runs in."""
    raise asyncio.CancelledError


@function_tool
async def say_nothing() -> str:
    """Ask for no answer."""
    raise StopResponse


@function_tool
async def nothing() -> None:
    """Return nothing."""


@function_tool
async def huge(size: int) -> str:
    """Return a long text."""
    return "x" * size


@function_tool
async def unserialisable() -> object:
    """Return what JSON has not."""
    return object()


@function_tool
async def an_agent() -> Agent:
    """Return an agent, as LiveKit allows."""
    return Agent(instructions="")


@function_tool
async def text() -> str:
    """Return a text."""
    return "a table"


@function_tool(
    raw_schema={
        "name": "raw",
        "description": "A tool with a schema of its own.",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
    }
)
async def raw(raw_arguments: dict[str, object], context: RunContext[Any]) -> str:
    """Return the arguments."""
    return f"{raw_arguments}"
