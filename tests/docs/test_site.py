"""The site of the documentation: where links lead, and that a page loads nothing from elsewhere."""

import re
from pathlib import PurePosixPath

import pytest
from mkdocs.exceptions import PluginError
from tools.docs import diagrams, site


@pytest.mark.parametrize(
    ("page", "link", "expected"),
    [
        (
            "docs/how-to/upgrade.md",
            "../reference/tables.md#dead_letters",
            "../reference/tables.md#dead_letters",
        ),
        ("docs/how-to/upgrade.md", "../../ARCHITECTURE.md#log", "../ARCHITECTURE.md#log"),
        ("docs/how-to/upgrade.md", "../../README.md", "../index.md"),
        ("docs/how-to/upgrade.md", "../../deploy/compose.yaml#L3", "../source/deploy/compose.yaml.md"),
        ("docs/how-to/upgrade.md", "https://nats.io/a", "https://nats.io/a"),
        ("README.md", "docs/quickstart.md#platforms", "quickstart.md#platforms"),
        ("README.md", "flows", "source/flows.md"),
        (
            "examples/analytics_consumer/README.md",
            "../../docs/reference/settings.md",
            "../../reference/settings.md",
        ),
    ],
)
def test_a_link_leads_to_where_the_site_has_its_target(page: str, link: str, expected: str) -> None:
    text = f"see [this]({link}), not `[that](../that.md)`\n\n```\n[that](../that.md)\n```\n"

    assert site._in_site(PurePosixPath(page), text) == text.replace(f"[this]({link})", f"[this]({expected})")


def test_a_linked_folder_is_listed_and_a_missing_file_is_refused() -> None:
    assert "- `booking.yaml`" in site._shown(PurePosixPath("flows"))
    with pytest.raises(PluginError, match="a page links to flows/gone"):
        site._shown(PurePosixPath("flows/gone.yaml"))


@pytest.mark.parametrize(
    "loads",
    [
        '<script src="https://cdn.example/a.js"></script>',
        '<img alt="a" src="http://cdn.example/a.png">',
        '<link rel="stylesheet" href="https://fonts.example/a.css">',
    ],
)
def test_a_page_that_loads_something_from_elsewhere_is_refused(loads: str) -> None:
    with pytest.raises(PluginError, match=r"how-to/a\.html loads .*offline"):
        site._offline(f"<html>{loads}</html>", "how-to/a.html")


def test_a_page_may_link_to_elsewhere_and_has_the_shim_of_its_own() -> None:
    html = f'<a href="https://nats.io">NATS</a><script src="{site.SHIM}"></script>'

    assert site._offline(html, "how-to/a.html").endswith(
        'src="../assets/javascripts/iframe-worker.js"></script>'
    )


def test_a_diagram_is_as_wide_as_the_page_and_its_words_can_be_read() -> None:
    names = [f"{name}[the name of a service]" for name in "abcdefgh"]
    drawn = diagrams.svg("flowchart LR\n" + " --> ".join(names))

    assert drawn.startswith('<figure class="mermaid-svg" style="width: 100%; ')
    widths = dict(re.findall(r"(m..)-width: ([0-9.]+)px", drawn.partition("viewBox")[0]))
    smallest, largest = float(widths["min"]), float(widths["max"])
    assert largest > 1000
    assert 0.6 * largest < smallest < largest
