"""Make a real session from outside, as a check of an installation.

    python -m antiphon.session_api.first_session [--flow FLOW] [--timeout SECONDS]

Reads ANTIPHON_API_URL and ANTIPHON_API_KEY. It creates a session, reads it back, ends it, and waits until
it is in Postgres. It needs the standard library only: `helm test` runs it in the image of the service.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

NOBODY = "antiphon-first-session"  # an agent that no worker registers as
TTL_SECONDS = 600  # an agent that is left alone goes after it
PAUSE_SECONDS = 0.5
REQUEST_SECONDS = 15.0
SHORTEST_SECONDS = 5.0  # for a request, also when the time is over: the last one ends the session
READY_SECONDS = 10  # at most, of a request that waits for an agent
ENDED = ("closed", "failed")
NO_HEADERS: Mapping[str, str] = {}

Json = dict[str, Any]


class SessionFailed(Exception):
    """The installation does not work; the message says where, and what to look at."""


class Api:
    """The HTTP API, for as long as the deadline allows; what may be over soon is tried again."""

    def __init__(self, url: str, key: str, seconds: float) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._end = time.monotonic() + seconds

    def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
        """Send a request until it is answered by neither 429, 503 nor silence. Raises SessionFailed."""
        return self.until(f"{method} {path}", lambda: self.once(method, path, body, headers))

    def until(self, what: str, attempt: Callable[[], Json | str]) -> Json:
        """Return the first document of `attempt`, which says in a text why there is none yet."""
        while True:
            found = attempt()
            if isinstance(found, dict):
                return found
            if self.left() < PAUSE_SECONDS:
                raise SessionFailed(f"{what}: {found}, until the time was over")
            time.sleep(PAUSE_SECONDS)

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self._end - time.monotonic()

    def once(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] = NO_HEADERS
    ) -> Json | str:
        """Send a request; return its answer, or in a text why it may be sent again. Raises SessionFailed."""
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        seconds = max(SHORTEST_SECONDS, min(REQUEST_SECONDS, self.left()))
        try:
            with urllib.request.urlopen(request, timeout=seconds) as response:
                document: Json = json.load(response)
                return document
        except urllib.error.HTTPError as error:
            if error.code in (429, 503):
                return _problem(error)
            raise SessionFailed(f"{method} {path}: {_problem(error)}") from error
        except (OSError, ValueError) as error:  # ValueError: no JSON, from what is not session-api
            return f"{self._url} does not answer: {error or type(error).__name__}"


def _problem(error: urllib.error.HTTPError) -> str:
    try:
        problem = json.load(error)
        return f"{error.code} {problem['title']}: {problem['detail']}"
    except (OSError, ValueError, TypeError, KeyError):
        return f"{error.code} {error.reason}"


def first_session(api: Api, flow: str | None, say: Callable[[str], None]) -> None:
    """Create a session, read it back, end it, and wait for its record. Raises SessionFailed."""
    conversation = f"first-session-{token_hex(8)}"
    wanted = {"flow_id": flow} if flow else {"agent_name": NOBODY}
    body = {**wanted, "user_id": "helm-test", "conversation_id": conversation, "ttl_seconds": TTL_SECONDS}
    created = api.call("POST", "/v1/sessions", body, Idempotency_Key=conversation)
    session = created["session_id"]
    say(f"created {session}")
    path = f"/v1/sessions/{session}"
    try:
        if flow:
            api.until("the agent", lambda: _ready(api, path))
            say("its agent is in the room")
        say(f"read it back: {_read_back(api, path, conversation)}")
        api.call("POST", f"{path}/end")
    except SessionFailed:
        with suppress(SessionFailed):
            api.once("POST", f"{path}/end")
        raise
    listed = f"/v1/sessions?conversation_id={conversation}"
    recorded = api.until("the record in Postgres", lambda: _recorded(api, listed))
    say(f"recorded: {recorded['status']}, {recorded.get('reason')}")


def _read_back(api: Api, path: str, conversation: str) -> str:
    session = api.call("GET", path)
    if session.get("conversation_id") != conversation:
        raise SessionFailed(f"GET {path} returned another session: {session.get('conversation_id')!r}")
    status: str = session["status"]
    return status


def _ready(api: Api, path: str) -> Json | str:
    seconds = max(1, min(READY_SECONDS, int(api.left())))
    session = api.call("GET", f"{path}?wait=ready&timeout_seconds={seconds}")
    if session["status"] in ENDED:
        raise SessionFailed(f"the session has ended before its agent was ready: {session.get('reason')}")
    if session["ready_at"] or session["agent_state"] not in (None, "initializing"):
        return session
    return f"no agent has come (the session is {session['status']}): look at agent-worker"


def _recorded(api: Api, path: str) -> Json | str:
    sessions = api.call("GET", path)["sessions"]
    if not sessions:
        return "the session is not in the views: look at persistence"
    session: Json = sessions[0]
    return session if session["status"] in ENDED else f"the session is {session['status']}, not ended"


def main() -> None:
    """Make the session; exit with 1 and a line if that fails, with 2 if the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m antiphon.session_api.first_session")
    parser.add_argument("--flow", help="start this flow, and wait for its agent; by default no agent comes")
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds for everything")
    arguments = parser.parse_args()
    url, key = os.environ.get("ANTIPHON_API_URL", ""), os.environ.get("ANTIPHON_API_KEY", "")
    if urlsplit(url).scheme not in ("http", "https") or not key:
        print("Set ANTIPHON_API_URL, http:// or https://, and ANTIPHON_API_KEY.", file=sys.stderr)  # noqa: T201 - a command prints
        raise SystemExit(2)
    try:
        first_session(Api(url, key, arguments.timeout), arguments.flow, partial(print, flush=True))
    except SessionFailed as error:
        print(f"The first session failed: {error}", file=sys.stderr)  # noqa: T201 - a command prints
        raise SystemExit(1) from error
    except (KeyError, TypeError) as error:
        print(f"{url} is not a session-api: its answer has no {error}", file=sys.stderr)  # noqa: T201 - as above
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
