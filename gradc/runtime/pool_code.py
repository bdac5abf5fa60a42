"""The fork-join of compiled steps as one small LLVM module: `gradc_fork`, the loop of a worker, and how both sleep.

Enters: the name of a machine architecture.  Leaves: the module's text, and where its words lie for Python.
Invariant: nothing here allocates, needs the GIL, or waits for a worker that has not begun; a fork that finds the pool
taken, or no worker awake, does all of its pieces itself.  Start reading at ``gradc_fork`` in `module_text`.

A fork runs ``task(frame, piece, who)`` for every piece below ``pieces``; ``who`` is 0 for the caller and k for worker
k, so that each can have scratch of its own.  Pieces are claimed one after another from a counter.

The *gate* is one word that says all that a worker must know to join a fork, and counts those who did:

    bits 0–15   workers inside
    bit  16     open: more may come in
    bit  17     the caller sleeps until the last one has left
    bits 18–31  helpers: workers with a higher number stay outside
    bits 32–63  number of the fork, so that nobody joins one twice

The fields of the job are written before the gate opens and read only inside; the caller closes the gate when no piece
is left, and waits for those inside.  In a child of a fork none of them is, and the lock has become another one.  A
worker without work spins for a while, then *parks*: it says so in its record, looks at the gate once more, and sleeps
on a lock that whoever takes the word back releases.  The locks are Python's own (`PyThread_acquire_lock`: a semaphore
on every system, which needs no GIL), so nothing here is made for one system.  Who spins offers its core to others every
`TURNS_BETWEEN_YIELDS`: the thread it waits for may be one of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gradc.codegen.control_word import read, word_of, write
from gradc.codegen.ir import Function, Module

WORK, STOP, SPIN, POOL, YIELD = "gradc_work", "gradc_stop", "gradc_spin", "gradc_pool", "gradc_yield"

#: Words of the pool that Python reads and writes, by byte offset; each has a pair of cache lines to itself.
WORDS: Mapping[str, int] = MappingProxyType(
    {"gate": 0, "owner": 128, "next": 256, "workers": 384, "records": 392, "spins": 400, "lock": 408, "stop": 416,
     "alive": 424, "forks": 432, "poll": 440}
)  # fmt: skip
#: A worker's record: whether it is parked, its lock, its number.
RECORD: Mapping[str, int] = MappingProxyType({"parked": 0, "lock": 8, "number": 16})
RECORD_BYTES = 128
#: Turns of a spinning loop, some tens of nanoseconds each, between two calls of ``gradc_yield``; a power of two.
TURNS_BETWEEN_YIELDS = 64
#: How long a caller sleeps for its helpers between two looks whether to end.
NAP_MICROSECONDS = 5000
#: The gate counts helpers in 14 bits.
MOST_WORKERS = 2**14 - 1

#: What a spinning core should hear, by architecture.
_PAUSE = {
    "x86_64": 'call void asm sideeffect "pause", "~{memory}"()',
    "aarch64": 'call void asm sideeffect "isb", "~{memory}"()',
}


def module_text(triple: str, yields: bool) -> str:
    """The module for ``triple``; architectures without a known pause or control word do without.

    It calls ``int gradc_yield(void)``, which is the loader's to give if it ``yields``, and does nothing else.
    """
    arch = triple.split("-", 1)[0]
    text = _TEXT.replace("$PAUSE", _PAUSE.get(arch, ""))
    text = (
        text.replace("$NAP", str(NAP_MICROSECONDS))
        .replace("$TURNS", str(TURNS_BETWEEN_YIELDS - 1))
        .replace("$YIELD", _YIELDS if yields else _STAYS)
    )
    for name, offset in WORDS.items():
        text = text.replace(f"@{name}@", f"getelementptr (i8, ptr @{POOL}, i64 {offset})")
    return text.replace("$POOL", POOL) + _control(arch)


def _control(arch: str) -> str:
    """Functions that note the control word of the step that forks, and set it: workers compute with that."""
    module, word = Module(), word_of(arch)
    for name in ("save_control", "adopt_control"):
        f = Function(module, name, [], result="internal void")
        if word is not None and name == "save_control":
            f.line(f"store {word.type} {read(f, word)}, ptr @control, align 8")
        elif word is not None:
            write(f, word, f.let(f"load {word.type}, ptr @control, align 8"))
        f.finish()
    return str(module)


def alone_text() -> str:
    """A module with nothing but a ``gradc_fork`` that does all pieces on the thread that calls it."""
    return _ALONE


_ALONE = """
define void @gradc_fork(ptr %task, ptr %frame, i64 %pieces, i64 %helpers, ptr %status) nounwind {
entry:
  br label %head
head:
  %piece = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %piece, %pieces
  br i1 %more, label %body, label %done
body:
  call void %task(ptr %frame, i64 %piece, i64 0)
  %next = add i64 %piece, 1
  br label %head
done:
  ret void
}
"""

_YIELDS = "declare i32 @gradc_yield()"
_STAYS = "define internal i32 @gradc_yield() nounwind {\nentry:\n  ret i32 0\n}"

_TEXT = """
@$POOL = global [512 x i8] zeroinitializer, align 128
@task = internal global ptr null, align 128
@frame = internal global ptr null, align 8
@pieces = internal global i64 0, align 8
@control = internal global i64 0, align 8

declare i32 @PyThread_acquire_lock(ptr, i32)
declare i32 @PyThread_acquire_lock_timed(ptr, i64, i32)
declare void @PyThread_release_lock(ptr)
$YIELD

; One turn of a loop that waits.
define internal void @wait(i64 %turn) nounwind {
entry:
  $PAUSE
  %low = and i64 %turn, $TURNS
  %offer = icmp eq i64 %low, $TURNS
  br i1 %offer, label %others, label %done
others:
  call i32 @gradc_yield()
  br label %done
done:
  ret void
}

define void @gradc_spin(i64 %turns) nounwind {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %more, %head ]
  $PAUSE
  %gate = load atomic i64, ptr @gate@ acquire, align 8
  %more = add i64 %i, 1
  %again = icmp slt i64 %more, %turns
  br i1 %again, label %head, label %done
done:
  ret void
}

; Do pieces until none is left.
define internal void @do_pieces(i64 %who) nounwind {
entry:
  %task = load ptr, ptr @task, align 8
  %frame = load ptr, ptr @frame, align 8
  %pieces = load i64, ptr @pieces, align 8
  br label %head
head:
  %piece = atomicrmw add ptr @next@, i64 1 monotonic, align 8
  %more = icmp slt i64 %piece, %pieces
  br i1 %more, label %body, label %done
body:
  call void %task(ptr %frame, i64 %piece, i64 %who)
  br label %head
done:
  ret void
}

; Wake the worker of a record, if it sleeps.
define internal void @wake(ptr %record) nounwind {
entry:
  %parked = load atomic i64, ptr %record seq_cst, align 8
  %asleep = icmp ne i64 %parked, 0
  br i1 %asleep, label %take, label %done
take:
  %pair = cmpxchg ptr %record, i64 1, i64 0 seq_cst seq_cst, align 8
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %release, label %done
release:
  %lock_at = getelementptr i8, ptr %record, i64 8
  %lock = load ptr, ptr %lock_at, align 8
  call void @PyThread_release_lock(ptr %lock)
  br label %done
done:
  ret void
}

define internal void @wake_first(i64 %count) nounwind {
entry:
  %records = load ptr, ptr @records@, align 8
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next_i, %body ]
  %more = icmp slt i64 %i, %count
  br i1 %more, label %body, label %done
body:
  %at = getelementptr ptr, ptr %records, i64 %i
  %record = load ptr, ptr %at, align 8
  call void @wake(ptr %record)
  %next_i = add i64 %i, 1
  br label %head
done:
  ret void
}

; Run all pieces of a job, with no more helpers than that.  Whoever sleeps for helpers looks whether to end, if
; there is a status word for the answer and somebody to ask; the helpers hear of it when they look.
define void @gradc_fork(ptr %task, ptr %frame, i64 %pieces, i64 %helpers, ptr %status) nounwind {
entry:
  %workers = load atomic i64, ptr @workers@ acquire, align 8
  %any = icmp sgt i64 %workers, 0
  br i1 %any, label %ask, label %alone
ask:
  %pair = cmpxchg ptr @owner@, i64 0, i64 1 acquire monotonic, align 8
  %mine = extractvalue { i64, i1 } %pair, 1
  br i1 %mine, label %open, label %alone
alone:
  %k = phi i64 [ 0, %entry ], [ 0, %ask ], [ %k2, %one ]
  %left = icmp slt i64 %k, %pieces
  br i1 %left, label %one, label %finished
one:
  call void %task(ptr %frame, i64 %k, i64 0)
  %k2 = add i64 %k, 1
  br label %alone
finished:
  ret void
open:
  store ptr %task, ptr @task, align 8
  store ptr %frame, ptr @frame, align 8
  store i64 %pieces, ptr @pieces, align 8
  call void @save_control()
  store atomic i64 0, ptr @next@ monotonic, align 8
  %forks = load i64, ptr @forks@, align 8
  %forks2 = add i64 %forks, 1
  store i64 %forks2, ptr @forks@, align 8
  %few = icmp slt i64 %helpers, %workers
  %joining = select i1 %few, i64 %helpers, i64 %workers
  %number = shl i64 %forks2, 32
  %limit = shl i64 %joining, 18
  %g0 = or i64 %number, %limit
  %g1 = or i64 %g0, 65536
  store atomic i64 %g1, ptr @gate@ seq_cst, align 8
  call void @wake_first(i64 %joining)
  call void @do_pieces(i64 0)
  %before = atomicrmw and ptr @gate@, i64 -65537 acq_rel, align 8
  %inside = and i64 %before, 65535
  %empty = icmp eq i64 %inside, 0
  br i1 %empty, label %done, label %linger
linger:
  %spins = load i64, ptr @spins@, align 8
  br label %watch
watch:
  %turn = phi i64 [ 0, %linger ], [ %turn2, %idle ]
  %g = load atomic i64, ptr @gate@ acquire, align 8
  %in = and i64 %g, 65535
  %gone = icmp eq i64 %in, 0
  br i1 %gone, label %done, label %idle
idle:
  call void @wait(i64 %turn)
  %turn2 = add i64 %turn, 1
  %patient = icmp slt i64 %turn2, %spins
  br i1 %patient, label %watch, label %sleep
sleep:
  %old = atomicrmw or ptr @gate@, i64 131072 acq_rel, align 8
  %still = and i64 %old, 65535
  %last_left = icmp eq i64 %still, 0
  br i1 %last_left, label %done, label %block
block:
  %lock = load ptr, ptr @lock@, align 8
  %asks = icmp ne ptr %status, null
  %answers = load ptr, ptr @poll@, align 8
  %answered = icmp ne ptr %answers, null
  %looks = and i1 %asks, %answered
  %nap = select i1 %looks, i64 $NAP, i64 -1
  br label %rest
rest:
  %got = call i32 @PyThread_acquire_lock_timed(ptr %lock, i64 %nap, i32 0)
  %woken = icmp eq i32 %got, 1
  br i1 %woken, label %done, label %again
again:
  %lock_now = load ptr, ptr @lock@, align 8
  %forked = icmp ne ptr %lock_now, %lock
  br i1 %forked, label %done, label %hear
hear:
  br i1 %looks, label %listen, label %rest
listen:
  %poll = load ptr, ptr @poll@, align 8
  call i64 %poll(ptr %status, i64 0)
  br label %rest
done:
  store atomic i64 0, ptr @owner@ release, align 8
  ret void
}

; The life of a worker: join forks, spin, park.
define void @gradc_work(ptr %record) nounwind {
entry:
  %lock_at = getelementptr i8, ptr %record, i64 8
  %lock = load ptr, ptr %lock_at, align 8
  %number_at = getelementptr i8, ptr %record, i64 16
  %number = load i64, ptr %number_at, align 8
  br label %fresh
fresh:
  %done_before = phi i64 [ 0, %entry ], [ %done_so_far, %rest ], [ %this, %leave ]
  br label %look
look:
  %turn = phi i64 [ 0, %fresh ], [ %turn2, %idle ], [ %turn, %try ]
  %done_so_far = phi i64 [ %done_before, %fresh ], [ %done_so_far, %idle ], [ %done_so_far, %try ]
  %gate = load atomic i64, ptr @gate@ acquire, align 8
  %join = call i1 @may_join(i64 %gate, i64 %number, i64 %done_so_far)
  br i1 %join, label %try, label %idle
try:
  %inside = add i64 %gate, 1
  %pair = cmpxchg ptr @gate@, i64 %gate, i64 %inside acquire monotonic, align 8
  %in = extractvalue { i64, i1 } %pair, 1
  br i1 %in, label %enter, label %look
enter:
  call void @adopt_control()
  call void @do_pieces(i64 %number)
  %this = lshr i64 %gate, 32
  %before = atomicrmw sub ptr @gate@, i64 1 acq_rel, align 8
  %counted = and i64 %before, 131071
  %waiting = and i64 %before, 131072
  %was_last = icmp eq i64 %counted, 1
  %is_awaited = icmp ne i64 %waiting, 0
  %wakes = and i1 %was_last, %is_awaited
  br i1 %wakes, label %call_back, label %leave
call_back:
  %caller_lock = load ptr, ptr @lock@, align 8
  call void @PyThread_release_lock(ptr %caller_lock)
  br label %leave
leave:
  %end = load atomic i64, ptr @stop@ monotonic, align 8
  %ended = icmp ne i64 %end, 0
  br i1 %ended, label %exit, label %fresh
idle:
  call void @wait(i64 %turn)
  %turn2 = add i64 %turn, 1
  %spins = load i64, ptr @spins@, align 8
  %patient = icmp slt i64 %turn2, %spins
  br i1 %patient, label %look, label %park
park:
  store atomic i64 1, ptr %record seq_cst, align 8
  %again = load atomic i64, ptr @gate@ seq_cst, align 8
  %late = call i1 @may_join(i64 %again, i64 %number, i64 %done_so_far)
  %stop = load atomic i64, ptr @stop@ seq_cst, align 8
  %stopped = icmp ne i64 %stop, 0
  %stay = or i1 %late, %stopped
  br i1 %stay, label %retract, label %sleep
retract:
  %back = cmpxchg ptr %record, i64 1, i64 0 seq_cst seq_cst, align 8
  %mine = extractvalue { i64, i1 } %back, 1
  br i1 %mine, label %rest, label %sleep
sleep:
  call i32 @PyThread_acquire_lock(ptr %lock, i32 1)
  br label %rest
rest:
  %halt = load atomic i64, ptr @stop@ seq_cst, align 8
  %halted = icmp ne i64 %halt, 0
  br i1 %halted, label %exit, label %fresh
exit:
  atomicrmw sub ptr @alive@, i64 1 seq_cst, align 8
  ret void
}

define internal i1 @may_join(i64 %gate, i64 %number, i64 %done) nounwind {
entry:
  %open = and i64 %gate, 65536
  %is_open = icmp ne i64 %open, 0
  %shifted = lshr i64 %gate, 18
  %helpers = and i64 %shifted, 16383
  %wanted = icmp sle i64 %number, %helpers
  %fork = lshr i64 %gate, 32
  %new = icmp ne i64 %fork, %done
  %yes = and i1 %is_open, %wanted
  %join = and i1 %yes, %new
  ret i1 %join
}

; Ask all workers to leave.
define void @gradc_stop() nounwind {
entry:
  %workers = load atomic i64, ptr @workers@ acquire, align 8
  store atomic i64 1, ptr @stop@ seq_cst, align 8
  call void @wake_first(i64 %workers)
  ret void
}
"""
