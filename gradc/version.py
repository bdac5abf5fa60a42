"""The version, written once: the package metadata, `gradc.__version__` and the compile cache's keys read it here."""

from __future__ import annotations

__version__ = "0.1.0"
