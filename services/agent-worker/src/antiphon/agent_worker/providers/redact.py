"""Keep API keys out of what is logged and recorded: a server may repeat them in its errors."""

from collections.abc import Collection, Iterator
from typing import Any, Final

MASK: Final = "[secret]"
_SHORTEST: Final = 4  # characters: a shorter value would mask half of a message
_ATTRIBUTES: Final = ("message", "body", "request_info")


def masked(value: Any, secrets: Collection[str]) -> Any:
    """Return a value in which the secrets are masked: texts, and what holds texts."""
    if isinstance(value, str):
        for secret in secrets:
            if len(secret) >= _SHORTEST:
                value = value.replace(secret, MASK)
        return value
    if isinstance(value, dict):
        return {masked(key, secrets): masked(inner, secrets) for key, inner in value.items()}
    if isinstance(value, list):
        return [masked(inner, secrets) for inner in value]
    if isinstance(value, tuple):
        make = getattr(value, "_make", tuple)  # a named tuple, as aiohttp's request in an error
        return make(masked(inner, secrets) for inner in value)
    return value if isinstance(value, int | float | None) else masked(str(value), secrets)


def mask_error(error: BaseException, secrets: Collection[str]) -> None:
    """Mask secrets in an error and its causes, in place: LiveKit logs the same objects later."""
    for one in _chain(error):
        if not any(secret in f"{one} {one.args}{_texts(one)}" for secret in secrets):
            continue
        one.args = tuple(masked(argument, secrets) for argument in one.args)
        for name in _ATTRIBUTES:
            if hasattr(one, name):
                setattr(one, name, masked(getattr(one, name), secrets))


def _texts(error: BaseException) -> str:
    return " ".join(str(getattr(error, name, "")) for name in _ATTRIBUTES)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [cause for cause in (one.__cause__, one.__context__) if cause is not None]
