"""Keys are masked in every error that a plugin raises, also in those of its HTTP client."""

import aiohttp
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from antiphon.agent_worker.providers.redact import MASK, mask_error, masked

SECRET = "key-of-a-test"


def test_the_error_of_a_refused_websocket_does_not_show_the_key() -> None:
    headers = CIMultiDictProxy(CIMultiDict({"Authorization": f"Token {SECRET}"}))
    request = aiohttp.RequestInfo(URL("http://127.0.0.1/v1/speak"), "GET", headers)
    error = aiohttp.WSServerHandshakeError(request, (), status=401, message="Invalid response status")

    mask_error(error, {SECRET})

    assert SECRET not in f"{error!s} {error!r} {error.args}"
    assert MASK in repr(error)
    assert error.status == 401
    assert error.request_info.method == "GET"


def test_what_holds_texts_keeps_its_type() -> None:
    assert masked([SECRET, (1, SECRET), {"k": SECRET}], {SECRET}) == [MASK, (1, MASK), {"k": MASK}]
