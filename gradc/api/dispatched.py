"""Objects whose calls reach native code without running any Python.

Enters: a class with `call_any`, what a call means.  Leaves: the same, with a shorter way for the calls that repeat.
Invariant: the short way is taken only where `call_any` would have run the same version on the same arrays.
"""

from __future__ import annotations

import functools
import sys
import threading
import weakref
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from gradc.process import renewed
from gradc.trace import NO_TRACE, open_traces

if TYPE_CHECKING:
    from gradc.runtime.dispatch import Dispatcher
    from gradc.runtime.entry import Words


#: One thread at a time gives a function its dispatcher, or chooses: what compiled code points to and what is kept alive
#: must be the same.  Reentrant, for letting go of a version may run a finalizer that calls.
_CHOOSING = renewed(sys.modules[__name__], "_CHOOSING", threading.RLock)


class Dispatched(functools.partial[Any], ABC):
    """A callable object that can hand its calls to compiled code.

    To Python it is a partial function, of nothing but what does its calls; Python calls that without a detour through
    ``__call__``, which no subclass may define.
    """

    @abstractmethod
    def call_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Do any call."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        self = super().__new__(cls, calls := _OtherCalls())
        calls.owner = weakref.ref(self)
        return self

    def prefer(self, version: Words | None) -> None:
        """From here on try this version first, where a call fits it (see `gradc.runtime.dispatch`); None: no one."""
        with _CHOOSING:
            dispatcher: Dispatcher | None = self.__dict__.get("_dispatcher")
            if dispatcher is None and version is not None:
                from gradc.runtime.dispatch import Dispatcher  # loads LLVM: on the first compilation, not at import

                dispatcher = self._dispatcher = Dispatcher(self.func, open_traces, NO_TRACE)
                self.__setstate__((dispatcher.call, (), {}, self.__dict__))  # type: ignore[attr-defined]
            if dispatcher is not None:
                dispatcher.choose(version)


class _OtherCalls:
    """What becomes of every call that is not one for the preferred version.

    Whoever calls holds the owner, which is what is called; to hold it here too would make it part of a cycle, and keep
    its code and its memory until the collector of cycles comes by.
    """

    owner: weakref.ref[Dispatched]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner = self.owner()
        assert owner is not None
        return owner.call_any(args, kwargs)
