"""Only what our LiveKit signed, over this body and lately, is let in."""

import time
from collections.abc import Callable
from datetime import timedelta

import jwt
import pytest

from antiphon.webhook_ingest.signatures import BadSignature, verify

BODY = b'{"event":"room_started"}'

Sign = Callable[..., str]


def test_what_livekit_signed_is_let_in(sign: Sign, verified_with: dict[str, str]) -> None:
    verify(BODY, sign(BODY), **verified_with)


def test_a_forged_secret_is_refused(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(BODY, sign(BODY, secret="another-secret-of-at-least-32-characters"), **verified_with)


def test_another_key_is_refused_even_with_our_secret(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="issuer"):
        verify(BODY, sign(BODY, key="otherkey"), **verified_with)


def test_a_changed_body_is_refused(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="another body"):
        verify(BODY + b" ", sign(BODY), **verified_with)


def test_a_stale_token_is_refused(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="expired"):
        verify(BODY, sign(BODY, ttl=timedelta(minutes=-5)), **verified_with)


@pytest.mark.parametrize("authorization", ["", "   ", "nonsense", "a.b.c", "Bearer", "é.ü.ö"])
def test_no_token_is_refused(authorization: str, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(BODY, authorization, **verified_with)


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": time.time() + 60},
        {"exp": time.time() + 60, "sha256": 7},
        {"exp": time.time() + 60, "sha256": "not base64 at all!"},
        {"exp": time.time() + 60, "sha256": ""},
        {"sha256": "YQ=="},
    ],
)
def test_a_token_that_does_not_say_which_body_until_when_is_refused(
    claims: dict[str, object], verified_with: dict[str, str]
) -> None:
    token = jwt.encode({"iss": verified_with["api_key"], **claims}, verified_with["api_secret"])

    with pytest.raises(BadSignature):
        verify(BODY, token, **verified_with)


def test_an_unsigned_token_is_refused(verified_with: dict[str, str]) -> None:
    token = jwt.encode({"iss": verified_with["api_key"], "exp": time.time() + 60}, None, algorithm="none")

    with pytest.raises(BadSignature):
        verify(BODY, token, **verified_with)
