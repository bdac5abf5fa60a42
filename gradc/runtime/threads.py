"""How many threads a compiled function may use when nobody says: light, for it is asked when a function is declared.

Enters: the environment and the operating system.  Leaves: a number of threads, at least one.
"""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

#: More than any machine has; the fork-join counts its workers in fewer bits than that times sixteen.
MOST_THREADS = 1024


def default_threads() -> int:
    """OMP_NUM_THREADS (the first number of a list), or else the CPUs that this process may use."""
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if given.isdecimal() and int(given) > 0:
        return min(int(given), MOST_THREADS)
    return min(available_cpus(), MOST_THREADS)


def available_cpus() -> int:
    """CPUs that this process may use: its affinity where the system has one, else all of the machine; no more than the
    quota of its container gives time for.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(allowed, quota_cpus()), 1)


@cache
def quota_cpus(root: Path = Path("/")) -> int:
    """How many CPUs the quotas of Linux's control groups give time for, a started one counted; without one, all.

    Each group above the process's own may have a quota; the smallest holds.  Groups of version 2 have ``cpu.max``,
    of version 1 ``cpu.cfs_quota_us`` and ``cpu.cfs_period_us``.  ``root`` stands in for the root of the file system.
    """
    quotas = [MOST_THREADS, *(math.ceil(q) for group in _groups(root) for q in [_quota(group)] if q is not None)]
    return max(min(quotas), 1)


def _groups(root: Path) -> list[Path]:
    """The directories of the process's groups and of those above, as far as they are to be seen from here."""
    found: list[Path] = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        controllers, _, name = line.partition(":")[2].partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        mount = root / "sys/fs/cgroup" / controllers
        if controllers and not mount.is_dir():
            mount = root / "sys/fs/cgroup/cpu"
        here = mount / name.strip("/")
        found += [here, *(p for p in here.parents if p.is_relative_to(mount))]
    return found


def _quota(group: Path) -> float | None:
    """CPUs' worth of time of one group."""
    quota, period = [*_read(group / "cpu.max").split(), "max", "0"][:2]
    if quota == "max":
        quota, period = _read(group / "cpu.cfs_quota_us").strip(), _read(group / "cpu.cfs_period_us").strip()
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:  # without a quota there is "max", -1 or no file
        return int(quota) / int(period)
    return None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""


def is_thread_count(threads: object) -> bool:
    """Whether so many threads can share a call."""
    return type(threads) is int and 1 <= threads <= MOST_THREADS
