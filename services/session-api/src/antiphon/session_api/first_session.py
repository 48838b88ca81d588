"""Make a real session from outside, as a check of an installation.

    python -m antiphon.session_api.first_session [--flow FLOW] [--timeout SECONDS]

Reads ANTIPHON_API_URL and ANTIPHON_API_KEY. It needs the standard library only, as it runs in the image of the
service: creates a session, reads it back, ends it, and waits until it is in Postgres.
"""

import argparse
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial
from secrets import token_hex
from typing import Any
from urllib.parse import urlsplit

NOBODY = "antiphon-first-session"  # an agent that no worker registers as
PAUSE_SECONDS = 0.5
REQUEST_SECONDS = 15.0
READY_SECONDS = 10  # of a request that waits for an agent
ENDED = ("closed", "failed")

Json = dict[str, Any]


class SessionFailed(Exception):
    """The installation does not work; the message says where, and what to look at."""


class Api:
    """The HTTP API, for as long as the deadline allows; what may be over soon is tried again."""

    def __init__(self, url: str, key: str, seconds: float) -> None:
        self._url = url.rstrip("/")
        self._key = key
        self._end = time.monotonic() + seconds
        # no proxy: the API is a neighbour
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def call(self, method: str, path: str, body: Json | None = None, **headers: str) -> Json:
        """Send a request until it is answered by neither 429, 503 nor silence. Raises SessionFailed."""
        return self.until(f"{method} {path}", lambda: self._once(method, path, body, headers))

    def until(self, what: str, attempt: Callable[[], Json | str]) -> Json:
        """Return the first document of `attempt`, which says in a text why there is none yet."""
        while True:
            found = attempt()
            if isinstance(found, dict):
                return found
            if time.monotonic() + PAUSE_SECONDS > self._end:
                raise SessionFailed(f"{what}: {found}, until the time was over")
            time.sleep(PAUSE_SECONDS)

    def _once(self, method: str, path: str, body: Json | None, headers: Mapping[str, str]) -> Json | str:
        request = urllib.request.Request(  # noqa: S310 - the URL is checked by `main`
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self._key}",
                "Content-Type": "application/json",
                **{name.replace("_", "-"): value for name, value in headers.items()},
            },
        )
        seconds = max(0.1, min(REQUEST_SECONDS, self._end - time.monotonic()))
        try:
            with self._opener.open(request, timeout=seconds) as response:
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
    body = {**wanted, "user_id": "helm-test", "conversation_id": conversation, "ttl_seconds": 60}
    created = api.call("POST", "/v1/sessions", body, Idempotency_Key=conversation)
    session = created["session_id"]
    say(f"created {session}")
    try:
        path = f"/v1/sessions/{session}"
        if flow:
            api.until("the agent", lambda: _ready(api, path))
            say("its agent is in the room")
        read = api.call("GET", path)
        if read.get("conversation_id") != conversation:
            raise SessionFailed(f"GET {path} returned another session: {read.get('conversation_id')!r}")
        say(f"read it back: {read['status']}")
    finally:
        api.call("POST", f"/v1/sessions/{session}/end")
    listed = f"/v1/sessions?conversation_id={conversation}"
    recorded = api.until("the record in Postgres", lambda: _recorded(api, listed))
    say(f"recorded: {recorded['status']}, {recorded.get('reason')}")


def _ready(api: Api, path: str) -> Json | str:
    session = api.call("GET", f"{path}?wait=ready&timeout_seconds={READY_SECONDS}")
    if session["status"] in ENDED:
        raise SessionFailed(f"the session has ended before its agent was ready: {session.get('reason')}")
    ready = session["status"] in ("ready", "active")
    return session if ready else f"no agent has come (the session is {session['status']}): look at agent-worker"


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
