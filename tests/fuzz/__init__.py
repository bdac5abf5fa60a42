"""The program fuzzer: random programs over the whole public surface, held against several derivations, shrunk, printed.

Enters: a seed and a number.  Leaves: programs that compute or differentiate wrongly, each as a small Python file.
Start reading at `language` (what a program is), then `surface` (which public names take part and how), `generate`,
`check` (the oracles), `shrink`, `campaign`.  `python -m tests.fuzz --help`, or `make fuzz N=100000`.
"""

from __future__ import annotations
