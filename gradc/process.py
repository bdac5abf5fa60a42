"""What a process has once, whatever its threads, signals and forks do: the thread that calls LLVM, and fresh locks.

Enters: work for LLVM.  Leaves: what it made, on the thread that asked.
Invariant: LLVM is called on one thread only, which gets no signals of Python's: nothing interrupts a call half-way, and
the objects of LLVM live and die on that thread, in order.  Whoever waits for it may be interrupted at any moment; then
the work is done all the same, and its result let go.  A process is forked between two pieces of work, and its child
starts with a thread of its own and with locks that nobody holds.  Start reading at `in_llvm`.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import os
import sys
import threading
import traceback
import weakref
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from types import ModuleType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

T = TypeVar("T")

#: LLVM's recursion wants room, whatever stack the program gives its own threads.
STACK_BYTES = 64 * 2**20


def in_llvm(work: Callable[[], T]) -> T:
    """What ``work`` returns or raises, called on the thread of LLVM; that thread itself calls it directly."""
    return _server.do(work)


def later_in_llvm(work: Callable[[], object]) -> None:
    """Have ``work`` called on the thread of LLVM some time; any code may ask, a finalizer's too."""
    _server.queue.put(_Job(work))


def once(make: Callable[[], T]) -> Callable[[], T]:
    """``make`` as a function that makes one thing for the life of the process, however many threads ask first."""
    known: list[T] = []

    def build() -> None:
        if not known:
            known.append(make())

    @functools.wraps(make)
    def get() -> T:
        if not known:
            in_llvm(build)
        return known[0]

    return get


if TYPE_CHECKING:
    from functools import cached_property as cached_property
else:

    class cached_property(functools.cached_property):  # noqa: N801 - as Python's
        """Python's, as it is from 3.12 on: without the lock that all instances of 3.11 share, which a fork may find
        taken."""

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.attrname] = self.func(instance)
            return value


def load_module(name: str) -> None:
    """Import a module if need be, on the thread of LLVM: so no signal and no fork finds it half imported."""
    module = sys.modules.get(name)
    if module is None or getattr(module.__spec__, "_initializing", False):
        in_llvm(lambda: importlib.import_module(name))


class _Job(Generic[T]):
    """A piece of work, and what became of it once ``done`` is free."""

    __slots__ = ("done", "error", "result", "work")

    result: T

    def __init__(self, work: Callable[[], T]):
        self.work = work
        self.error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self.result = self.work()
        except BaseException as error:
            self.error = _without_frames(error)
        finally:
            del self.work
            self.done.release()

    def wait(self) -> T:
        self.done.acquire()
        error = self.error
        if error is None:
            return self.result
        try:
            raise error
        finally:
            del self.error, error  # else the error's frames hold the error


def _without_frames(error: BaseException) -> BaseException:
    """The error without its frames, which hold objects of LLVM: whoever keeps an error must not keep those.

    What the frames of an unexpected one would tell, a note tells.
    """
    if not type(error).__module__.startswith("gradc."):
        error.add_note("".join(traceback.format_exception(error)))
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return error


class _Server:
    """A thread that does jobs, one after another; of several that were started at once, or by whoever was interrupted
    meanwhile, the first one serves.
    """

    def __init__(self) -> None:
        self.queue: SimpleQueue[_Job[Any]] = SimpleQueue()  # of which a finalizer may interrupt a put with another
        self.busy = threading.RLock()
        self.serving = threading.Lock()
        self.thread = 0
        self.started = self.closed = False

    def do(self, work: Callable[[], T]) -> T:
        if threading.get_ident() == self.thread:
            return work()
        if not (self.started or self.closed):
            self._start()
        if self.closed:
            return self._at_the_end(work)
        job = _Job(work)
        self.queue.put(job)
        return job.wait()

    def _start(self) -> None:
        thread = threading.Thread(target=self._serve, name="gradc LLVM", daemon=True)
        try:
            start_with_stack(thread.start)
        except RuntimeError:  # at its end the interpreter starts no threads
            self.closed = True
        self.started = True

    def _serve(self) -> None:
        if self.serving.acquire(blocking=False):
            self.thread = threading.get_ident()
            while not self.closed:
                self._next()

    def _next(self) -> None:
        job = self.queue.get()
        with self.busy:
            if not self.closed:
                job.run()

    def _at_the_end(self, work: Callable[[], T]) -> T:
        """The thread that ends the interpreter does its own work.  Any other one still there is a daemon, which Python
        ends wherever it is: not inside of LLVM, so it waits for that.
        """
        if threading.current_thread() is not threading.main_thread():
            threading.Event().wait()
        with self.busy:
            return work()

    def close(self) -> None:
        """Let the running job end; no other begins but those of the thread that ends the interpreter."""
        self.closed = True
        with self.busy:
            pass


def start_with_stack(start: Callable[[], T]) -> T:
    """``start()``, which starts a thread, so that it has `STACK_BYTES` of stack where the system lets us say so."""
    before = threading.stack_size()
    with suppress(ValueError, RuntimeError):
        threading.stack_size(STACK_BYTES)
    try:
        return start()
    finally:
        threading.stack_size(before)


# -- forks -------------------------------------------------------------------------------------------------------------
_renewed: weakref.WeakKeyDictionary[Any, dict[str, Callable[[], Any]]] = weakref.WeakKeyDictionary()
_in_child: list[Callable[[], None]] = []


def renewed(owner: object | ModuleType, name: str, make: Callable[[], T]) -> T:
    """``make()``, for the attribute ``name`` of ``owner``; a forked child has it made and set again."""
    _renewed.setdefault(owner, {})[name] = make
    return make()


def in_child(renew: Callable[[], None]) -> None:
    """Have ``renew`` called in every forked child, after what `renewed` keeps was renewed."""
    _in_child.append(renew)


def _before_fork() -> None:
    """Let the running job of LLVM end and no other begin: its locks and lists must be whole in the child."""
    while True:
        with suppress(BaseException):  # a signal's: a fork that does not wait makes a child that hangs
            _server.busy.acquire()
            return


def _after_fork() -> None:
    _server.busy.release()


def _after_fork_in_child() -> None:
    global _server  # noqa: PLW0603 - its thread is the parent's
    _server = _Server()
    for owner, attributes in list(_renewed.items()):
        for name, make in attributes.items():
            setattr(owner, name, make())
    for renew in _in_child:
        renew()


def _at_exit() -> None:
    _server.close()


_server = _Server()
atexit.register(_at_exit)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
