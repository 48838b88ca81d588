"""Check the style of the pages against the glossary: `python -m tools.docs.style`.

Exits with 1 and names each line. What is in code, in the target of a link or in a comment is not checked.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.docs.words import BRITISH, FILLERS, NAMES, TERMS

ROOT: Final = Path(__file__).parents[2]
GLOSSARY: Final = ROOT / "docs" / "reference" / "glossary.md"
FOLDERS: Final = (
    *("docs", "examples", "deploy"),
    *("contracts", "chassis", "recorder", "services", "client", "cli"),
)
RULES: Final = (*TERMS, *BRITISH, *FILLERS)
NO_PROSE: Final = re.compile(
    r"^ *(```|~~~).*?^ *\1|<!--.*?-->|``.+?``|`[^`]*`|\]\([^)\s]*\)|<[^>\s][^>]*>|https?://\S+",
    re.MULTILINE | re.DOTALL,
)
CUT: Final = "\x00"  # stands for what is no prose
TERM: Final = re.compile(r"^\*\*([^*]+)\*\*", re.MULTILINE)
HEADING: Final = re.compile(r"^#{1,6} +(?:[\d.]+ +)?(.+)$")
CAPITAL: Final = re.compile(r"(?<![:.!?] )(?<!^)\b[A-Z][a-z]+\b")  # in the middle of a sentence
LINK: Final = re.compile(r"\[([^\]\[]+)\]\(")
UNHELPFUL: Final = {"here", "click here", "this", "this page", "link", "this link", "more", "read more"}
TWICE: Final = re.compile(r"\b([A-Za-z]+)(?: |\n *)\1\b")
MAY_REPEAT: Final = {"that", "had"}


def faults(page: str, terms: list[str]) -> Iterator[str]:
    """Yield each fault of a page: its line, and what to write. `terms` are those of the glossary."""
    prose = NO_PROSE.sub(lambda match: CUT + "\n" * match[0].count("\n"), page)
    found = [*_words(prose, terms), *_headings(prose), *_links(page)]
    yield from (f"{line}: {what}" for line, what in sorted(found))


def terms_of(glossary: str) -> list[str]:
    """Return the terms that the glossary defines."""
    return TERM.findall(glossary)


def variants(term: str) -> Iterator[str]:
    """Yield patterns of other spellings of a term of several words; before a noun it may have hyphens."""
    first, *others = re.split(r"[ -]", term.lower())
    if others:
        words = [f"[{first[0].upper()}{first[0]}]{first[1:]}", *others]
        yield f"{''.join(words)}s?"
        if "-" not in term:
            yield f"{'-'.join(words)}(?:s|(?! ?[a-z`{CUT}]))"


def _words(prose: str, terms: list[str]) -> Iterator[tuple[int, str]]:
    of_terms = ((pattern, term.lower()) for term in terms for pattern in variants(term))
    for pattern, instead in (*RULES, *of_terms):
        for match in re.finditer(rf"(?<![\w./-]){pattern}(?![\w/-]|\.\w)", prose):
            yield _line(prose, match), f"“{match[0]}”: write {instead}"
    for match in TWICE.finditer(prose):
        if match[1].lower() not in MAY_REPEAT:
            yield _line(prose, match), f"“{match[1]} {match[1]}”: a word is there twice"


def _headings(prose: str) -> Iterator[tuple[int, str]]:
    for line, text in enumerate(prose.splitlines(), 1):
        if heading := HEADING.match(text):
            for word in CAPITAL.findall(heading[1]):
                if word not in NAMES:
                    yield line, f"heading “{heading[1]}”: write “{word.lower()}”, or add it to NAMES"


def _links(page: str) -> Iterator[tuple[int, str]]:
    for match in LINK.finditer(page):
        if match[1].strip().lower() in UNHELPFUL:
            yield _line(page, match), f"link “{match[1]}”: say where it leads"


def _line(text: str, match: re.Match[str]) -> int:
    return text.count("\n", 0, match.start()) + 1


def pages() -> list[Path]:
    """Return the pages that people read."""
    found = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md")]
    kept = [path for path in found if not {".venv", "node_modules", "build"} & set(path.parts)]
    return sorted([*ROOT.glob("*.md"), *kept])


def main() -> int:
    """Print the faults of all pages; return the exit code."""
    terms = terms_of(GLOSSARY.read_text())
    found = [
        f"{path.relative_to(ROOT)}:{fault}" for path in pages() for fault in faults(path.read_text(), terms)
    ]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
