"""Signatures: only a current token of our LiveKit over this body is accepted."""

import time
from collections.abc import Callable
from datetime import timedelta

import jwt
import pytest

from antiphon.chassis.livekit_keys import KeyPair
from antiphon.webhook_ingest.signatures import BadSignature, verified_digest, verify_body

BODY = b'{"event":"room_started"}'

Sign = Callable[..., str]


def verify(body: bytes, authorization: str, *, api_key: str, api_secret: str) -> None:
    verify_body(body, verified_digest(authorization, [KeyPair(api_key, api_secret)]))


def test_livekit_signature_is_accepted(sign: Sign, verified_with: dict[str, str]) -> None:
    verify(BODY, sign(BODY), **verified_with)


def test_a_signature_of_either_key_is_accepted_during_a_rotation(sign: Sign) -> None:
    pairs = [KeyPair("new", "n" * 32), KeyPair("old", "o" * 32)]

    for pair in pairs:
        verify_body(BODY, verified_digest(sign(BODY, key=pair.key, secret=pair.secret), pairs))
    with pytest.raises(BadSignature):
        verified_digest(sign(BODY, key="new", secret="o" * 32), pairs)


def test_wrong_secret_raises(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature):
        verify(BODY, sign(BODY, secret="another-secret-of-at-least-32-characters"), **verified_with)


def test_wrong_key_raises(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="issuer"):
        verify(BODY, sign(BODY, key="otherkey"), **verified_with)


def test_changed_body_raises(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="another body"):
        verify(BODY + b" ", sign(BODY), **verified_with)


def test_expired_token_raises(sign: Sign, verified_with: dict[str, str]) -> None:
    with pytest.raises(BadSignature, match="expired"):
        verify(BODY, sign(BODY, ttl=timedelta(minutes=-5)), **verified_with)


@pytest.mark.parametrize("authorization", ["", "   ", "nonsense", "a.b.c", "Bearer", "é.ü.ö"])
def test_missing_or_malformed_token_raises(authorization: str, verified_with: dict[str, str]) -> None:
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
def test_token_without_digest_or_expiry_raises(
    claims: dict[str, object], verified_with: dict[str, str]
) -> None:
    token = jwt.encode({"iss": verified_with["api_key"], **claims}, verified_with["api_secret"])

    with pytest.raises(BadSignature):
        verify(BODY, token, **verified_with)


def test_unsigned_token_raises(verified_with: dict[str, str]) -> None:
    token = jwt.encode({"iss": verified_with["api_key"], "exp": time.time() + 60}, "", algorithm="none")

    with pytest.raises(BadSignature):
        verify(BODY, token, **verified_with)
