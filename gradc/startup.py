"""What happens before all else: under ``python -m gradc`` the current folder does not stand in for libraries.

Python puts that folder first on the path, so that a user's ``struct.py`` or ``copy.py`` beside his model would be what
NumPy imports.  ``gradc`` without ``python -m`` has no such folder.
"""

from __future__ import annotations

import os
import sys


def leave_current_folder() -> None:
    """Take the folder off the path if ``-m gradc`` put it there."""
    words = sys.orig_argv
    runs = "-m" in words and words[words.index("-m") + 1 :][:1] == ["gradc"]
    if runs and sys.argv[:1] == ["-m"] and not sys.flags.safe_path and sys.path[:1] in ([""], [os.getcwd()]):
        del sys.path[0]


leave_current_folder()
