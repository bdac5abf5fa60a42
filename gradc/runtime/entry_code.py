"""The compiled way in: one LLVM module that checks arguments, makes results and runs a step, for every signature.

Enters: nothing.  Leaves: functions in a module; the layout of the tables they are driven by.
Invariant: nothing here depends on a signature, a process or an address, so it is compiled once for a machine and
cached; what it does not understand it hands, untouched, to the Python callable in its context.  Start reading at
`emit_attempt`.

All tables are arrays of 64-bit words. The Python side (`gradc.runtime.entry`) fills them; `CONTEXT`, `INPUT` and
`OUTPUT` name the words of a record.
"""

from __future__ import annotations

from gradc.codegen.ir import Value
from gradc.runtime import objects
from gradc.runtime.arena import BUFFERS_PER_OUTPUT, HEAD, SCALAR_ROOM, WORD
from gradc.runtime.control_word import RUN, emit_run
from gradc.runtime.python_code import FALSE, NULL, ZERO, Code, Pointer, PythonModule

CONTEXT = (
    "kernel", "release", "slow", "fail", "ndarray", "float", "int",
    "inputs", "outputs", "input_specs", "output_specs", "donated", "seen",
    "leases", "lease_count", "scalars_at", "inputs_at", "outputs_at", "objects_at", "arena_at", "result",
)  # fmt: skip
INPUT = ("descr", "ndim", "dims", "flags", "scalar_type", "number", "nbytes", "donated", "owner")
OUTPUT = ("kind", "descr", "ndim", "dims", "donor", "slots")

#: How a result is made.
FRESH, POOLED, SCALAR, DONATED = range(4)
#: What a 0-d input may be given as a Python number.
NUMBERS = {"float64": 1, "float32": 2, "int64": 3, "int32": 4}
#: Why a step was left untouched.
MISFIT, NO_MEMORY = 1, 2
#: Leases on a context's free list; more running calls than this make and drop their own.
LEASE_ROOM = 64

ATTEMPT, CALL, BOUND = "gradc_attempt", "gradc_call", "gradc_bound"
TAKE, GIVE, PROBE = "gradc_take", "gradc_give", "gradc_probe"

_CARRAY = objects.C_CONTIGUOUS | objects.ALIGNED | objects.WRITEABLE
_CONTEXT = ("ptr", "context")
_LEASE = ("ptr", "lease")


class _Code(Code):
    """A function over a step's context, its parameter ``%context``."""

    def part(self, lease: str, name: str) -> str:
        """The pointer to a part of the lease, whose offset the context knows."""
        return self.at(lease, self.field(CONTEXT, "%context", name, "i64"))


def emit_entry(module: PythonModule, arch: str) -> None:
    """All functions of a step's way in, on a CPU of this architecture."""
    emit_run(module, arch)
    for emit in (
        emit_number, emit_admit, emit_disjoint, emit_new, emit_pooled, emit_drop, emit_allocate, emit_collect,
        emit_execute, emit_failed, emit_take, emit_give, emit_attempt, emit_call, emit_bound, emit_probe,
    ):  # fmt: skip
        emit(module)


def emit_attempt(module: PythonModule) -> None:
    """Run the step on ``args``, as many as it has inputs: the tuple of results, or null and an exception.

    Null with ``untouched`` set if nothing has happened: `MISFIT`, the arguments may not be for this step; `NO_MEMORY`,
    they are, but there is no memory at hand for the results.
    """
    f = _Code(module, ATTEMPT, [_CONTEXT, ("ptr", "args"), ("ptr", "untouched")], "ptr")
    f.store("i64", "0", "%untouched")
    free = f.field(CONTEXT, "%context", "lease_count", "i64")
    f.require(f.is_("sgt", "i64", free, "0"), "slow")
    left = f.let(f"sub nsw i64 {free}, 1")
    lease = f.load("ptr", f.element(f.field(CONTEXT, "%context", "leases"), left))
    f.require(f.call("gradc_admit", "ptr %context", "ptr %args", f"ptr {lease}"), "slow")
    f.require(f.call("gradc_disjoint", "ptr %context", f"ptr {lease}"), "slow")
    f.set_field(CONTEXT, "%context", "lease_count", left)
    f.require(f.call("gradc_allocate", "ptr %context", "ptr %args", f"ptr {lease}"), "retry")
    status = f.call("gradc_execute", "ptr %context", f"ptr {lease}")
    f.require(f.is_("eq", "i64", status, "0"), "failed")
    result = f.call("gradc_collect", "ptr %context", f"ptr {lease}")
    f.call(GIVE, "ptr %context", f"ptr {lease}")
    f.line(f"ret ptr {result}")
    f.label("failed")
    f.call("gradc_drop", "ptr %context", f"ptr {lease}", f"i64 {f.field(CONTEXT, '%context', 'outputs', 'i64')}")
    nothing = f.call("gradc_failed", "ptr %context", f"i64 {status}", f"ptr {lease}")
    f.call(GIVE, "ptr %context", f"ptr {lease}")
    f.line(f"ret ptr {nothing}")
    f.label("retry")
    f.call(GIVE, "ptr %context", f"ptr {lease}")
    f.store("i64", str(NO_MEMORY), "%untouched")
    f.line("ret ptr null")
    f.label("slow")
    f.store("i64", str(MISFIT), "%untouched")
    f.finish(NULL)


def emit_call(module: PythonModule) -> None:
    """``PyObject *call(self, args, nargs, kwnames)``: METH_FASTCALL | METH_KEYWORDS; self is the context array."""
    f = _Code(module, CALL, [("ptr", "self"), ("ptr", "args"), ("i64", "nargs"), ("ptr", "kwnames")], "ptr")
    untouched = f.alloca("i64", align=8)
    f.line(f"%context = load ptr, ptr {f.at('%self', objects.DATA)}, align 8")
    f.require(f.is_("eq", "ptr", "%kwnames", "null"), "slow")
    f.require(f.is_("eq", "i64", "%nargs", f.field(CONTEXT, "%context", "inputs", "i64")), "slow")
    result = f.call(ATTEMPT, "ptr %context", "ptr %args", f"ptr {untouched}")
    f.require(f.is_("eq", "i64", f.load("i64", untouched), "0"), "slow")
    f.line(f"ret ptr {result}")
    f.label("slow")
    slow = f.field(CONTEXT, "%context", "slow")
    answer = f.call("PyObject_Vectorcall", f"ptr {slow}", "ptr %args", "i64 %nargs", "ptr %kwnames")
    f.finish(Pointer(answer, "uint64"))


def emit_bound(module: PythonModule) -> None:
    """``PyObject *bound(self, ignored)``: METH_NOARGS; everything is in the lease, the only one of its context."""
    f = _Code(module, BOUND, [("ptr", "self"), ("ptr", "ignored")], "ptr")
    f.line(f"%context = load ptr, ptr {f.at('%self', objects.DATA)}, align 8")
    f.require(f.is_("eq", "i64", f.field(CONTEXT, "%context", "lease_count", "i64"), "1"), "busy")
    f.set_field(CONTEXT, "%context", "lease_count", "0")
    lease = f.load("ptr", f.field(CONTEXT, "%context", "leases"))
    status = f.call("gradc_execute", "ptr %context", f"ptr {lease}")
    f.require(f.is_("eq", "i64", status, "0"), "failed")
    f.set_field(CONTEXT, "%context", "lease_count", "1")
    result = f.field(CONTEXT, "%context", "result")
    f.call("Py_IncRef", f"ptr {result}")
    f.line(f"ret ptr {result}")
    f.label("failed")
    nothing = f.call("gradc_failed", "ptr %context", f"i64 {status}", f"ptr {lease}")
    f.set_field(CONTEXT, "%context", "lease_count", "1")
    f.line(f"ret ptr {nothing}")
    f.label("busy")
    slow = f.field(CONTEXT, "%context", "slow")
    answer = f.call("PyObject_Vectorcall", f"ptr {slow}", "ptr null", "i64 0", "ptr null")
    f.finish(Pointer(answer, "uint64"))


def emit_admit(module: PythonModule) -> None:
    """Whether every argument can be read where it lies; its pointer goes into the lease."""
    f = _Code(module, "gradc_admit", [_CONTEXT, ("ptr", "args"), _LEASE], "i1")
    ndarray, specs = f.field(CONTEXT, "%context", "ndarray"), f.field(CONTEXT, "%context", "input_specs")
    inputs, scalars = f.part("%lease", "inputs_at"), f.part("%lease", "scalars_at")
    with f.loop(0, f.count(CONTEXT, "%context", "inputs")) as every:
        i = every.index.ref
        spec, slot = f.element(specs, i, WORD * len(INPUT)), f.element(inputs, i)
        x = f.load("ptr", f.element("%args", i))
        kind = f.load("ptr", x, objects.TYPE)
        f.line(f"br i1 {f.is_('eq', 'ptr', kind, ndarray)}, label %array, label %other")
        f.label("array")
        _require_array(f, x, spec)
        f.store("ptr", f.load("ptr", x, objects.DATA), slot)
        f.branch("next")
        f.label("other")
        same = f.is_("eq", "ptr", kind, f.field(INPUT, spec, "scalar_type"))
        f.line(f"br i1 {same}, label %scalar, label %number")
        f.label("scalar")
        f.store("ptr", f.at(x, objects.VALUE), slot)
        f.branch("next")
        f.label("number")
        room = f.element(scalars, i, SCALAR_ROOM)
        f.require(f.call("gradc_number", "ptr %context", f"ptr {spec}", f"ptr {x}", f"ptr {room}"), "misfit")
        f.store("ptr", room, slot)
        f.branch("next")
        f.label("next")
    f.line("ret i1 true")
    f.label("misfit")
    f.finish(FALSE)


def _require_array(f: _Code, x: str, spec: str) -> None:
    """Go on if the ndarray has the dtype instance, rank, extents and flags of the spec, and memory of the owner that is
    asked for: its base is an object of that class."""
    owner = f.field(INPUT, spec, "owner")
    with f.when(Value(f.is_("ne", "ptr", owner, "null"), "bool")):
        base = f.load("ptr", x, objects.BASE)
        f.require(f.is_("ne", "ptr", base, "null"), "misfit")
        f.require(f.is_("eq", "ptr", f.load("ptr", base, objects.TYPE), owner), "misfit")
    f.require(f.is_("eq", "ptr", f.load("ptr", x, objects.DESCR), f.field(INPUT, spec, "descr")), "misfit")
    rank = f.let(f"sext i32 {f.load('i32', x, objects.NDIM)} to i64")
    f.require(f.is_("eq", "i64", rank, f.field(INPUT, spec, "ndim", "i64")), "misfit")
    wanted = f.let(f"trunc i64 {f.field(INPUT, spec, 'flags', 'i64')} to i32")
    flags = f.let(f"and i32 {f.load('i32', x, objects.FLAGS)}, {wanted}")
    f.require(f.is_("eq", "i32", flags, wanted), "misfit")
    given, extents = f.load("ptr", x, objects.DIMS), f.field(INPUT, spec, "dims")
    with f.loop(0, Value(rank, "int64")) as axis:
        k = axis.index.ref
        extent = f.load("i64", f.element(given, k))
        f.require(f.is_("eq", "i64", extent, f.load("i64", f.element(extents, k))), "misfit")


def emit_number(module: PythonModule) -> None:
    """Whether a Python float or int can be the 0-d value of the spec (NEP 50's weak scalar); ``room`` gets its bits."""
    f = _Code(module, "gradc_number", [_CONTEXT, ("ptr", "spec"), ("ptr", "x"), ("ptr", "room")], "i1")
    overflow = f.alloca("i32", align=4)
    number, kind = f.field(INPUT, "%spec", "number", "i64"), f.load("ptr", "%x", objects.TYPE)
    is_float = f.is_("eq", "ptr", kind, f.field(CONTEXT, "%context", "float"))
    f.line(f"br i1 {is_float}, label %float, label %other")
    f.label("float")
    value = f.load("double", "%x", objects.VALUE)
    f.branch("real")
    f.label("other")
    f.require(f.is_("eq", "ptr", kind, f.field(CONTEXT, "%context", "int")), "misfit")
    f.line(f"switch i64 {number}, label %misfit [ i64 1, label %asreal i64 2, label %asreal "
           f"i64 3, label %integer i64 4, label %integer ]")  # fmt: skip
    f.label("asreal")
    converted = f.call("PyLong_AsDouble", "ptr %x")
    f.line(f"br i1 {f.let(f'fcmp oeq double {converted}, -1.0')}, label %doubt, label %real")
    f.label("doubt")
    f.line(f"br i1 {f.is_('eq', 'ptr', f.call('PyErr_Occurred'), 'null')}, label %real, label %toobig")
    f.label("real")
    real = f.let(f"phi double [ {value}, %float ], [ {converted}, %asreal ], [ {converted}, %doubt ]")
    f.line(f"switch i64 {number}, label %misfit [ i64 1, label %f64 i64 2, label %f32 ]")
    f.label("f64")
    f.store("double", real, "%room")
    f.line("ret i1 true")
    f.label("f32")
    f.store("float", f.let(f"fptrunc double {real} to float"), "%room")
    f.line("ret i1 true")
    f.label("integer")
    whole = f.call("PyLong_AsLongLongAndOverflow", "ptr %x", f"ptr {overflow}")
    f.require(f.is_("eq", "i32", f.load("i32", overflow), "0"), "misfit")
    low = f.let(f"trunc i64 {whole} to i32")
    fits = f.is_("eq", "i64", f.let(f"sext i32 {low} to i64"), whole)
    f.require(f.let(f"or i1 {fits}, {f.is_('eq', 'i64', number, '3')}"), "misfit")
    f.store("i64", whole, "%room")  # little-endian: the low half is the int32
    f.line("ret i1 true")
    f.label("toobig")
    f.call("PyErr_Clear")
    f.branch("misfit")
    f.label("misfit")
    f.finish(FALSE)


def emit_disjoint(module: PythonModule) -> None:
    """Whether no donated argument overlaps another one.

    Pointers that were found disjoint are remembered: in a training loop only the batch moves, and only pairs with an
    argument that moved are compared.
    """
    f = _Code(module, "gradc_disjoint", [_CONTEXT, _LEASE], "i1")
    f.require(f.is_("ne", "i64", f.field(CONTEXT, "%context", "donated", "i64"), "0"), "disjoint")
    n, inputs = f.count(CONTEXT, "%context", "inputs"), f.part("%lease", "inputs_at")
    seen, specs = f.field(CONTEXT, "%context", "seen"), f.field(CONTEXT, "%context", "input_specs")
    with f.loop(0, n) as outer:
        i = outer.index.ref
        start = f.load("i64", f.element(inputs, i))
        moved = f.is_("ne", "i64", start, f.load("i64", f.element(seen, i)))
        spec = f.element(specs, i, WORD * len(INPUT))
        with f.when(Value(moved, "bool")):
            stop = f.let(f"add i64 {start}, {f.field(INPUT, spec, 'nbytes', 'i64')}")
            written = f.field(INPUT, spec, "donated", "i64")
            with f.loop(0, n) as inner:
                _require_apart(f, (i, start, stop, written), inner.index.ref, inputs, specs)
    with f.loop(0, n) as every:
        k = every.index.ref
        f.store("i64", f.load("i64", f.element(inputs, k)), f.element(seen, k))
    f.branch("disjoint")
    f.label("disjoint")
    f.line("ret i1 true")
    f.label("overlap")
    f.finish(FALSE)


def _require_apart(f: _Code, one: tuple[str, str, str, str], k: str, inputs: str, specs: str) -> None:
    """Go on unless inputs i and k are different arguments, one of them is written, and their bytes meet."""
    i, start, stop, written = one
    spec = f.element(specs, k, WORD * len(INPUT))
    other = f.load("i64", f.element(inputs, k))
    other_stop = f.let(f"add i64 {other}, {f.field(INPUT, spec, 'nbytes', 'i64')}")
    either = f.is_("ne", "i64", f.let(f"or i64 {written}, {f.field(INPUT, spec, 'donated', 'i64')}"), "0")
    meet = f.let(f"and i1 {f.is_('ult', 'i64', start, other_stop)}, {f.is_('ult', 'i64', other, stop)}")
    distinct = f.is_("ne", "i64", i, k)
    clash = f.let(f"and i1 {f.let(f'and i1 {either}, {meet}')}, {distinct}")
    f.require(f.let(f"xor i1 {clash}, true"), "overlap")


def emit_new(module: PythonModule) -> None:
    """A new ndarray for an output spec over ``data`` (its own memory when null); null when that failed."""
    f = _Code(module, "gradc_new", [_CONTEXT, ("ptr", "spec"), ("ptr", "data"), ("i32", "flags")], "ptr")
    descr = f.field(OUTPUT, "%spec", "descr")
    f.call("Py_IncRef", f"ptr {descr}")  # the constructor steals it
    rank = f.let(f"trunc i64 {f.field(OUTPUT, '%spec', 'ndim', 'i64')} to i32")
    kind, dims = f.field(CONTEXT, "%context", "ndarray"), f.field(OUTPUT, "%spec", "dims")
    x = f.call("PyArray_NewFromDescr", f"ptr {kind}", f"ptr {descr}", f"i32 {rank}", f"ptr {dims}", "ptr null",
               "ptr %data", "i32 %flags", "ptr null")  # fmt: skip
    f.finish(Pointer(x, "uint64"))


def emit_pooled(module: PythonModule) -> None:
    """A new ndarray over a recycled buffer that only its pool holds; null when there is none."""
    f = _Code(module, "gradc_pooled", [_CONTEXT, ("ptr", "spec")], "ptr")
    slots = f.field(OUTPUT, "%spec", "slots")
    with f.loop(0, BUFFERS_PER_OUTPUT) as every:
        slot = f.element(slots, every.index.ref, 2 * WORD)
        owner = f.load("ptr", slot)
        f.require(f.is_("ne", "ptr", owner, "null"), "next")
        f.require(f.is_("eq", "i32", f.load("i32", owner, objects.REFCOUNT), "1"), "next")
        data = f.load("ptr", slot, WORD)
        x = f.call("gradc_new", "ptr %context", "ptr %spec", f"ptr {data}", f"i32 {_CARRAY}")
        f.require(f.is_("ne", "ptr", x, "null"), "none")
        f.call("Py_IncRef", f"ptr {owner}")  # becomes the array's base
        f.call("PyArray_SetBaseObject", f"ptr {x}", f"ptr {owner}")
        f.line(f"ret ptr {x}")
        f.label("next")
    f.branch("none")
    f.label("none")
    f.finish(NULL)


def emit_allocate(module: PythonModule) -> None:
    """Make the result objects and write their addresses into the lease; if one cannot be made, undo and say no."""
    f = _Code(module, "gradc_allocate", [_CONTEXT, ("ptr", "args"), _LEASE], "i1")
    specs = f.field(CONTEXT, "%context", "output_specs")
    inputs, outputs = f.part("%lease", "inputs_at"), f.part("%lease", "outputs_at")
    made, scalars = f.part("%lease", "objects_at"), f.part("%lease", "scalars_at")
    scalars = f.element(scalars, f.field(CONTEXT, "%context", "inputs", "i64"), SCALAR_ROOM)
    with f.loop(0, f.count(CONTEXT, "%context", "outputs")) as every:
        j = every.index.ref
        spec, slot, place = f.element(specs, j, WORD * len(OUTPUT)), f.element(outputs, j), f.element(made, j)
        kind = f.field(OUTPUT, spec, "kind", "i64")
        others = f"i64 {POOLED}, label %pooled i64 {SCALAR}, label %scalar i64 {DONATED}, label %donated"
        f.line(f"switch i64 {kind}, label %fresh [ {others} ]")
        f.label("fresh")
        own = f.call("gradc_new", "ptr %context", f"ptr {spec}", "ptr null", "i32 0")
        f.branch("array")
        f.label("pooled")
        recycled = f.call("gradc_pooled", "ptr %context", f"ptr {spec}")
        f.branch("array")
        f.label("array")
        x = f.let(f"phi ptr [ {own}, %fresh ], [ {recycled}, %pooled ]")
        f.require(f.is_("ne", "ptr", x, "null"), "undo")
        f.store("ptr", x, place)
        f.store("ptr", f.load("ptr", x, objects.DATA), slot)
        f.branch("next")
        f.label("scalar")
        f.store("ptr", "null", place)
        f.store("ptr", f.element(scalars, j, SCALAR_ROOM), slot)
        f.branch("next")
        f.label("donated")
        donor = f.field(OUTPUT, spec, "donor", "i64")
        given = f.load("ptr", f.element("%args", donor))
        f.call("Py_IncRef", f"ptr {given}")
        f.store("ptr", given, place)
        f.store("ptr", f.load("ptr", f.element(inputs, donor)), slot)
        f.branch("next")
        f.label("next")
    f.line("ret i1 true")
    f.label("undo")
    f.call("gradc_drop", "ptr %context", "ptr %lease", f"i64 {j}")
    f.call("PyErr_Clear")  # the slow path meets the same trouble and says so
    f.finish(FALSE)


def emit_drop(module: PythonModule) -> None:
    """Let go of the first ``count`` result objects; returns zero."""
    f = _Code(module, "gradc_drop", [_CONTEXT, _LEASE, ("i64", "count")], "i64")
    made = f.part("%lease", "objects_at")
    with f.loop(0, Value("%count", "int64")) as every:
        place = f.element(made, every.index.ref)
        x = f.load("ptr", place)
        f.store("ptr", "null", place)
        f.call("Py_DecRef", f"ptr {x}")  # null is allowed
    f.finish(ZERO)


def emit_collect(module: PythonModule) -> None:
    """The tuple of results, 0-d ones as NumPy scalars; null with an exception set when memory runs out."""
    f = _Code(module, "gradc_collect", [_CONTEXT, _LEASE], "ptr")
    specs, made = f.field(CONTEXT, "%context", "output_specs"), f.part("%lease", "objects_at")
    outputs, n = f.part("%lease", "outputs_at"), f.count(CONTEXT, "%context", "outputs")
    result = f.call("PyTuple_New", f"i64 {n.ref}")
    f.require(f.is_("ne", "ptr", result, "null"), "giveup")
    with f.loop(0, n) as every:
        j = every.index.ref
        place = f.element(made, j)
        ready = f.load("ptr", place)
        f.line(f"br i1 {f.is_('ne', 'ptr', ready, 'null')}, label %move, label %scalar")
        f.label("scalar")
        descr = f.field(OUTPUT, f.element(specs, j, WORD * len(OUTPUT)), "descr")
        value = f.load("ptr", f.element(outputs, j))
        boxed = f.call("PyArray_Scalar", f"ptr {value}", f"ptr {descr}", "ptr null")
        f.require(f.is_("ne", "ptr", boxed, "null"), "short")
        f.store("ptr", boxed, place)
        f.branch("move")
        f.label("move")
        x = f.load("ptr", place)
        f.store("ptr", "null", place)
        f.call("PyTuple_SetItem", f"ptr {result}", f"i64 {j}", f"ptr {x}")
    f.line(f"ret ptr {result}")
    f.label("short")
    f.call("Py_DecRef", f"ptr {result}")
    f.branch("giveup")
    f.label("giveup")
    f.call("gradc_drop", "ptr %context", "ptr %lease", f"i64 {n.ref}")
    f.finish(NULL)


def emit_execute(module: PythonModule) -> None:
    """Run the step on a filled lease; its status word."""
    f = _Code(module, "gradc_execute", [_CONTEXT, _LEASE], "i64")
    for word in ("status", "deadline", "stopped"):
        f.set_field(HEAD, "%lease", word, "0")
    kernel = f.field(CONTEXT, "%context", "kernel")
    parts = [f.part("%lease", name) for name in ("inputs_at", "outputs_at", "arena_at")]
    run = f"call void @{RUN}(ptr {kernel}, {', '.join(f'ptr {p}' for p in parts)}, ptr %lease)"
    release = f.is_("ne", "i64", f.field(CONTEXT, "%context", "release", "i64"), "0")
    f.line(f"br i1 {release}, label %release, label %hold")
    f.label("release")
    thread = f.call("PyEval_SaveThread")
    f.line(run)
    f.call("PyEval_RestoreThread", f"ptr {thread}")
    f.branch("done")
    f.label("hold")
    f.line(run)
    f.branch("done")
    f.label("done")
    f.finish(Value(f.load("i64", "%lease"), "int64"))


def emit_failed(module: PythonModule) -> None:
    """Let Python raise what the status word means; null."""
    f = _Code(module, "gradc_failed", [_CONTEXT, ("i64", "status"), _LEASE], "ptr")
    args = f.alloca("ptr", 2, 8)
    number = f.call("PyLong_FromLongLong", "i64 %status")
    f.require(f.is_("ne", "ptr", number, "null"), "nothing")
    where = f.call("PyLong_FromLongLong", f"i64 {f.let('ptrtoint ptr %lease to i64')}")
    f.require(f.is_("ne", "ptr", where, "null"), "release")
    f.store("ptr", number, args)
    f.store("ptr", where, args, WORD)
    fail = f.field(CONTEXT, "%context", "fail")
    f.call("PyObject_Vectorcall", f"ptr {fail}", f"ptr {args}", "i64 2", "ptr null")
    f.call("Py_DecRef", f"ptr {where}")
    f.branch("release")
    f.label("release")
    f.call("Py_DecRef", f"ptr {number}")
    f.branch("nothing")
    f.label("nothing")
    f.finish(NULL)


def emit_take(module: PythonModule) -> None:
    """Pop the address of a free lease; zero when all are out."""
    f = _Code(module, TAKE, [_CONTEXT], "i64")
    free = f.field(CONTEXT, "%context", "lease_count", "i64")
    f.require(f.is_("sgt", "i64", free, "0"), "none")
    left = f.let(f"sub nsw i64 {free}, 1")
    f.set_field(CONTEXT, "%context", "lease_count", left)
    f.line(f"ret i64 {f.load('i64', f.element(f.field(CONTEXT, '%context', 'leases'), left))}")
    f.label("none")
    f.finish(ZERO)


def emit_give(module: PythonModule) -> None:
    """Push a lease; there is room, for no more than `LEASE_ROOM` belong to a context. Returns zero."""
    f = _Code(module, GIVE, [_CONTEXT, _LEASE], "i64")
    free = f.field(CONTEXT, "%context", "lease_count", "i64")
    f.store("ptr", "%lease", f.element(f.field(CONTEXT, "%context", "leases"), free))
    f.set_field(CONTEXT, "%context", "lease_count", f.let(f"add nsw i64 {free}, 1"))
    f.finish(ZERO)


def emit_probe(module: PythonModule) -> None:
    """A step for the self-test: from x[2] and s make x·s, s, and s at the head of a large result; fails when s = 0."""
    f = _Code(module, PROBE, [("ptr", "inputs"), ("ptr", "outputs"), ("ptr", "arena"), ("ptr", "status")])
    x = f.load("ptr", "%inputs")
    s = f.load("double", f.load("ptr", "%inputs", WORD))
    for k in range(2):
        scaled = f.let(f"fmul double {f.load('double', x, WORD * k)}, {s}")
        f.store("double", scaled, f.load("ptr", "%outputs"), WORD * k)
    for j in (1, 2):
        f.store("double", s, f.load("ptr", "%outputs", WORD * j))
    f.store("i64", f.let(f"zext i1 {f.let(f'fcmp oeq double {s}, 0.0')} to i64"), "%status")
    f.finish()
