"""Signatures of webhooks: a JWT that carries the SHA-256 of the body."""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Sequence
from typing import Any

import jwt

from antiphon.chassis.livekit_keys import KeyPair

LEEWAY_SECONDS = 30


class BadSignature(Exception):
    """The signature is missing, forged or expired, or belongs to another body."""


def verified_digest(authorization: str, pairs: Sequence[KeyPair]) -> bytes:
    """Verify the `Authorization` of a webhook, the token alone, without a scheme; return the body's SHA-256.

    It needs no body, so a body without a valid token need not be read. One of the pairs has signed it.

    Raises BadSignature.
    """
    claims = _claims(authorization.strip(), pairs)
    claimed = claims.get("sha256")
    if not isinstance(claimed, str):
        raise BadSignature("the token has no SHA-256 of the body")
    try:
        return base64.b64decode(claimed, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadSignature("the token's SHA-256 is not base64") from error


def _claims(token: str, pairs: Sequence[KeyPair]) -> dict[str, Any]:
    refused: jwt.InvalidTokenError | None = None
    for pair in pairs:
        try:
            return jwt.decode(
                token,
                pair.secret,
                algorithms=["HS256"],
                issuer=pair.key,
                leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss"]},
            )
        except jwt.InvalidTokenError as error:
            refused = refused or error  # of the pair that is in use
    raise BadSignature(str(refused)) from refused


def verify_body(body: bytes, digest: bytes) -> None:
    """Verify that a token was signed for this body.

    Raises BadSignature.
    """
    if not hmac.compare_digest(digest, hashlib.sha256(body).digest()):
        raise BadSignature("the token was signed for another body")
