"""The compiled way from any call to its step: take the arguments apart, run, and nest the results.

Enters: nothing.  Leaves: functions in a module; the layout of the tables they are driven by.
Invariant: as in `entry_code`, nothing here depends on a signature.  A call that does not nest exactly like the version
chosen last goes, untouched, to the Python callable in the context.  Every object taken out of a container is held until
the step is done, for another thread may change the container meanwhile.  Start at `emit_dispatch`.

A version is two lists of rows.  `FETCH` rows take the arguments apart, containers before their parts; `MAKE` rows are a
stack machine that nests the results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from gradc.codegen.ir import Value
from gradc.runtime import objects
from gradc.runtime.arena import WORD
from gradc.runtime.entry_code import ATTEMPT, CONTEXT, MISFIT, NO_MEMORY
from gradc.runtime.python_code import FALSE, NULL, ZERO, Code, Pointer, PythonModule

#: A function's word list: the context variable that says whether a trace is open, its value when none is, the version
#: called last (an array of `VERSION` words, or null), the Python callable for every other call.
CALLS = ("variable", "idle", "version", "slow")
VERSION = (
    "step", "positional", "named", "names", "fetches", "fetched", "leaves", "makes", "made", "room",
)  # fmt: skip
FETCH = ("source", "which", "parent", "expect", "type", "other", "size", "leaf")
MAKE = ("what", "which", "takes", "type", "keys")

#: Where a row of `FETCH` finds its object: which argument, item, entry or attribute ("which") of which row ("parent").
ARGUMENT, TUPLE_ITEM, LIST_ITEM, DICT_ENTRY, ATTRIBUTE = range(5)
#: What it must be: an array or number of one of two classes, this very object, a container of this class and size.
LEAF, CONSTANT, TUPLE, LIST, DICT, RECORD = range(6)
#: What a row of `MAKE` pushes: a result, an object, a container of what lies on the stack.
RESULT, FIXED, NEW_TUPLE, NEW_NAMED, NEW_LIST, NEW_DICT, NEW_RECORD = range(7)

#: Words that a call may put on the stack of its thread; what needs more room gets it elsewhere.
STACK_WORDS = 256

DISPATCH = "gradc_dispatch"
_VERSION = ("ptr", "version")


def emit_dispatching(module: PythonModule) -> None:
    """All functions of the way to a step."""
    for emit in (emit_release, emit_idle, emit_named, emit_fetch, emit_make, emit_follow, emit_dispatch):
        emit(module)


def emit_dispatch(module: PythonModule) -> None:
    """``PyObject *dispatch(self, args, nargs, kwnames)``: METH_FASTCALL | METH_KEYWORDS; self: an array of `CALLS`."""
    f = Code(module, DISPATCH, [("ptr", "self"), ("ptr", "args"), ("i64", "nargs"), ("ptr", "kwnames")], "ptr")
    untouched, near = f.alloca("i64", align=8), f.alloca("i64", STACK_WORDS, 8)
    calls = f.load("ptr", "%self", objects.DATA)
    f.require(f.call("gradc_idle", f"ptr {calls}"), "slow")
    chosen = f.field(CALLS, calls, "version")
    f.require(f.is_("ne", "ptr", chosen, "null"), "slow")
    f.call("Py_IncRef", f"ptr {chosen}")  # while the step runs another call may choose another version
    version = f.load("ptr", chosen, objects.DATA)
    f.require(f.call("gradc_named", f"ptr {version}", "i64 %nargs", "ptr %kwnames"), "unfit")
    words = f.field(VERSION, version, "room", "i64")
    is_near, before = f.is_("sle", "i64", words, str(STACK_WORDS)), f.block
    f.line(f"br i1 {is_near}, label %follow, label %far")
    f.label("far")
    far = f.call("PyMem_RawMalloc", f"i64 {f.let(f'mul nsw i64 {words}, {WORD}')}")
    f.require(f.is_("ne", "ptr", far, "null"), "unfit")
    after = f.block
    f.branch("follow")
    f.label("follow")
    room = f.let(f"phi ptr [ {near}, %{before} ], [ {far}, %{after} ]")
    made = f.call("gradc_follow", f"ptr {version}", "ptr %args", f"ptr {room}", f"ptr {untouched}")
    f.line(f"br i1 {is_near}, label %done, label %free")
    f.label("free")
    f.call("PyMem_RawFree", f"ptr {room}")
    f.branch("done")
    f.label("done")
    f.require(f.is_("ne", "i64", f.load("i64", untouched), str(MISFIT)), "unfit")
    f.call("Py_DecRef", f"ptr {chosen}")
    f.line(f"ret ptr {made}")
    f.label("unfit")
    f.call("Py_DecRef", f"ptr {chosen}")
    f.branch("slow")
    f.label("slow")
    slow = f.field(CALLS, calls, "slow")
    answer = f.call("PyObject_Vectorcall", f"ptr {slow}", "ptr %args", "i64 %nargs", "ptr %kwnames")
    f.finish(Pointer(answer, "uint64"))


def emit_follow(module: PythonModule) -> None:
    """Run a version on the arguments of a call, in ``room`` for its words: the nested results; null and an exception.

    Null with ``untouched`` set to `MISFIT` if the arguments are not for this version.
    """
    f = Code(module, "gradc_follow", [_VERSION, ("ptr", "args"), ("ptr", "room"), ("ptr", "untouched")], "ptr")
    fetched, leaves = (f.field(VERSION, "%version", name, "i64") for name in ("fetched", "leaves"))
    flat = f.element("%room", fetched)
    stack = f.element(flat, leaves)
    f.require(f.call("gradc_fetch", "ptr %version", "ptr %args", "ptr %room", f"ptr {flat}"), "unfit")
    step = f.field(VERSION, "%version", "step")
    tried = f.call(ATTEMPT, f"ptr {step}", f"ptr {flat}", "ptr %untouched")
    before, why = f.block, f.load("i64", "%untouched")
    f.line(f"br i1 {f.is_('eq', 'i64', why, str(NO_MEMORY))}, label %nomemory, label %tried")
    f.label("nomemory")
    portable = f.field(CONTEXT, step, "slow")
    again = f.call("PyObject_Vectorcall", f"ptr {portable}", f"ptr {flat}", f"i64 {leaves}", "ptr null")
    f.branch("tried")
    f.label("tried")
    results = f.let(f"phi ptr [ {tried}, %{before} ], [ {again}, %nomemory ]")
    f.call("gradc_release", "ptr %room", f"i64 {fetched}")
    f.require(f.is_("ne", "ptr", results, "null"), "failed")
    made = f.call("gradc_make", "ptr %version", f"ptr {results}", f"ptr {stack}")
    f.call("Py_DecRef", f"ptr {results}")
    f.line(f"ret ptr {made}")
    f.label("unfit")
    f.store("i64", str(MISFIT), "%untouched")
    f.branch("failed")
    f.label("failed")
    f.finish(NULL)


def emit_release(module: PythonModule) -> None:
    """Let go of ``count`` objects; returns zero."""
    f = Code(module, "gradc_release", [("ptr", "held"), ("i64", "count")], "i64")
    with f.loop(0, Value("%count", "int64")) as every:
        f.call("Py_DecRef", f"ptr {f.load('ptr', f.element('%held', every.index.ref))}")
    f.finish(ZERO)


def emit_idle(module: PythonModule) -> None:
    """Whether no trace is open, so that no argument and no captured value can be a traced one."""
    f = Code(module, "gradc_idle", [("ptr", "calls")], "i1")
    found = f.alloca("ptr", align=8)
    f.store("ptr", "null", found)
    variable, idle = f.field(CALLS, "%calls", "variable"), f.field(CALLS, "%calls", "idle")
    f.call("PyContextVar_Get", f"ptr {variable}", f"ptr {idle}", f"ptr {found}")
    value = f.load("ptr", found)
    same = f.is_("eq", "ptr", value, idle)
    f.call("Py_DecRef", f"ptr {value}")  # null is allowed
    f.finish(Value(same, "bool"))


def emit_named(module: PythonModule) -> None:
    """Whether there are as many positional arguments, and the same keywords in the same order."""
    f = Code(module, "gradc_named", [_VERSION, ("i64", "nargs"), ("ptr", "kwnames")], "i1")
    f.require(f.is_("eq", "i64", "%nargs", f.field(VERSION, "%version", "positional", "i64")), "other")
    named, names = f.count(VERSION, "%version", "named"), f.field(VERSION, "%version", "names")
    given = f.is_("ne", "ptr", "%kwnames", "null")
    expected = f.is_("ne", "i64", named.ref, "0")
    f.require(f.is_("eq", "i1", given, expected), "other")
    f.line(f"br i1 {given}, label %keywords, label %same")
    f.label("keywords")
    f.require(f.is_("eq", "i64", f.call("PyTuple_Size", "ptr %kwnames"), named.ref), "other")
    with f.loop(0, named) as every:
        k = every.index.ref
        name = f.call("PyTuple_GetItem", "ptr %kwnames", f"i64 {k}")
        f.require(f.is_("eq", "ptr", name, f.call("PyTuple_GetItem", f"ptr {names}", f"i64 {k}")), "other")
    f.branch("same")
    f.label("same")
    f.line("ret i1 true")
    f.label("other")
    f.finish(FALSE)


def emit_fetch(module: PythonModule) -> None:
    """Take the arguments apart: arrays into ``flat``, every object met into ``held``; whether they nest as expected.

    If not, nothing is held.
    """
    f = Code(module, "gradc_fetch", [_VERSION, ("ptr", "args"), ("ptr", "held"), ("ptr", "flat")], "i1")
    rows = f.field(VERSION, "%version", "fetches")
    with f.loop(0, f.count(VERSION, "%version", "fetched")) as every:
        k = every.index.ref
        row, place = f.element(rows, k, WORD * len(FETCH)), f.element("%held", k)
        x = _fetch_object(f, row)
        f.store("ptr", x, place)
        kind = f.load("ptr", x, objects.TYPE)
        _require_kind(f, row, x, kind)
    f.line("ret i1 true")
    f.label("unreadable")
    f.call("PyErr_Clear")
    f.branch("misfit")
    f.label("misfit")
    f.call("gradc_release", "ptr %held", f"i64 {f.let(f'add nsw i64 {k}, 1')}")
    f.line("ret i1 false")
    f.label("missing")
    f.call("PyErr_Clear")
    f.call("gradc_release", "ptr %held", f"i64 {k}")
    f.finish(FALSE)


def _fetch_object(f: Code, row: str) -> str:
    """The object of a row, a new reference; to ``missing`` if there is none."""
    which, key = f.field(FETCH, row, "which", "i64"), f.field(FETCH, row, "which")
    parent = f.element("%held", f.field(FETCH, row, "parent", "i64"))

    def part(getter: str, what: str) -> str:
        return _new_reference(f, f.call(getter, f"ptr {f.load('ptr', parent)}", what))

    def attribute() -> str:
        x = f.call("PyObject_GetAttr", f"ptr {f.load('ptr', parent)}", f"ptr {key}")
        f.require(f.is_("ne", "ptr", x, "null"), "missing")
        return x

    return _switch(
        f,
        f.field(FETCH, row, "source", "i64"),
        {
            ARGUMENT: lambda: _new_reference(f, f.load("ptr", f.element("%args", which))),
            TUPLE_ITEM: lambda: part("PyTuple_GetItem", f"i64 {which}"),
            LIST_ITEM: lambda: part("PyList_GetItem", f"i64 {which}"),
            DICT_ENTRY: lambda: part("PyDict_GetItemWithError", f"ptr {key}"),
            ATTRIBUTE: attribute,
        },
    )


def _new_reference(f: Code, x: str) -> str:
    f.require(f.is_("ne", "ptr", x, "null"), "missing")
    f.call("Py_IncRef", f"ptr {x}")
    return x


def _require_kind(f: Code, row: str, x: str, kind: str) -> None:
    """Go on if the object is what the row expects, and write down an array; else to ``misfit``."""
    expected = f.field(FETCH, row, "type")

    def sized(measure: str) -> Callable[[], str]:
        def check() -> str:
            f.require(f.is_("eq", "ptr", kind, expected), "misfit")
            size = f.call(measure, f"ptr {x}")
            f.require(f.is_("eq", "i64", size, f.field(FETCH, row, "size", "i64")), "misfit")
            return x

        return check

    def leaf() -> str:
        other = f.is_("eq", "ptr", kind, f.field(FETCH, row, "other"))
        f.require(f.let(f"or i1 {f.is_('eq', 'ptr', kind, expected)}, {other}"), "misfit")
        f.store("ptr", x, f.element("%flat", f.field(FETCH, row, "leaf", "i64")))
        return x

    def identical(what: str) -> Callable[[], str]:
        def check() -> str:
            f.require(f.is_("eq", "ptr", what, expected), "misfit")
            return x

        return check

    def record() -> str:
        f.require(f.is_("eq", "ptr", kind, expected), "misfit")
        held = f.field(FETCH, row, "other")
        with f.when(Value(f.is_("ne", "ptr", held, "null"), "bool")):
            attributes = f.call("PyObject_GetAttr", f"ptr {x}", f"ptr {held}")
            f.require(f.is_("ne", "ptr", attributes, "null"), "unreadable")
            count = f.call("PyDict_Size", f"ptr {attributes}")
            f.call("Py_DecRef", f"ptr {attributes}")
            f.require(f.is_("eq", "i64", count, f.field(FETCH, row, "size", "i64")), "misfit")
        return x

    _switch(
        f,
        f.field(FETCH, row, "expect", "i64"),
        {
            LEAF: leaf,
            CONSTANT: identical(x),
            TUPLE: sized("PyTuple_Size"),
            LIST: sized("PyList_Size"),
            DICT: sized("PyDict_Size"),
            RECORD: record,
        },
    )


def emit_make(module: PythonModule) -> None:
    """Nest the tuple of results as the function does; null with an exception if something could not be made."""
    f = Code(module, "gradc_make", [_VERSION, ("ptr", "results"), ("ptr", "stack")], "ptr")
    rows = f.field(VERSION, "%version", "makes")
    with f.loop(0, f.count(VERSION, "%version", "made"), carry=[ZERO]) as every:
        row = f.element(rows, every.index.ref, WORD * len(MAKE))
        takes = f.count(MAKE, row, "takes")
        top = every.carry[0].ref
        first = f.let(f"sub nsw i64 {top}, {takes.ref}")
        parts = f.element("%stack", first)
        f.store("ptr", _make_object(f, row, parts, takes), parts)
        every.next[0] = Value(f.let(f"add nsw i64 {first}, 1"), "int64")
    f.line(f"ret ptr {f.load('ptr', '%stack')}")
    f.label("failed")
    f.call("gradc_release", "ptr %stack", f"i64 {top}")
    f.finish(NULL)


def _make_object(f: Code, row: str, parts: str, takes: Value) -> str:
    """A new reference to the row's object, which takes over the references to its parts; to ``failed`` if none."""
    which, kind, keys = f.field(MAKE, row, "which", "i64"), f.field(MAKE, row, "type"), f.field(MAKE, row, "keys")

    def held(x: str) -> str:
        f.call("Py_IncRef", f"ptr {x}")
        return x

    def filled(container: str, put: str) -> str:
        f.require(f.is_("ne", "ptr", container, "null"), "failed")
        with f.loop(0, takes) as every:
            k = every.index.ref
            f.call(put, f"ptr {container}", f"i64 {k}", f"ptr {f.load('ptr', f.element(parts, k))}")
        return container

    def refused(made: str, status: str) -> None:
        """If a part could not be put into what was made."""
        with f.when(Value(f.is_("slt", "i32", status, "0"), "bool")):
            f.call("Py_DecRef", f"ptr {made}")
            f.branch("failed")
            f.label(f.fresh("unreached"))

    def mapping() -> str:
        made = f.call("PyDict_New")
        f.require(f.is_("ne", "ptr", made, "null"), "failed")
        with f.loop(0, takes) as every:
            k = every.index.ref
            key = f.call("PyTuple_GetItem", f"ptr {keys}", f"i64 {k}")
            value = f.load("ptr", f.element(parts, k))
            refused(made, f.call("PyDict_SetItem", f"ptr {made}", f"ptr {key}", f"ptr {value}"))
        f.call("gradc_release", f"ptr {parts}", f"i64 {takes.ref}")
        return made

    def record() -> str:
        made = f.call("PyType_GenericAlloc", f"ptr {kind}", "i64 0")
        f.require(f.is_("ne", "ptr", made, "null"), "failed")
        with f.loop(0, takes) as every:
            k = every.index.ref
            name = f.call("PyTuple_GetItem", f"ptr {keys}", f"i64 {k}")
            value = f.load("ptr", f.element(parts, k))
            refused(made, f.call("PyObject_GenericSetAttr", f"ptr {made}", f"ptr {name}", f"ptr {value}"))
        f.call("gradc_release", f"ptr {parts}", f"i64 {takes.ref}")
        return made

    return _switch(
        f,
        f.field(MAKE, row, "what", "i64"),
        {
            RESULT: lambda: held(f.call("PyTuple_GetItem", "ptr %results", f"i64 {which}")),
            FIXED: lambda: held(kind),
            NEW_TUPLE: lambda: filled(f.call("PyTuple_New", f"i64 {takes.ref}"), "PyTuple_SetItem"),
            NEW_NAMED: lambda: filled(
                f.call("PyType_GenericAlloc", f"ptr {kind}", f"i64 {takes.ref}"), "PyTuple_SetItem"
            ),
            NEW_LIST: lambda: filled(f.call("PyList_New", f"i64 {takes.ref}"), "PyList_SetItem"),
            NEW_DICT: mapping,
            NEW_RECORD: record,
        },
    )


def _switch(f: Code, selector: str, cases: Mapping[int, Callable[[], str]]) -> str:
    """Run the case that the word selects, the first one by default; the pointer it gives."""
    number = f.fresh("")
    labels = " ".join(f"i64 {case}, label %case{number}.{case}" for case in cases)
    f.line(f"switch i64 {selector}, label %case{number}.{min(cases)} [ {labels} ]")
    arms = []
    for case, emit in cases.items():
        f.label(f"case{number}.{case}")
        arms.append(f"[ {emit()}, %{f.block} ]")
        f.branch(f"join{number}")
    f.label(f"join{number}")
    return f.let(f"phi ptr {', '.join(arms)}")
