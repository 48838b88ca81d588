"""Which file that a DSN names for TLS cannot be used: OpenSSL does not say which of them it has refused."""

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import parse_qsl, urlsplit

from antiphon.chassis.postgres_dsn import DSN


class UnusableTlsFile(OSError):
    """A file that the DSN names cannot be used: it is read again at the next connect."""


@contextmanager
def naming_files(dsn: str) -> Iterator[None]:
    """Raise UnusableTlsFile when connecting fails by a file that the DSN names; pass all other errors on."""
    try:
        yield
    except (ssl.SSLError, OSError) as error:
        if isinstance(error, ssl.SSLCertVerificationError | ConnectionError | TimeoutError):
            raise
        if said := _unusable(dsn):
            raise UnusableTlsFile(said) from error
        raise


def _unusable(dsn: str) -> str:
    given = {name: value for name, value in parse_qsl(urlsplit(dsn).query) if value}
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in ("sslrootcert", "sslcrl"):
        if name in given:
            path = given[name]
            if reason := _reason(partial(context.load_verify_locations, path), "no certificate"):
                return f"{name} in {DSN} is {path!r}: {reason}"
    if (cert := given.get("sslcert")) is None:
        return ""
    key = given.get("sslkey")
    # without a password OpenSSL would ask for it on the terminal
    reason = _reason(
        partial(context.load_cert_chain, cert, key, password=""), "not a certificate and its key"
    )
    return f"sslcert in {DSN} is {cert!r}, sslkey is {key or cert!r}: {reason}" if reason else ""


def _reason(load: Callable[[], object], otherwise: str) -> str:
    try:
        load()
    except ssl.SSLError as error:
        return f"{otherwise} ({error.reason or error})"
    except OSError as error:
        return error.strerror or str(error)
    return ""
