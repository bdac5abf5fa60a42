"""Loading and calling compiled code: pointers, arrays, caches, threads. It has never heard of a graph."""

from __future__ import annotations
