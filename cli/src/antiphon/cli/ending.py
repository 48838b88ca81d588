"""Run a conversation that the first Ctrl-C ends, whatever hangs."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

SECONDS = 15.0  # from Ctrl-C or SIGTERM to the end of the process; an MCP server alone is given 8 s
SIGNALS = (signal.SIGINT, signal.SIGTERM)
STANDARD_INPUT, STANDARD_ERROR = 0, 2
DONE = 0  # no signal has this number

T = TypeVar("T")


def run(main: Coroutine[Any, Any, T], *, seconds: float = SECONDS) -> T:
    """Run a coroutine as asyncio does; once Ctrl-C or SIGTERM came, the process ends within some seconds.

    Ctrl-C also works where SIGINT is ignored, if the process has the terminal: who sits there means it.
    """
    if threading.current_thread() is not threading.main_thread():
        return asyncio.run(main)
    with _ctrl_c_of_the_terminal(), _last_resort(seconds):
        return asyncio.run(main)


@contextmanager
def _ctrl_c_of_the_terminal() -> Iterator[None]:
    """Take SIGINT even if it is ignored: what a background job of a shell starts inherits that.

    A job that a shell itself puts in the background has no terminal as its input, and goes on.
    """
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN and _has_terminal()
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # asyncio replaces no other
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


def _has_terminal() -> bool:
    with suppress(OSError):  # it is no terminal, or closed
        return os.tcgetpgrp(STANDARD_INPUT) == os.getpgrp()
    return False


@contextmanager
def _last_resort(seconds: float) -> Iterator[None]:
    """End the process some seconds after a signal, if it has not ended then.

    A thread gets the signal from the interpreter itself: the event loop, a library, and the end of other
    threads may all hang. After a signal it stays, for what hangs when the block is left.
    """
    reader, writer = os.pipe()
    os.set_blocking(writer, False)

    def watch() -> None:
        number = DONE
        with suppress(OSError):
            while (number := ord(os.read(reader, 1) or bytes([DONE]))) not in (DONE, *SIGNALS):
                continue
        if number == DONE:
            os.close(reader)
            os.close(writer)
            return
        time.sleep(seconds)
        with suppress(OSError):
            os.write(
                STANDARD_ERROR, f"antiphon: not ended {seconds:g} s after the signal; given up\n".encode()
            )
        os._exit(128 + number)

    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="last-resort", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        os.write(writer, bytes([DONE]))
