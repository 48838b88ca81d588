"""What the routes work with; built once in `wiring`, handed to `create_app`."""

import asyncio
from dataclasses import dataclass
from typing import cast

from fastapi import Request

from antiphon.chassis.health import Health
from antiphon.chassis.log import Log
from antiphon.session_api.flows import Flows
from antiphon.session_api.keys import Keys
from antiphon.session_api.sessions.create import CreateSession
from antiphon.session_api.sessions.end import EndSession
from antiphon.session_api.sessions.join import JoinSession
from antiphon.session_api.sessions.lookup import Lookup
from antiphon.session_api.sessions.queries import Views


@dataclass(frozen=True, slots=True)
class Dependencies:
    """Hold everything that a request may need."""

    keys: Keys
    flows: Flows
    create: CreateSession
    join: JoinSession
    end: EndSession
    lookup: Lookup
    views: Views
    log: Log
    health: Health
    stopping: asyncio.Event
    heartbeat_seconds: float


def dependencies_of(request: Request) -> Dependencies:
    """Return the dependencies of the app that this request came to."""
    return cast("Dependencies", request.app.state.dependencies)
