"""How much compiled code does between two looks whether to end, counted: the same number on every machine and load.

Enters: a schedule's module that looks.  Leaves: `Counted`, which runs it on one thread and counts instructions of its
text, a whole vector's as one.  Each block of the text adds its length to a word of memory; ``gradc_poll`` is replaced
by one that reads that word, and says after so many looks that the work shall end; ``gradc_fork`` by one that does all
pieces in turn, each as another thread.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.codegen import arena_bytes, emit
from gradc.codegen.fork import FORK
from gradc.codegen.poll import POLL
from gradc.codegen.status import INTERRUPTED
from gradc.runtime.load import load
from gradc.schedule import schedule
from tests.compiled_graph import HOST, expanded

#: What the module and its observer share: instructions done; done when it last looked; the most between two looks; how
#: often it looked; after how many looks it is told to end; instructions done when it was told so first; looks since.
WORDS = ("done", "before", "most", "looks", "limit", "told", "after")

_OBSERVER = """
define i64 @$POLL(ptr %status, i64 %who) nounwind {
entry:
  %done = load i64, ptr $done
  %before = load i64, ptr $before
  %gap = sub i64 %done, %before
  %most = load i64, ptr $most
  %more = icmp sgt i64 %gap, %most
  %new = select i1 %more, i64 %gap, i64 %most
  store i64 %new, ptr $most
  store i64 %done, ptr $before
  %looks = load i64, ptr $looks
  %next = add i64 %looks, 1
  store i64 %next, ptr $looks
  %limit = load i64, ptr $limit
  %ends = icmp sge i64 %looks, %limit
  br i1 %ends, label %stop, label %on
on:
  ret i64 0
stop:
  %told = load i64, ptr $told
  %first = icmp eq i64 %told, 0
  %when = select i1 %first, i64 %done, i64 %told
  store i64 %when, ptr $told
  %after = load i64, ptr $after
  %afterwards = add i64 %after, 1
  store i64 %afterwards, ptr $after
  store i64 $INTERRUPTED, ptr %status
  ret i64 1
}

define void @$FORK(ptr %task, ptr %frame, i64 %pieces, i64 %helpers, ptr %status) nounwind {
entry:
  %threads = add i64 %helpers, 1
  br label %head
head:
  %piece = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %piece, %pieces
  br i1 %more, label %body, label %end
body:
  %who = urem i64 %piece, %threads
  call void %task(ptr %frame, i64 %piece, i64 %who)
  %next = add i64 %piece, 1
  br label %head
end:
  ret void
}
"""


def counting(text: str) -> str:
    """The text of a module in which each block begins by adding the number of its instructions to a word."""
    out: list[str] = []
    block: list[str] = []
    inside = False
    for line in text.splitlines():
        opens, closes, label = line.startswith("define "), line == "}", re.match(r"[\w.$]+:", line)
        if block and (closes or label):
            out += _counted(block, len(out))
            block = []
        if opens or closes:
            inside = opens
            out.append(line)
        elif inside:
            block.append(line)
        else:
            out.append(line)
    words = (f"@counted.{word} = external global i64" for word in WORDS)
    declared = (line for line in out if not re.match(rf"declare .*@({POLL}|{FORK})\(", line))
    observer = _OBSERVER.replace("$POLL", POLL).replace("$FORK", FORK).replace("$INTERRUPTED", str(INTERRUPTED))
    return "\n".join((*words, *declared, re.sub(r"\$(\w+)", r"@counted.\1", observer)))


def _counted(block: Sequence[str], number: int) -> list[str]:
    """A block, label first, with its count behind what must stand first."""
    assert not any(re.search(r"@llvm\.mem(set|cpy|move)", line) for line in block), "of unknown length: count its bytes"
    lead = next((k for k, line in enumerate(block) if k and " = phi " not in line), len(block))
    name = f"%counted.{number}"
    count = (
        f"  {name}.a = load i64, ptr @counted.done",
        f"  {name}.b = add i64 {name}.a, {len(block) - 1}",
        f"  store i64 {name}.b, ptr @counted.done",
    )
    return [*block[:lead], *count, *block[lead:]]


@dataclass(frozen=True)
class Run:
    """What a run did: instructions in all, the most without a look, how often it looked; after it was told to end,
    instructions and looks; and its status.
    """

    done: int
    most: int
    looks: int
    late: int
    looks_after: int
    status: int


class Counted:
    """A graph's code, shared by so many threads."""

    def __init__(self, graph: Any, threads: int):
        self.graph = expanded(graph)
        self.schedule = schedule(self.graph, target=HOST, threads=threads)
        self.words = (ctypes.c_int64 * len(WORDS))()
        at = ctypes.addressof(self.words)
        symbols = {f"counted.{word}": at + 8 * k for k, word in enumerate(WORDS)}
        self.text = str(emit(self.schedule, HOST, "main", polls=True))
        self._code = load(counting(self.text), "main", opt_level=1, use_cache=False, symbols=symbols)
        self._run = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)(self._code.address)

    def __call__(self, *arrays: Any, limit: int = 2**62) -> tuple[Run, list[np.ndarray[Any, Any]]]:
        """A run that is told to end when it has looked so often, and its results."""
        inputs = [*arrays, *self.schedule.arrays]
        results = [np.empty(n.shape, n.dtype) for n in self.graph.outputs]
        arena = np.empty(arena_bytes(self.schedule, HOST) + 64, np.uint8)
        status, head = (ctypes.c_int64 * 2)(), (ctypes.c_int64 * 16)()
        status[1] = ctypes.addressof(head)
        for k, word in enumerate(WORDS):
            self.words[k] = limit if word == "limit" else 0
        begin = arena.ctypes.data + -arena.ctypes.data % 64
        self._run(_pointers(inputs), _pointers(results), begin, ctypes.addressof(status))
        w = dict(zip(WORDS, self.words, strict=True))
        most = max(w["most"], w["done"] - w["before"])
        late = w["done"] - w["told"] if w["told"] else 0
        return Run(w["done"], most, w["looks"], late, w["after"], status[0]), results


def _pointers(arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
