"""How to reach NATS: URLs, credentials, TLS. Every service and the recorder read the same variables."""

import json
import os
import re
import ssl
from base64 import b32decode, b64encode, urlsafe_b64decode
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from antiphon.chassis.secret_files import SUFFIX, InvalidSecretFile, read_secret, secret_of

DEFAULT_NATS_URL = "nats://127.0.0.1:4222"
NATS_SCHEMES = ("nats", "tls", "ws", "wss")

URL = "ANTIPHON_NATS_URL"
CREDS = "ANTIPHON_NATS_CREDS"
USER = "ANTIPHON_NATS_USER"
PASSWORD = "ANTIPHON_NATS_PASSWORD"  # noqa: S105 - a name
CA = "ANTIPHON_NATS_CA"
CERT = "ANTIPHON_NATS_CERT"
KEY = "ANTIPHON_NATS_KEY"

_SECRETS = {"url": URL, "user": USER, "password": PASSWORD}  # may be in a file each
_SEED_PREFIX_BYTES, _SEED_BYTES = 2, 32
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


class InvalidAccess(ValueError):
    """A setting of NATS is wrong; the message names the variable and contains no secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsAccess:
    """The URLs of the servers of one cluster, and what they ask for; secrets are not in its repr.

    A URL may carry a user and password, or a token. What a file holds wins over the value, and is read again
    by `current`. Raises InvalidAccess, also when a file holds no certificate, key or secret.
    """

    url: str = field(default=DEFAULT_NATS_URL, repr=False, metadata={"variable": URL})  # comma-separated
    creds: Path | None = field(default=None, metadata={"variable": CREDS})
    user: str | None = field(default=None, metadata={"variable": USER})
    password: str | None = field(default=None, repr=False, metadata={"variable": PASSWORD})
    ca: Path | None = field(default=None, metadata={"variable": CA})
    cert: Path | None = field(default=None, metadata={"variable": CERT})
    key: Path | None = field(default=None, metadata={"variable": KEY})
    url_file: Path | None = field(default=None, metadata={"variable": f"{URL}{SUFFIX}"})
    user_file: Path | None = field(default=None, metadata={"variable": f"{USER}{SUFFIX}"})
    password_file: Path | None = field(default=None, metadata={"variable": f"{PASSWORD}{SUFFIX}"})

    def __post_init__(self) -> None:
        self._read_files()
        try:
            check_urls(self.url)
        except ValueError as error:
            raise InvalidAccess(f"{URL} {error}") from None
        for variable, path in ((CREDS, self.creds), (CA, self.ca), (CERT, self.cert), (KEY, self.key)):
            # a pipe would block without end, and a device would not end
            if path is not None and not (os.access(path, os.R_OK) and path.is_file()):
                raise InvalidAccess(f"{variable} is {_shown(path)}: no such file, or not readable")
        if (self.user is None) != (self.password is None):
            raise InvalidAccess(f"{USER} and {PASSWORD} must be set together")
        if self.key is not None and self.cert is None:
            raise InvalidAccess(f"{KEY} needs {CERT}")
        if self.creds is not None:
            _read_creds(self.creds)
        if self.ca is not None or self.cert is not None:
            self._tls()

    def _read_files(self) -> None:
        for name, variable in _SECRETS.items():
            if (path := getattr(self, f"{name}_file")) is not None:
                try:
                    object.__setattr__(self, name, read_secret(f"{variable}{SUFFIX}", path))
                except InvalidSecretFile as error:
                    raise InvalidAccess(str(error)) from None

    @classmethod
    def from_env(cls, environment: Mapping[str, str] = os.environ) -> "NatsAccess":
        """Read the settings from the environment; an empty variable counts as unset.

        Raises InvalidAccess.
        """
        given: dict[str, Any] = {}
        for setting in fields(cls):
            value = environment.get(setting.metadata["variable"])
            if value:
                given[setting.name] = value if setting.type in (str, str | None) else Path(value)
        try:
            for variable in _SECRETS.values():
                secret_of(environment, variable)
        except InvalidSecretFile as error:
            raise InvalidAccess(str(error)) from None
        return cls(**given)

    @classmethod
    def from_settings(cls, settings: object) -> "NatsAccess":
        """Read the attributes `nats_url`, `nats_creds` and so on of a service's or the recorder's settings.

        Raises InvalidAccess.
        """
        return cls(**{setting.name: getattr(settings, f"nats_{setting.name}") for setting in fields(cls)})

    def current(self) -> "NatsAccess":
        """Return the access with what its files hold now.

        Raises InvalidAccess when a file was replaced by one that cannot be used.
        """
        return replace(self)

    @property
    def servers(self) -> list[str]:
        """The URLs without credentials."""
        return [_without_user(urlsplit(url)) for url in _split(self.url)]

    @property
    def uses_tls(self) -> bool:
        """Whether the connection must be encrypted."""
        given = self.ca is not None or self.cert is not None
        return given or any(urlsplit(url).scheme in ("tls", "wss") for url in _split(self.url))

    @property
    def inbox_prefix(self) -> str:
        """The start of the subjects of answers: of this user alone, if its name is one token of a subject."""
        name = self.user or self._url_user() or (_name_in(self.creds) if self.creds is not None else "")
        return f"_INBOX.{name}" if _TOKEN.fullmatch(name) else "_INBOX"

    def options(self) -> dict[str, Any]:
        """Return the arguments of nats-py for credentials and TLS, with the certificates as they are now.

        Raises InvalidAccess when a file was replaced by one without a certificate or key.
        """
        options: dict[str, Any] = {"tls": self._tls()} if self.uses_tls else {}
        if self.creds is not None:
            return options | _signing(self.creds)
        if self.user is not None:
            return options | {"user": self.user, "password": self.password}
        # As options, and decoded: servers of the cluster that are discovered later get them too.
        users = [parts for parts in map(urlsplit, _split(self.url)) if parts.username is not None]
        if not users:
            return options
        user, password = unquote(users[0].username or ""), users[0].password
        if password is None:
            return options | {"token": user}
        return options | {"user": user, "password": unquote(password)}

    def _url_user(self) -> str:
        users = [parts for parts in map(urlsplit, _split(self.url)) if parts.password is not None]
        return unquote(users[0].username or "") if users else ""

    def _tls(self) -> ssl.SSLContext:
        if self.ca is None and self.cert is None:
            return _of_the_system()
        try:
            context = ssl.create_default_context(cafile=self.ca)
        except OSError as error:
            raise InvalidAccess(f"{CA} is '{self.ca}': it holds no certificate ({error})") from error
        if self.cert is None:
            return context
        try:
            context.load_cert_chain(self.cert, self.key, password="")  # else OpenSSL asks on the terminal
        except OSError as error:
            raise InvalidAccess(
                f"{CERT} is '{self.cert}', {KEY} is '{self.key or self.cert}': "
                f"not a certificate and its key without a password ({error})"
            ) from error
        return context


@cache
def _of_the_system() -> ssl.SSLContext:
    # some 20 ms, in which a call would stand still
    return ssl.create_default_context()


def advice(error: BaseException) -> str:
    """Return which variables to check after an error of the connection; "" when none is to blame."""
    text = str(error).lower()
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"check {CA}: the server's certificate is not of an authority that it holds, or not for this host"
        )
    if any(word in text for word in ("authorization violation", "authentication", "revoked")):
        return f"check {USER} and {PASSWORD}, {CREDS} or {URL}: the server refuses them"
    if isinstance(error, ssl.SSLError) and "alert" in text:
        return (
            f"check {CERT} and {KEY}: the server refuses the certificate of the client, or that there is none"
        )
    return ""


def check_urls(value: str) -> str:
    """Return the comma-separated URLs if each is valid.

    Raises ValueError, which does not contain them: they may hold a password.
    """
    schemes = " or ".join(f"{scheme}://" for scheme in NATS_SCHEMES)
    urls = _split(value)
    for url in urls:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in NATS_SCHEMES and parts.hostname and (parts.port or 1)
        except ValueError:
            valid = False
        if not valid:
            raise ValueError(f"must start with {schemes}, then a host; commas separate several URLs")
    if len({urlsplit(url).scheme for url in urls}) != 1:
        raise ValueError(f"must be one or more URLs, all with {schemes}")
    return value


def _shown(path: Path) -> str:
    # The content of the file, given instead of its path, is a secret.
    return "(hidden), not a path" if "\n" in str(path) else repr(str(path))


def _split(value: str) -> list[str]:
    return [url.strip() for url in value.split(",") if url.strip()]


def _without_user(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _signing(creds: Path) -> dict[str, Any]:
    # Read once: nats-py calls these in each attempt, and an error in them would end its attempts for good.
    token, key = _read_creds(creds)

    def sign(nonce: str) -> bytes:
        from nacl.signing import SigningKey

        return b64encode(SigningKey(key).sign(nonce.encode()).signature)

    return {"signature_cb": sign, "user_jwt_cb": token.encode}


def _read_creds(path: Path) -> tuple[str, bytes]:
    """Return the JWT and the seed of the key in a .creds file, as `nsc` writes it.

    Raises InvalidAccess.
    """
    try:
        import nacl.signing  # noqa: F401
    except ImportError as error:
        raise InvalidAccess(f"{CREDS} needs the package pynacl: pip install pynacl") from error
    try:
        text = read_secret(CREDS, path)
        jwt, seed = _block(text, "JWT"), _block(text, "SEED")
        raw = b32decode(seed + "=" * (-len(seed) % 8))[_SEED_PREFIX_BYTES:][:_SEED_BYTES]
    except InvalidSecretFile as error:
        raise InvalidAccess(str(error)) from None
    except ValueError as error:
        raise InvalidAccess(f"{CREDS} is {str(path)!r}: not the credentials of a NATS user") from error
    if not seed.startswith("SU") or len(raw) != _SEED_BYTES:
        raise InvalidAccess(f"{CREDS} is {str(path)!r}: it holds no seed of a user")
    return jwt, raw


def _name_in(creds: Path) -> str:
    """Return the name of the user in a .creds file; "" when its JWT has none."""
    try:
        body = _read_creds(creds)[0].split(".")[1]
        return str(json.loads(urlsafe_b64decode(body + "=" * (-len(body) % 4))).get("name", ""))
    except (ValueError, IndexError, AttributeError):
        return ""


def _block(text: str, kind: str) -> str:
    # -----BEGIN NATS USER JWT-----, one line, ------END NATS USER JWT------
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for line, following in pairwise(lines):
        if "BEGIN" in line and kind in line:
            return following
    raise ValueError(f"no {kind}")
