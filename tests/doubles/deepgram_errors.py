"""What all Deepgram doubles have in common: the key, the format of errors, and queries."""

from aiohttp import web
from tests.doubles.server import Double, Refused

_CODES = {
    400: "Bad Request",
    401: "INVALID_AUTH",
    402: "ASR_PAYMENT_REQUIRED",
    403: "INSUFFICIENT_PERMISSIONS",
    429: "TOO_MANY_REQUESTS",
    500: "INTERNAL_SERVER_ERROR",
}


class DeepgramDouble(Double):
    """A Deepgram API: `Authorization: Token KEY`, errors as `{err_code, err_msg, request_id}`."""

    @property
    def request_id(self) -> str:
        """The id of the newest request."""
        return f"request-{len(self.received)}"

    def authorize(self, request: web.Request) -> None:
        """Raise Refused without the right key."""
        if request.headers.get("Authorization") != f"Token {self.key}":
            raise Refused(401, "Invalid credentials.", "INVALID_AUTH")

    def error(self, refused: Refused) -> web.Response:
        """Return Deepgram's error object."""
        code = refused.code or _CODES.get(refused.status, "INTERNAL_SERVER_ERROR")
        return web.json_response(
            {"err_code": code, "err_msg": refused.message, "request_id": self.request_id},
            status=refused.status,
            headers={"dg-request-id": self.request_id, "dg-error": refused.message},
        )


class Query:
    """The query of a request; each reader raises Refused for a value that Deepgram refuses."""

    def __init__(self, request: web.Request) -> None:
        self._query = request.query

    def has(self, name: str) -> bool:
        """Whether the parameter is given."""
        return name in self._query

    def is_off(self, name: str) -> bool:
        """Whether the parameter is `false`, where a number is usual."""
        return self._query.get(name) == "false"

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a boolean: `true` or `false`, in lower case."""
        value = self._query.get(name, "true" if default else "false")
        if value not in ("true", "false"):
            raise Refused(400, f"Invalid query string: {name} must be true or false, not {value}")
        return value == "true"

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        """Return a number in a range."""
        text = self._query.get(name)
        if text is None and default is not None:
            return default
        try:
            value = float(text or "")
        except ValueError:
            raise Refused(400, f"Invalid query string: {name} must be a number, not {text}") from None
        if not low <= value <= high:
            raise Refused(
                400, f"Invalid query string: {name} must be from {low:g} to {high:g}, not {value:g}"
            )
        return value

    def one_of(self, name: str, *allowed: str) -> str:
        """Return a value of a list."""
        value = self._query.get(name, "")
        if value not in allowed:
            raise Refused(
                400, f"Invalid query string: {name} must be one of {', '.join(allowed)}, not {value!r}"
            )
        return value

    def model(self, *prefixes: str) -> str:
        """Return the model, which must be one that this API has."""
        name = self._query.get("model", "")
        if not name.startswith(prefixes):
            raise Refused(400, f"Bad Request: No such model/language/tier combination found: {name!r}.")
        return name
