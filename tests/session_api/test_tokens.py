"""Join tokens: LiveKit's own verifier reads them, and they let nobody in anywhere else."""

import json
from datetime import timedelta

import pytest
from livekit import api

from antiphon.session_api.tokens import JoinTokens

KEY, SECRET = "devkey", "a-secret-of-at-least-32-characters!!"
SESSION = "ses_01m7yq1we0eqq9xvayxnfetqqd"


def _claims(**changes: object) -> api.access_token.Claims:
    arguments = {"identity": "caller", "ttl_seconds": 600, **changes}
    token = JoinTokens(KEY, SECRET, "antiphon").sign(SESSION, "default", **arguments)  # type: ignore[arg-type]
    return api.TokenVerifier(KEY, SECRET).verify(token)


def test_it_lets_one_participant_into_one_room() -> None:
    claims = _claims(name="Ada")

    assert (claims.identity, claims.name) == ("caller", "Ada")
    assert claims.video is not None
    assert (claims.video.room_join, claims.video.room) == (True, SESSION)
    assert claims.video.can_publish
    assert claims.video.can_subscribe
    assert not claims.video.room_admin
    assert not claims.video.room_create


def test_it_carries_the_dispatch_that_the_room_carries() -> None:
    config = _claims().room_config

    assert config is not None
    [dispatch] = config.agents
    assert dispatch.agent_name == "antiphon"
    assert json.loads(dispatch.metadata) == {"session_id": SESSION, "tenant": "default"}
    assert json.loads(config.metadata) == {"session_id": SESSION, "tenant": "default"}


def test_it_expires() -> None:
    token = JoinTokens(KEY, SECRET, "antiphon", now=lambda: 1_000_000).sign(
        SESSION, "default", identity="caller", ttl_seconds=60
    )

    with pytest.raises(Exception, match="expired"):
        api.TokenVerifier(KEY, SECRET, leeway=timedelta(0)).verify(token)
