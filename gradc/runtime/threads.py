"""How many threads a compiled function may use when nobody says: light, for it is asked when a function is declared.

Enters: the environment and the operating system.  Leaves: a number of threads, at least one.
"""

from __future__ import annotations

import os

#: More than any machine has; the fork-join counts its workers in fewer bits than that times sixteen.
MOST_THREADS = 1024


def default_threads() -> int:
    """OMP_NUM_THREADS (the first number of a list), or else the CPUs that this process may run on."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        return min(int(given), MOST_THREADS)
    return min(available_cpus(), MOST_THREADS)


def available_cpus() -> int:
    """CPUs that this process may run on: its affinity where the system has one, else all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def check_threads(threads: object) -> None:
    """Raise ValueError for what is no number of threads."""
    if type(threads) is not int or not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads={threads!r}: expected a whole number from 1 to {MOST_THREADS}, or None")
