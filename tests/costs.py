"""What tests cost: processor seconds of their process and of the children that have ended, in a table by file.

`pytest --costs` prints the table, and `pytest --costs=FILE` also writes every test's seconds to FILE, most first.
Seconds on the wall say nothing on a machine that does something else as well; these hardly change.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest


def processor_seconds() -> float:
    """Seconds of this process and of its children that have ended, in user and kernel mode."""
    return sum(os.times()[:4])


class Costs:
    """A plugin of the process that prints and of each worker: the one sums up what the others have measured."""

    def __init__(self, listed: str) -> None:
        if listed and (Path(listed).is_dir() or listed.partition("::")[0].endswith(".py")):
            raise pytest.UsageError(f"--costs={listed}: that is what to test, not where to write")
        self.listed = listed
        self.last = 0.0
        self.tests: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def pytest_collection_finish(self) -> None:
        self.last = processor_seconds()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Any:
        report = yield
        now = processor_seconds()
        report.cost, self.last = now - self.last, now  # travels from a worker with the report
        return report

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.tests[report.nodeid] += report.cost
        self.calls[_file(report.nodeid)] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        files: Counter[str] = Counter()
        for name, seconds in self.tests.items():
            files[_file(name)] += seconds
        whole = processor_seconds()
        rows = [(name, str(self.calls[name]), seconds) for name, seconds in files.most_common()]
        rows.append(("imports and collecting, in every process", "", whole - files.total()))
        rows.append(("all", str(self.calls.total()), whole))
        terminalreporter.section("processor seconds")
        for name, tests, seconds in rows:
            terminalreporter.write_line(f"{name:50} {tests:>6} {seconds:8.1f} s")
        if self.listed:
            lines = [f"{seconds:9.3f}  {name}\n" for name, seconds in self.tests.most_common()]
            Path(self.listed).write_text("".join(lines), encoding="utf-8")


def _file(name: str) -> str:
    """The file of a test."""
    return name.partition("::")[0]
