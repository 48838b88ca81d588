"""URL templates: no value changes the host or the path around it."""

from urllib.parse import parse_qs, unquote, urlsplit

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antiphon.agent_worker.flow.url import InvalidUrl, UrlTemplate

VALUES = st.one_of(
    st.text(max_size=40),
    st.lists(
        st.sampled_from(["..", ".", "/", "\\", "%2e", "%2F", "?", "#", "@", ":", "a", "\r\n", "//x"])
    ).map("".join),
)
TEMPLATE = UrlTemplate("https://api.example.com:8443/v1/orders/{order}/items/{item}.json?q={q}&fixed=1")


@given(VALUES, VALUES, VALUES)
def test_value_stays_where_it_is_written(order: str, item: str, q: str) -> None:
    try:
        url = TEMPLATE.render({"order": order, "item": item, "q": q})
    except InvalidUrl:
        return
    for parts in (urlsplit(url), urlsplit(str(httpx2.URL(url)))):
        assert (parts.scheme, parts.hostname, parts.port) == ("https", "api.example.com", 8443)
        assert not parts.fragment
        *start, orders, sent_order, items, sent_item = parts.path.split("/")
        assert (start, orders, items) == (["", "v1"], "orders", "items")
        expected = order.encode("utf-8", "replace").decode(), item.encode("utf-8", "replace").decode()
        assert (unquote(sent_order), unquote(sent_item).removesuffix(".json")) == expected
        query = parse_qs(parts.query, keep_blank_values=True)
        assert query == {"q": [q.encode("utf-8", "replace").decode()], "fixed": ["1"]}


@given(st.lists(st.sampled_from(["..", ".", "a"]), min_size=1).map("/".join), st.sampled_from("/\\"))
def test_parts_that_lead_elsewhere_are_refused(value: str, separator: str) -> None:
    value = value.replace("/", separator)
    if set(value.split(separator)) & {".", ".."}:
        with pytest.raises(InvalidUrl, match="another one"):
            TEMPLATE.render({"order": value, "item": "a", "q": ""})


@pytest.mark.parametrize(
    ("template", "values"),
    [
        ("https://a.example/{a}{b}/x", {"a": ".", "b": "."}),
        ("https://a.example/.{a}/x", {"a": "."}),
        ("https://a.example/{a}", {"a": ""}),
        ("https://a.example/{a}", {"a": None}),
    ],
)
def test_values_that_make_another_path_are_refused(template: str, values: dict[str, str]) -> None:
    # "." and "" are refused by themselves; both cases are here for what they would make together
    with pytest.raises(InvalidUrl):
        UrlTemplate(template).render(values)


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("ftp://a.example/", "must begin with https:// or http://"),
        ("file:///etc/passwd", "must begin with https:// or http://"),
        ("/orders", "must begin with https:// or http://"),
        ("https:///orders", "an invalid host"),
        ("https://{host}/orders", "can have no variables"),
        ("https://api.{region}.example.com/", "can have no variables"),
        ("https://api.example.com:{port}/", "can have no variables"),
        ("{metadata.base}/orders", "must begin with"),
        ("https://user:pass@a.example/", "has a user name"),
        ("https://a.example:99999/", "an invalid host or port"),
        ("https://a.example /x", "an invalid host or port"),
        ("https://a.example\\@b.example/", "has a user name"),
        ("https://a.example\\b.example/", "an invalid host or port"),
        ("https://a.example/x#y", "no URL has here"),
        ("https://a.example/{x:spelled}", "no URL has here"),
        ("https://a.example/{x!r}", "only {name}"),
        ("{secret.BASE}orders", "must begin with /"),
    ],
)
def test_mistakes_in_a_template(template: str, why: str) -> None:
    with pytest.raises(InvalidUrl, match=why.replace("(", r"\(")):
        UrlTemplate(template)


def test_secret_may_stand_for_the_host() -> None:
    template = UrlTemplate("{secret.BASE}/orders/{id}")
    values = {"secret.BASE": "https://a.example:1/v2/", "id": "7/8"}
    assert template.render(values) == "https://a.example:1/v2/orders/7%2F8"
    for wrong in ("a.example", "https://u:p@a.example", "https://a.example?x=1", "ftp://a.example", ""):
        with pytest.raises(InvalidUrl) as problem:
            template.render(values | {"secret.BASE": wrong})
        assert not wrong or wrong not in str(problem.value)
