"""gradc: trace NumPy code, differentiate it, read the gradient, prove it, compile it."""

from __future__ import annotations
