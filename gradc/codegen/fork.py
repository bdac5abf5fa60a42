"""Work cut into pieces that several threads do at once: a task, and the fork that hands it out.

Enters: a kernel's function under construction, its slots, a `Split`.  Leaves: an internal function

    void task(ptr %frame, i64 %piece, i64 %who)

for one piece, done by thread number ``who``, and the call of ``gradc_fork(task, frame, pieces, helpers, status)``,
which returns when all pieces are done; ``status``, where the code looks whether to end and else null, lets the caller
look while it waits for the others.  Whoever loads the module says what `FORK` is; a module that shares nothing does not
name it.
Invariant: which thread does a piece decides nothing but where its scratch lies.  The first failure in the order of the
pieces is the one that is reported.  Start reading at `Crew.fork`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gradc.codegen.ir import Function, Lanes, Module, Value, const
from gradc.codegen.memory import offset_pointer
from gradc.schedule.kernel import Split

#: The symbol of the fork-join that compiled functions call.
FORK = "gradc_fork"
WORD = 8
#: Stands for the pointer of a slot that a function is not given, since no piece in it touches the slot.
UNTOUCHED = ""


@dataclass(frozen=True)
class Piece:
    """One piece inside its task: the pointers of the kernel, and which steps of the split's axis it takes."""

    slots: list[str]
    scratch: str
    status: str
    begin: Value
    end: Value


def calls_fork(ir_text: str) -> bool:
    """Whether a module shares any work."""
    return f"@{FORK}(" in ir_text


Body = Callable[[Function, Piece], None]


class Crew:
    """The threads that share a piece of work: what their tasks are called, and whether they can fail.

    Each has ``scratch_bytes`` of the kernel's scratch.
    """

    def __init__(self, name: str, fails: bool, scratch_bytes: int = 0):
        self.fails, self.scratch_bytes = fails, scratch_bytes
        self._names = (f"{name}.task{k}" for k in itertools.count())

    def fork(self, f: Function, split: Split, pointers: Sequence[str], body: Body) -> None:
        """Emit a task, whose work is ``body``, and its fork in ``f``, a function with %scratch and %status.

        ``pointers`` are the slots of the kernel, and behind them what else the task must see.
        """
        name = next(self._names)
        statuses = _status_words(f, split.pieces) if self.fails else "%status"
        given = [k for k, pointer in enumerate(pointers) if pointer != UNTOUCHED]
        passed = [*(pointers[k] for k in given), "%scratch", statuses]
        frame = f.alloca("ptr", len(passed))
        for k, pointer in enumerate(passed):
            f.line(f"store ptr {pointer}, ptr {offset_pointer(f, frame, WORD * k, 'int8')}, align 8")
        self._emit_task(f.module, name, split, given, len(pointers), body)
        f.module.declare(FORK, "void", "ptr", "ptr", "i64", "i64", "ptr")
        status = "%status" if f.module.polls else "null"
        arguments = f"ptr @{name}, ptr {frame}, i64 {split.pieces}, i64 {split.threads - 1}, ptr {status}"
        f.line(f"call void @{FORK}({arguments})")
        if self.fails:
            _report_first(f, statuses, split.pieces)

    def _emit_task(
        self, module: Module, name: str, split: Split, given: Sequence[int], pointers: int, body: Body
    ) -> None:
        """The task; its frame holds the ``given`` ones of so many ``pointers``, scratch and the status words."""
        f = Function(module, name, [("ptr", "frame"), ("i64", "piece"), ("i64", "who")], result="internal void")
        f.who = "%who"
        i = Lanes(f)
        piece, who = Value("%piece", "int64"), Value("%who", "int64")
        *loaded, scratch, status = (_load_pointer(f, "%frame", k) for k in range(len(given) + 2))
        slots = [UNTOUCHED] * pointers
        for slot, pointer in zip(given, loaded, strict=True):
            slots[slot] = pointer
        for slot, elements, dtype in split.private:
            slots[slot] = offset_pointer(f, slots[slot], i.mul(who, elements), dtype)
        if self.scratch_bytes:
            scratch = offset_pointer(f, scratch, i.mul(who, self.scratch_bytes), "int8")
        if self.fails:
            status = offset_pointer(f, status, i.mul(piece, _STATUS_WORDS), "int64")
        begin = i.mul(piece, split.steps)
        end = i.min(i.add(begin, split.steps), const(split.extent, "int64"))
        body(f, Piece(slots, scratch, status, begin, end))
        f.finish()


def _load_pointer(f: Function, frame: str, position: int) -> str:
    return f.let(f"load ptr, ptr {offset_pointer(f, frame, WORD * position, 'int8')}, align 8")


#: Words of a piece: its status, and what the word behind the caller's status says.
_STATUS_WORDS = 2


def _status_words(f: Function, pieces: int) -> str:
    """A status word for each piece, all zero."""
    words, i = f.alloca("i64", pieces * _STATUS_WORDS), Lanes(f)
    head = f.let(f"load i64, ptr {offset_pointer(f, '%status', 1, 'int64')}, align 8") if f.module.polls else "0"
    with f.loop(0, pieces) as loop:
        place = offset_pointer(f, words, i.mul(loop.index, _STATUS_WORDS), "int64")
        f.line(f"store i64 0, ptr {place}, align 8")
        f.line(f"store i64 {head}, ptr {offset_pointer(f, place, 1, 'int64')}, align 8")
    return words


def _report_first(f: Function, statuses: str, pieces: int) -> None:
    """The status word becomes that of the first piece that failed, unless something failed before."""
    i = Lanes(f)
    with f.loop(0, pieces, carry=[Value(f.let("load i64, ptr %status, align 8"), "int64")]) as loop:
        place = offset_pointer(f, statuses, i.mul(loop.index, _STATUS_WORDS), "int64")
        found = Value(f.let(f"load i64, ptr {place}, align 8"), "int64")
        loop.next = [i.select(i.eq(loop.carry[0], 0), found, loop.carry[0])]
    f.line(f"store i64 {loop.result[0].ref}, ptr %status, align 8")
