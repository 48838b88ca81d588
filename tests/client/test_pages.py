from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from antiphon.client.calls import Reply
from antiphon.client.errors import UnreadableResponse
from antiphon.client.pages import Listing

Serve = Callable[[dict[str, str]], dict[str, Any]]


def listing(**changes: Any) -> Listing[int]:
    return Listing(path="/v1/numbers", noun="numbers", read=int, **changes)


def read(wanted: Listing[int], serve: Serve) -> tuple[list[int], list[dict[str, str]]]:
    """Read a list to its end; return its items and the parameters of each request."""
    paging, items, asked = wanted.first(), list[int](), []
    while paging.call is not None:
        asked.append(dict(paging.call.params))
        body = msgspec.json.encode(serve(asked[-1]))
        items += paging.take(paging.call.parse(Reply(200, {}, body)))
    return items, asked


def by_cursor(asked: dict[str, str]) -> dict[str, Any]:
    start = int(asked.get("cursor", "0").removeprefix("after-"))
    numbers = list(range(start, min(start + int(asked["limit"]), 10)))
    return {"numbers": numbers, "next": f"after-{numbers[-1] + 1}" if numbers and numbers[-1] < 9 else None}


def test_all_pages_are_read() -> None:
    items, asked = read(listing(page_size=4, params=[("user", "ada")]), by_cursor)

    assert items == list(range(10))
    assert asked == [
        {"user": "ada", "limit": "4"},
        {"user": "ada", "limit": "4", "cursor": "after-4"},
        {"user": "ada", "limit": "4", "cursor": "after-8"},
    ]


@pytest.mark.parametrize(("limit", "requests"), [(0, 0), (3, 1), (4, 1), (5, 2), (10, 3), (99, 3)])
def test_a_limit_is_of_all_pages(limit: int, requests: int) -> None:
    items, asked = read(listing(page_size=4, limit=limit), by_cursor)

    assert items == list(range(min(limit, 10)))
    assert len(asked) == requests
    assert sum(int(one["limit"]) for one in asked) <= max(limit, 12)


@pytest.mark.parametrize("following", ["opaque", 4])
def test_a_list_by_position_continues_after_its_last_item(following: str | int) -> None:
    def serve(asked: dict[str, str]) -> dict[str, Any]:
        after = int(asked.get("after", 0))
        numbers = [after + 1, after + 2]
        return {"numbers": numbers, "next": following if after < 4 else None}

    items, asked = read(listing(params=[("after", "2")], position=("after", str)), serve)

    assert items == [3, 4, 5, 6]
    assert [one["after"] for one in asked] == ["2", "4"]


def test_the_same_page_again_raises() -> None:
    with pytest.raises(UnreadableResponse, match="twice"):
        read(listing(), lambda _: {"numbers": [1], "next": "here"})


@pytest.mark.parametrize("document", [{}, {"numbers": 7}, {"numbers": [], "next": []}])
def test_what_is_no_page_raises(document: dict[str, Any]) -> None:
    with pytest.raises(UnreadableResponse):
        read(listing(), lambda _: document)


def test_more_members_of_a_page_are_ignored() -> None:
    assert read(listing(), lambda _: {"numbers": [1], "next": None, "total": 1})[0] == [1]


def test_sizes_are_checked() -> None:
    for wrong in (listing(limit=-1), listing(page_size=0)):
        with pytest.raises(ValueError, match="limit"):
            wrong.first()
