"""Every link of the documentation that points into the tree leads somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [path for path in sorted(ROOT.rglob("*.md")) if not {".venv", "node_modules"} & set(path.parts)]
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def broken_links(page: Path, text: str) -> list[str]:
    links = [link for link in LINK.findall(text) if "://" not in link and not link.startswith("mailto:")]
    return [link for link in links if not (page.parent / link).exists()]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_links_to_what_exists(page: Path) -> None:
    assert broken_links(page, page.read_text()) == []


def test_a_broken_link_is_noticed() -> None:
    assert broken_links(ROOT / "README.md", "[x](docs/adr) [y](docs/nowhere.md#part)") == ["docs/nowhere.md"]


def test_every_decision_says_what_enforces_it() -> None:
    for page in (ROOT / "docs" / "adr").glob("*.md"):
        text = page.read_text().lower()
        for part in ("context", "decision", "consequences", "enforces"):
            assert part in text, f"{page.name} has no {part}"
