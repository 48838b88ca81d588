import asyncio
from typing import Any

import pytest

from antiphon.cli.commands import sessions as module


class Api:
    """An API whose list of sessions grows."""

    def __init__(self) -> None:
        self.listed = 0

    async def sessions(self, *, limit: int) -> list[dict[str, str]]:
        self.listed += 1
        ended = [{"session_id": f"ses_{number}", "status": "closed"} for number in (1, 2, 3)]
        running = [{"session_id": "ses_4", "status": "active"}]
        later = [{"session_id": "ses_5", "status": "closed"}] if self.listed > 1 else []
        return [*later, *running, *ended]


async def test_tail_skips_sessions_that_had_ended_before_it_started(monkeypatch: pytest.MonkeyPatch) -> None:
    followed: list[str] = []

    async def follow(_: Any, session: str, *, prefix: str = "") -> None:
        followed.append(session)

    monkeypatch.setattr(module, "print_events", follow)
    monkeypatch.setattr(module, "POLL_SECONDS", 0)
    api = Api()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await module._print_all(api)  # type: ignore[arg-type]

    assert api.listed > 2
    assert followed == ["ses_4", "ses_5"]
