"""What `make site` adds to the pages of docs/: the reference, from the docstrings, and the files that pages link to.

mkdocs calls `on_files` with the pages of docs/, and adds those it returns.  A page for each public namespace holds one
mkdocstrings directive a name; a linked file of the repository becomes a page of its own, so that no link leads out.
"""

from __future__ import annotations

import ast
import inspect
import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

from docs.namespaces import NAMESPACES, NUMPYS

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = {**NAMESPACES, **NUMPYS}
#: a link of Markdown to a file, and the place in it
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")
#: a fenced block, or a line of code in a sentence: what is shown as it stands
SHOWN = re.compile(r"^(`{3,}|~{3,}).*?^\1|`[^`\n]+`", re.M | re.S)
#: the folder of the site where files of the repository stand that are not in docs/
SOURCE = "source"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The reference stands in the menu, one page a namespace."""
    assert config.nav is not None
    config.nav.insert(-1, {"Reference": [f"reference/{name}.md" for name in REFERENCE]})
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of docs/, the reference, and each file that a page links to."""
    waiting = [place for f in files.documentation_pages() for place in _links(f"docs/{f.src_uri}", f.content_string)]
    while waiting:
        place = waiting.pop()
        page = _page_of(place)
        if files.get_file_from_path(page) is None and (ROOT / place).exists():
            content = _content(place)
            files.append(File.generated(config, page, content=content, inclusion=InclusionLevel.NOT_IN_NAV))
            waiting += _links(place, content)
    for name, module in REFERENCE.items():
        files.append(File.generated(config, f"reference/{name}.md", content=_reference(name, module)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """``markdown`` with each link to a file of the repository leading to that file's page."""
    here = page.file.src_uri
    if here.startswith("reference/"):
        return markdown
    home = here.removeprefix(f"{SOURCE}/").removesuffix(".md") if here.startswith(SOURCE) else f"docs/{here}"
    home = f"{home}.md" if (ROOT / f"{home}.md").is_file() else home

    def link(found: re.Match[str]) -> str:
        target = _page_of(_place(home, found[1]))
        return f"]({posixpath.relpath(target, posixpath.dirname(here) or '.')}{found[2] or ''})"

    return _outside_code(markdown, lambda text: LINK.sub(link, text))


def _reference(name: str, module: ModuleType) -> str:
    """One directive a public name, functions first, each where it is defined."""
    said = (module.__doc__ or "").strip().partition("\n\n")[0]
    parts = [f"# {name}\n", said, ""]
    for public in sorted(module.__all__, key=lambda n: (n[0].isupper(), n)):
        value: Any = getattr(module, public)
        if name.startswith("gradc.numpy"):  # names of NumPy's, which a reader of the source takes for NumPy's own
            parts += _said(public, value)
        elif "<locals>" in getattr(value, "__qualname__", ""):  # made from a record: its source says nothing
            parts += [f"## `{public}{inspect.signature(value)}`\n", inspect.getdoc(value) or "", ""]
        elif inspect.isclass(value) or inspect.isfunction(value):
            parts += [f"::: {value.__module__}.{value.__qualname__}\n"]
    return "\n".join(parts)


def _said(name: str, value: Any) -> list[str]:
    """A name of NumPy's, with signature and words of gradc's function; of constants and types the name alone."""
    if not inspect.isfunction(value):
        return [f"## `{name}`\n", f"NumPy's `{name}`.", ""] if not inspect.ismodule(value) else []
    given = inspect.signature(value)
    bare = [p.replace(annotation=p.empty) for p in given.parameters.values()]
    shown = given.replace(parameters=bare, return_annotation=given.empty)
    return [f"## `{name}{shown}`\n", inspect.getdoc(value) or "", ""]


def _links(home: str, text: str) -> list[str]:
    """The places in the repository that the page at ``home`` links to."""
    found: list[str] = []

    def note(part: str) -> str:
        found.extend(_place(home, m[1]) for m in LINK.finditer(part))
        return part

    _outside_code(text, note)
    return found


def _outside_code(text: str, change: Callable[[str], str]) -> str:
    """``text`` with what is not code changed."""
    parts, end = [], 0
    for code in SHOWN.finditer(text):
        parts += [change(text[end : code.start()]), code[0]]
        end = code.end()
    return "".join([*parts, change(text[end:])])


def _place(home: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(home), link))


def _page_of(place: str) -> str:
    """Where the site has a file or folder of the repository."""
    if place.startswith("docs/"):
        return place.removeprefix("docs/")
    return f"{SOURCE}/{place.removesuffix('.md')}.md"


def _content(place: str) -> str:
    path = ROOT / place
    if path.is_dir():
        rows = [f"- [`{p.name}`]({path.name}/{p.name}): {_head(p)}" for p in sorted(path.glob("*.py"))]
        return "\n".join([f"# {place}\n", *rows])
    text = path.read_text(encoding="utf-8")
    return text if path.suffix == ".md" else f"# {place}\n\n```{path.suffix.removeprefix('.')}\n{text}```\n"


def _head(path: Path) -> str:
    """The first line of a module's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").partition("\n")[0]
