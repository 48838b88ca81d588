"""Tools that are an HTTP request: its URL, headers and body from the arguments, secrets and variables."""

import asyncio
import re
from collections import ChainMap
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode

import httpx2
from livekit.agents.llm import ToolError

from antiphon.agent_worker.flow.definitions import HttpRequest
from antiphon.agent_worker.flow.template import placeholders, render
from antiphon.agent_worker.flow.url import InvalidUrl, UrlTemplate, as_text
from antiphon.agent_worker.tools.http_client import was_refused
from antiphon.agent_worker.tools.http_response import read_body, result_of, retry_after
from antiphon.agent_worker.tools.secrets import Secrets
from antiphon.chassis.retry import retrying

SAFE = ("GET", "PUT", "DELETE")  # a second request has no other effect than the first
BUSY = (429, 502, 503, 504)
REDIRECTS = 3
_WITHOUT_BODY = ("GET", "DELETE")
_KEEP_METHOD = (307, 308)
_ONE_NAME = re.compile(r"\{([^{}:]+)\}")
_HEADER_VALUE = re.compile(r"[\x20-\x7e\t]*")


class _TryAgain(Exception):
    """The service is busy or was not reached; `error` is what the model reads in the end."""

    def __init__(self, error: ToolError, after_seconds: float = 0.0) -> None:
        super().__init__(error.message)
        self.error = error
        self.after_seconds = after_seconds


class HttpTool:
    """A request that a flow defines. `variables` are those of the session."""

    def __init__(self, request: HttpRequest, secrets: Secrets, variables: Mapping[str, Any]) -> None:
        self._request = request
        self._url = UrlTemplate(request.url)
        self._secrets = secrets
        self._variables = variables

    async def call(self, client: httpx2.AsyncClient, arguments: dict[str, Any], seconds: float) -> Any:
        """Send it and return the result; `seconds` is the limit of all attempts. Raises ToolError."""
        request = self.build(client, arguments)
        attempts = 1 + self._request.retries if self._request.method in SAFE else 1
        deadline = asyncio.get_running_loop().time() + seconds
        wait = 0.0

        async def attempt() -> Any:
            nonlocal wait
            await asyncio.sleep(wait)
            wait = 0.0
            try:
                return await self._send(client, request)
            except _TryAgain as busy:
                wait = busy.after_seconds
                if asyncio.get_running_loop().time() + wait >= deadline:
                    raise busy.error from None
                raise

        try:
            return await retrying(_TryAgain, attempts=attempts, timeout_seconds=seconds)(attempt)
        except _TryAgain as busy:
            raise busy.error from None

    def build(self, client: httpx2.AsyncClient, arguments: dict[str, Any]) -> httpx2.Request:
        """Return the request for some arguments. Raises ToolError."""
        # a flow's text names a secret as secret.NAME, and the check allows no argument with a dot
        values = ChainMap(dict(self._secrets), arguments, self._variables)  # type: ignore[arg-type]
        try:
            url = httpx2.URL(self._url.render(values))
            headers = {name: _header(name, text, values) for name, text in self._request.headers.items()}
            headers = {"accept": "application/json, text/*;q=0.9", **headers, "accept-encoding": "identity"}
            body = self._body(arguments, values)
        except (InvalidUrl, httpx2.InvalidURL) as error:
            why = str(error) if isinstance(error, InvalidUrl) else "the URL is too long or not valid"
            raise ToolError(f"the request cannot be made: {why}") from None
        except KeyError as error:
            raise ToolError(f"the request cannot be made: {error.args[0]} has no value") from None
        if self._request.body is None and self._request.method in _WITHOUT_BODY:
            return client.build_request(self._request.method, _with_query(url, body), headers=headers)
        try:
            return client.build_request(self._request.method, url, headers=headers, json=body)
        except ValueError:  # the arguments were checked
            raise ToolError(
                "the request cannot be made: a variable has a text that JSON cannot carry"
            ) from None

    def _body(self, arguments: dict[str, Any], values: Mapping[str, Any]) -> Any:
        if self._request.body is not None:
            return _filled(self._request.body, values)
        used = self._url.names.union(*map(placeholders, self._request.headers.values()))
        return {name: value for name, value in arguments.items() if name not in used}

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request) -> Any:
        try:
            for _ in range(REDIRECTS + 1):
                response = await client.send(request, stream=True)
                try:
                    if response.status_code in BUSY and self._request.method in SAFE:
                        error = ToolError(f"the service is busy: it answered {response.status_code}")
                        raise _TryAgain(error, retry_after(response))
                    following = _next_request(response)
                    if following is None:
                        return result_of(response, await read_body(response, self._request.max_bytes))
                finally:
                    await response.aclose()
                request = following
        except httpx2.TransportError as error:
            if was_refused(error):
                raise ToolError(
                    "the address of the service is private, and the flow does not allow it"
                ) from error
            raise _TryAgain(ToolError("the service cannot be reached")) from error
        raise ToolError("the service redirects too often")


def _next_request(response: httpx2.Response) -> httpx2.Request | None:
    """Return the request that a redirect asks for; None without one. Raises ToolError."""
    if not response.has_redirect_location:
        return None
    sent = response.request
    try:
        url = sent.url.join(response.headers["location"])
    except httpx2.InvalidURL as error:
        raise ToolError("the service redirects to an invalid URL") from error
    if (url.scheme, url.host, url.port) != (sent.url.scheme, sent.url.host, sent.url.port) or url.userinfo:
        raise ToolError("the service redirects to another address, which tools do not follow")
    if response.status_code not in _KEEP_METHOD and sent.method != "GET":
        headers = {name: value for name, value in sent.headers.items() if not name.startswith("content-")}
        return httpx2.Request("GET", url, headers=headers, extensions=sent.extensions)
    return httpx2.Request(
        sent.method, url, headers=sent.headers, content=sent.content, extensions=sent.extensions
    )


def _header(name: str, text: str, values: Mapping[str, Any]) -> str:
    value = render(text, {used: as_text(values[used]) for used in placeholders(text)})
    if not _HEADER_VALUE.fullmatch(value):  # the value itself may be a secret
        raise ToolError(f"the request cannot be made: the header {name} has a character that is not ASCII")
    return value


def _with_query(url: httpx2.URL, arguments: Mapping[str, Any]) -> httpx2.URL:
    pairs = [
        (name, as_text(item))
        for name, value in arguments.items()
        if value is not None
        for item in (value if isinstance(value, list) else [value])
    ]
    query = urlencode(pairs, quote_via=quote, errors="replace").encode()
    return url.copy_with(query=b"&".join(filter(None, (url.query, query)))) if query else url


def _filled(template: Any, values: Mapping[str, Any]) -> Any:
    """Return a body with its variables; a text that is one variable becomes its value, of any type."""
    if isinstance(template, str):
        if (only := _ONE_NAME.fullmatch(template)) is not None:
            return values[only[1]]
        return render(template, values)
    if isinstance(template, Mapping):
        return {name: _filled(value, values) for name, value in template.items()}
    return [_filled(value, values) for value in template] if isinstance(template, list) else template
