"""What a transform returns: a function made of another one.

Enters: a function and how it is changed.  Leaves: a callable with the function's name, text and signature, which works
as a method and can be pickled where the function can.  Start reading at `Transform`.
"""

from __future__ import annotations

import functools
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from types import MethodType
from typing import Any

from gradc.trace import function_name

_OF_THE_FUNCTION = ("__module__", "__name__", "__qualname__", "__doc__")


class Transform(ABC):
    """A function made of ``function``; ``settings`` are what its class is called with besides, to make it again."""

    __name__: str

    def __init__(self, function: Callable[..., Any], *settings: Any):
        functools.update_wrapper(self, function, assigned=_OF_THE_FUNCTION, updated=())
        if "__name__" not in self.__dict__:
            self.__name__ = function_name(function)
        self.function = function
        self.settings = settings

    @property
    def title(self) -> str:
        """What messages call the function."""
        return function_name(self.function)

    @abstractmethod
    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The changed function."""

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return name_to_travel_by(self) or (type(self), (self.function, *self.settings))

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lower()} of {self.title}>"


def name_to_travel_by(made: Any) -> str | None:
    """The name under which a module holds ``made``, as one that was defined by a decorator; such an object is pickled
    as functions are.

    cloudpickle sends what belongs to ``__main__`` by value, functions and all: then it is None.
    """
    name: str = made.__dict__.get("__qualname__", "")
    module: str = made.__dict__.get("__module__") or ""
    if getattr(sys.modules.get(module), name, None) is not made or (module == "__main__" and _in_cloudpickle()):
        return None
    return name


def _in_cloudpickle() -> bool:
    """Whether the pickler that asks is cloudpickle's, whose frame is the first outside this package."""
    frame = sys._getframe(2)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("gradc."):
        frame = frame.f_back
    return bool(frame.f_globals.get("__name__", "").startswith("cloudpickle"))
