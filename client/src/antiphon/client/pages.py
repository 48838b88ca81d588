"""Lists: pages are read one after the other, when they are needed."""

from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

import msgspec
from msgspec import Raw, Struct

from antiphon.client.calls import Call, Params, Reply, decoded
from antiphon.client.errors import InvalidArgument, UnreadableResponse

LARGEST_PAGE = 100

T = TypeVar("T")

_page = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])
_next = msgspec.json.Decoder(str | int | None)


class Page(Struct, Generic[T], frozen=True):
    """One page: its items, and what follows it; None on the last page."""

    items: Sequence[T]
    following: str | None


class Listing(Struct, Generic[T], frozen=True, kw_only=True):
    """A list of the API.

    `noun` is the name of the items in a page. `position` tells where the next page begins for a list that
    is read by position and not by cursor. `limit` is the most items in all.
    """

    path: str
    noun: str
    read: Callable[[bytes], T]
    params: Params = ()
    limit: int | None = None
    page_size: int = LARGEST_PAGE
    position: tuple[str, Callable[[T], str]] | None = None
    timeout_seconds: float | None = None

    def first(self) -> "Paging[T]":
        """Start at the first page.

        Raises InvalidArgument for a limit below 0 or a page size below 1.
        """
        if self.page_size < 1 or (self.limit is not None and self.limit < 0):
            raise InvalidArgument("limit takes 0 or more, page_size 1 or more")
        return Paging(self)


class Paging(Generic[T]):
    """The way through a list: `call` is the next page to get, or None after the last."""

    def __init__(self, listing: Listing[T]) -> None:
        self._listing = listing
        self._left = listing.limit
        self.call: Call[Page[T]] | None = self._call(None) if self._left != 0 else None

    def take(self, page: Page[T]) -> Sequence[T]:
        """Return the items of a page, and advance to the next.

        Raises UnreadableResponse if the server sends the same page again.
        """
        items = page.items if self._left is None else page.items[: self._left]
        if self._left is not None:
            self._left -= len(items)
        before = self.call
        if page.following is None or self._left == 0:
            self.call = None
            return items
        self.call = self._call(self._start(page))
        if before is not None and self.call.params == before.params:
            raise UnreadableResponse("the server sent the same page twice")
        return items

    def _start(self, page: Page[T]) -> tuple[str, str]:
        if self._listing.position is not None and page.items:
            name, position = self._listing.position
            return name, position(page.items[-1])
        return "cursor", str(page.following)

    def _call(self, start: tuple[str, str] | None) -> Call[Page[T]]:
        listing = self._listing
        size = listing.page_size if self._left is None else min(listing.page_size, self._left)
        fixed = [(name, value) for name, value in listing.params if start is None or name != start[0]]
        params = [*fixed, ("limit", str(size)), *([start] if start else [])]
        return Call(
            method="GET",
            path=listing.path,
            params=params,
            parse=self._parse,
            timeout_seconds=listing.timeout_seconds,
        )

    def _parse(self, reply: Reply) -> Page[T]:
        document: dict[str, Any] = decoded(_page, reply.body)
        if self._listing.noun not in document:
            raise UnreadableResponse(f"the answer has no {self._listing.noun}: is base_url session-api's?")
        items = [self._listing.read(bytes(raw)) for raw in decoded(_items, document[self._listing.noun])]
        following = decoded(_next, document["next"]) if "next" in document else None
        return Page(items, None if following is None else str(following))
