"""Hooks of MkDocs: pages from outside docs/, and a page for each file that a page links to."""

import os
import re
from pathlib import Path, PurePosixPath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from mkdocs.utils import get_relative_url
from tools.docs.api_documents import documents, with_links
from tools.docs.built import SHIM as OURS
from tools.docs.built import missing

ROOT = Path(__file__).parents[2]
DOCS = PurePosixPath("docs")
# pages from outside docs/, and where the site has them
OUTSIDE = {
    PurePosixPath("README.md"): "index.md",
    **{PurePosixPath(name): name for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")},
    PurePosixPath("SECURITY.md"): "SECURITY.md",
    PurePosixPath("examples/analytics_consumer/README.md"): "examples/analytics_consumer/README.md",
}
SOURCES = "source"
LANGUAGES = {".py": "python", ".yaml": "yaml", ".json": "json", ".sql": "sql", ".Dockerfile": "dockerfile"}
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)#\s]+)(#[^)\s]*)?(?=[)\s])")
CODE = re.compile(r"^(```|~~~).*?^\1|`[^`\n]*`", re.MULTILINE | re.DOTALL)
LARGEST = 200_000  # characters of a file that is shown
SHIM = "https://unpkg.com/iframe-worker/shim"  # what the theme loads for a search in pages opened as files
LOADS = re.compile(
    r"<(?:script|img|iframe|link rel=\"?(?:stylesheet|preload))[^>]*(?:src|href)=\"?https?://[^>]*>"
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages from outside docs/, and those of the files that any page links to."""
    pages = {
        DOCS / file.src_uri: (ROOT / DOCS / file.src_uri).read_text() for file in files.documentation_pages()
    }
    pages |= {path: (ROOT / path).read_text() for path in OUTSIDE}
    for path, uri in OUTSIDE.items():
        files.append(File.generated(config, uri, content=_in_site(path, pages[path])))
    linked = {target for path, text in pages.items() for target in _targets(path, text)}
    for target in sorted(linked):
        if _uri(target).startswith(f"{SOURCES}/"):
            files.append(File.generated(config, _uri(target), content=_shown(target)))
    shim = (Path(__file__).parent / "vendor" / "iframe-worker.js").read_text()
    for uri, content in {OURS: shim, **documents()}.items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point the links of a page of docs/ to where the site has their targets."""
    if page.file.generated_by:
        return markdown
    return with_links(page.file.src_uri, _in_site(DOCS / page.file.src_uri, markdown))


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Let a page load nothing from elsewhere. Raises PluginError if it would."""
    return _offline(output, page.url)


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:
    """Let the page of an unknown address load nothing from elsewhere. Raises PluginError if it would."""
    return _offline(output, template_name) if template_name.endswith(".html") else output


@event_priority(-200)  # after the plugin that makes the index a script
def on_post_build(config: MkDocsConfig) -> None:
    """Check that the site is whole. Raises PluginError."""
    if faults := list(missing(Path(config.site_dir))):
        raise PluginError("; ".join(faults))


def _offline(html: str, url: str) -> str:
    html = html.replace(SHIM, get_relative_url(OURS, url))
    if loads := LOADS.search(html):
        raise PluginError(f"{url} loads {loads[0]}: readers may be offline")
    return html


def _targets(path: PurePosixPath, text: str) -> list[PurePosixPath]:
    return [_target(path, match[1]) for match in LINK.finditer(CODE.sub("", text))]


def _target(path: PurePosixPath, link: str) -> PurePosixPath:
    return PurePosixPath(os.path.normpath(path.parent / link))


def _uri(target: PurePosixPath) -> str:
    """Return where the site has a path of the repository."""
    if target in OUTSIDE:
        return OUTSIDE[target]
    if target.is_relative_to(DOCS) and target.suffix:
        return str(target.relative_to(DOCS))
    return f"{SOURCES}/{target}.md"


def _in_site(path: PurePosixPath, text: str) -> str:
    """Return the text of a page with its links as the site has their targets."""
    here = PurePosixPath(_uri(path)).parent

    def moved(match: re.Match[str]) -> str:
        target = _target(path, match[1])
        shown = _uri(target).startswith(f"{SOURCES}/")
        anchor = "" if shown else match[2] or ""  # a line of a file: the page shows it whole
        return os.path.relpath(_uri(target), here) + anchor

    parts, end = [], 0
    for code in CODE.finditer(text):
        parts += [LINK.sub(moved, text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, LINK.sub(moved, text[end:])])


def _shown(target: PurePosixPath) -> str:
    """Return a page that shows a file of the repository, or lists a folder. Raises PluginError."""
    path = ROOT / target
    heading = f"---\nsearch: {{exclude: true}}\n---\n\n# `{target}`\n\n"
    if path.is_dir():
        names = sorted(
            f"{child.name}{'/' * child.is_dir()}" for child in path.iterdir() if child.name[0] not in "._"
        )
        return heading + "".join(f"- `{name}`\n" for name in names)
    if not path.is_file():
        raise PluginError(f"a page links to {target}, which is not there")
    text = path.read_text()[:LARGEST]
    return f"{heading}~~~~~ {LANGUAGES.get(path.suffix, 'text')}\n{text}\n~~~~~\n"
