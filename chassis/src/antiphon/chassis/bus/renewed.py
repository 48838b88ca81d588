"""A nats-py client that reads certificates and passwords again before each attempt to connect."""

import math
import time
from contextlib import suppress
from typing import Any

from nats.aio.client import Client, Srv
from nats.errors import Error

from antiphon.chassis.library_log import get_logger
from antiphon.chassis.nats_access import InvalidAccess, NatsAccess

log = get_logger(__name__)

NO_CREDENTIALS = {"user": None, "password": None, "token": None}
RENEW_SECONDS = 1.0  # attempts are more frequent, and reading certificates blocks the loop of a call


class TlsNotOffered(Error):
    """A server without TLS: it gets no credentials."""


class Renewal:
    """The options of a connection, by what its files hold now; the earlier, when one cannot be used."""

    def __init__(self, access: NatsAccess) -> None:
        self.servers = access.servers
        self.encrypts = access.uses_tls  # never less later
        self._access = access
        self._options: dict[str, Any] | None = None
        self._invalid = ""
        self._renewed_at = -math.inf  # time.monotonic

    def options(self) -> dict[str, Any]:
        """Return them, at most a second old.

        Raises InvalidAccess when there are no earlier ones either.
        """
        now = time.monotonic()
        if self._options is None or now >= self._renewed_at + RENEW_SECONDS:
            self._renewed_at = now
            self._renew()
        return dict(self._options or {})

    def _renew(self) -> None:
        try:
            access = self._access.current()
            self._options = access.options()
        except InvalidAccess as error:
            if self._options is None:
                raise
            if str(error) != self._invalid:  # once for each mistake, not for each attempt
                self._invalid = str(error)
                log.warning("nats.settings_invalid", extra={"error": self._invalid, "used": "the earlier"})
            return
        self._invalid = ""
        self.servers = access.servers
        self.encrypts = self.encrypts or access.uses_tls


class RenewedClient(Client):
    """A client that a rotated secret does not end, and that sends no secret without the TLS it needs."""

    def __init__(self, renewal: Renewal | None = None) -> None:
        super().__init__()
        self._renewal = renewal

    async def _connect_to_server(self, s: Srv) -> None:
        if self._renewal is not None:  # nats-py would use the options of its first attempt for good
            self._set(self._renewal.options())
        await super()._connect_to_server(s)

    def _set(self, options: dict[str, Any]) -> None:
        self._signature_cb = options.pop("signature_cb", self._signature_cb)
        self._user_jwt_cb = options.pop("user_jwt_cb", self._user_jwt_cb)
        self.options.update(NO_CREDENTIALS | options)  # a token is not sent beside a user

    async def _process_connect_init(self) -> None:
        # nats-py ends its attempts for good after an error that it does not know, such as of a damaged INFO
        try:
            await super()._process_connect_init()
        except (Error, OSError, TimeoutError):
            raise
        except Exception as error:
            raise Error(f"the server cannot be understood: {error!r}") from error

    def _connect_command(self) -> bytes:
        # nats-py follows the server's word: without TLS it would send the credentials in the clear.
        secure = self._server_info.get("tls_required")
        scheme = self._current_server.uri.scheme if self._current_server is not None else ""
        # With ws:// it makes no TLS either, whatever that word is.
        encrypted = scheme == "wss" or (secure and scheme != "ws")
        if self._renewal is not None and self._renewal.encrypts and not encrypted:
            raise TlsNotOffered("the server does not offer TLS, which the settings require")
        self._mark_as_tls()
        return super()._connect_command()

    def _mark_as_tls(self) -> None:
        # nats-py does not, and asyncio then warns of each end of the connection
        writer = getattr(self._transport, "_io_writer", None)
        if writer is not None and writer.transport.get_extra_info("sslcontext") is not None:
            with suppress(AttributeError):  # the server has closed it meanwhile: it has no protocol
                writer.transport.get_protocol()._over_ssl = True
