"""What the tests of careless use share: an array nobody may write to, and the check of a message: `refused`."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest

from gradc.trace import open_traces

X = np.arange(3.0)
X.setflags(write=False)
M = np.arange(6.0).reshape(2, 3)
#: Characters on a screen, generously.
SCREEN = 1500


@contextlib.contextmanager
def refused(error: type[BaseException], words: str, line: bool = True) -> Iterator[None]:
    """The body raises ``error`` with ``words`` in a message of one screen that names a line of these tests."""
    with pytest.raises(error, match=words) as caught:
        yield
    message = str(caught.value)
    assert len(message) < SCREEN
    assert not line or "test_careless_" in message, message
    assert open_traces.get() == ()


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    """After every test no trace is open and the profiler is as it was."""
    profiler = sys.getprofile()
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    assert open_traces.get() == ()
    assert sys.getprofile() is profiler
