"""Every link of the documentation into the repository has a target, and so has every anchor."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for path in sorted(ROOT.rglob("*.md"))
    if not any(part.startswith(".") or part == "node_modules" for part in path.relative_to(ROOT).parts)
]
FENCED = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`[^`\n]*`")
LINK = re.compile(r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)")
REFERENCE = re.compile(r"^\[[^\]]+\]:\s*(\S+)", re.MULTILINE)
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*$", re.MULTILINE)
HTML_ANCHOR = re.compile(r"<a\s+(?:id|name)=\"([^\"]+)\"")
LINE_ANCHOR = re.compile(r"L(\d+)(?:-L(\d+))?")


def links_of(text: str) -> list[str]:
    """Return the links of a page into the repository."""
    prose = CODE.sub("", FENCED.sub("", text))
    found = LINK.findall(prose) + REFERENCE.findall(prose)
    return [link for link in found if "://" not in link and not link.startswith("mailto:")]


def anchors_of(text: str) -> set[str]:
    """Return the anchors of a page, as GitHub makes them of its headings."""
    text = FENCED.sub("", text)
    anchors = set(HTML_ANCHOR.findall(text))
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(text):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
        anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return anchors


def broken_links(page: Path, text: str) -> Iterator[str]:
    """Yield the links of a page without a target."""
    for link in links_of(text):
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and not _has_anchor(target, anchor, text if not name else None)):
            yield link


def _has_anchor(target: Path, anchor: str, text: str | None) -> bool:
    if target.is_dir():
        return False
    text = text or target.read_text()
    if lines := LINE_ANCHOR.fullmatch(anchor):
        return int(lines[2] or lines[1]) <= text.count("\n")
    return target.suffix == ".md" and anchor in anchors_of(text)


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_has_a_target(page: Path) -> None:
    assert list(broken_links(page, page.read_text())) == []


VALID = ["other.md", "other.md#the-other-page", "other.md#code--more", "other.md#twice-1", "#here", "a.py#L2"]
BROKEN = ["gone.md", "other.md#nowhere", "other.md#twice-2", "#there", "a.py#L3", "a.py#name"]


def test_a_broken_link_is_detected(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# The other page\n\n## `code` & more\n\n## Twice\n\n## Twice\n")
    (tmp_path / "a.py").write_text("one\ntwo\n")
    page = tmp_path / "page.md"
    text = "# Here\n" + "".join(f"[x]({link}) " for link in VALID + BROKEN)
    text += "\n```\n# There\n[x](in-code.md)\n```\n`[x](in-code.md)`\n[y]: reference.md\n"
    page.write_text(text)

    assert list(broken_links(page, text)) == [*BROKEN, "reference.md"]


def test_the_readme_lists_every_page_for_users() -> None:
    listed = set(links_of((ROOT / "README.md").read_text().partition("## Documentation")[2]))
    pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*/*.md")}

    assert {page for page in pages if page.startswith(("docs/how-to/", "docs/reference/"))} <= listed


def test_the_quickstart_leads_to_the_keys() -> None:
    assert "how-to/manage-api-keys.md" in links_of((ROOT / "docs" / "quickstart.md").read_text())


def test_every_decision_names_its_enforcement() -> None:
    for page in (ROOT / "docs" / "adr").glob("*.md"):
        text = page.read_text().lower()
        for part in ("context", "decision", "consequences", "enforces"):
            assert part in text, f"{page.name} has no {part}"


def missing_tests(text: str) -> list[str]:
    """Return the tests that a page names and that do not exist."""
    named = re.findall(r"`(tests/[\w./-]+)`", text)
    return [name for name in named if not (ROOT / name).exists()]


def test_each_test_that_the_threat_model_names_exists() -> None:
    text = (ROOT / "docs/discussions/security.md").read_text()
    assert text.count("`tests/") > 20
    assert missing_tests(text) == []
    assert missing_tests("`tests/nowhere.py`") == ["tests/nowhere.py"]
