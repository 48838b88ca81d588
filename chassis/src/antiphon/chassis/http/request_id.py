"""Request ids: taken from `X-Request-Id`, or made; in the answer, in problems and in log lines."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from structlog.contextvars import bind_contextvars, reset_contextvars

HEADER = b"x-request-id"
PATTERN = r"[A-Za-z0-9][A-Za-z0-9._:=/+@-]{0,127}"

_valid = re.compile(PATTERN.encode()).fullmatch


def new_request_id() -> str:
    """Return a random request id."""
    return f"req_{os.urandom(12).hex()}"


def request_id_of(given: bytes | None, new_id: Callable[[], str] = new_request_id) -> str:
    """Return the id that the client sent, or a new one if it sent none or one that is not valid.

    An id of a client goes into headers and logs: it is at most 128 letters, digits and `._:=/+@-`.
    """
    if given is not None and _valid(given):
        return given.decode("ascii")
    return new_id()


@contextmanager
def logged_with(request_id: str) -> Iterator[None]:
    """Add the request's id to every log line of the block."""
    tokens = bind_contextvars(request_id=request_id)
    try:
        yield
    finally:
        reset_contextvars(**tokens)
