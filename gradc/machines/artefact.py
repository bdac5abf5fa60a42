"""Files that leave Python, and the descriptions that lie beside them.

Enters: the contents of a file, and the text that describes it.  Leaves: both on disk, or neither; a description that
gradc did not write is not replaced unasked.  Start reading at `write_with`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from gradc.errors import ArtefactWarning, CompileError
from gradc.places import warn_user
from gradc.runtime.files import must_name_a_file, write_whole

#: Stands in every file that describes another one.
MADE_BY = "compiled by gradc"


def write_with(files: Mapping[Path, str | bytes], place: Path, description: str, overwrite: bool) -> list[Path]:
    """Write ``files`` and, at ``place``, the text that describes them: all of them, or none.

    A file at ``place`` that gradc did not write is not replaced unless ``overwrite``.  If nobody named it (its name
    follows from that of a file), the description goes into a file of a similar name, which a warning gives; else, and
    if that stands there too, it raises CompileError.
    """
    for path in (*files, place):
        must_name_a_file(path)
    if not overwrite and _is_foreign(place):
        beside = place.with_suffix(f".gradc{place.suffix}")
        if not files or _is_foreign(beside):
            raise CompileError(
                f"{place} exists, and gradc did not write it: choose another name, or say overwrite=True (--overwrite)"
            )
        warn_user(f"{place} stays as it is, for gradc did not write it; the new one is {beside.name}", ArtefactWarning)
        place = beside
    return write_whole({**files, place: description})


def _is_foreign(path: Path) -> bool:
    return path.exists() and MADE_BY not in path.read_text(errors="replace")


def in_comment(text: str) -> str:
    """``text``, which is one line, so that a comment of C that holds it ends where it should."""
    return text.replace("*/", "* /").replace("/*", "/ *")
