"""One test file run by pytest within this process, test by test.

Enters: a file, and which of its tests in which order.  Leaves: what a `Watch` is told.  Start reading at `run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import pytest

#: neither a cache between runs nor workers, nor a look through all of memory in the end
PLAIN = ("-q", "--tb=short", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:unraisableexception",
         "-p", "no:threadexception")  # fmt: skip


class Watch(Protocol):
    """Who follows a run: told before and after each test, and which phases failed or were skipped."""

    def before(self, test: str) -> None: ...

    def after(self, test: str, outcome: str) -> None: ...


class _Plugin:
    def __init__(self, watch: Watch, wanted: Sequence[str] | None):
        self.watch, self.wanted = watch, wanted
        self.outcome = "passed"

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if self.wanted is not None:
            known = {item.nodeid: item for item in items}
            items[:] = [known[name] for name in self.wanted if name in known]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self.outcome = "passed"
        self.watch.before(item.nodeid)
        result = yield
        self.watch.after(item.nodeid, self.outcome)
        return result  # type: ignore[return-value]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed" and self.outcome != "failed":
            self.outcome = report.outcome

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.watch.after(report.nodeid, "failed")


def run(path: str, watch: Watch, wanted: Sequence[str] | None = None, *options: str) -> int:
    """The exit status of pytest on ``path``, of which only ``wanted`` are run, in that order, unless it is None."""
    plugin: Any = _Plugin(watch, wanted)
    return int(pytest.main([path, *PLAIN, *options], plugins=[plugin]))
