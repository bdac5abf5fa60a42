"""The vocabulary of generated code that handles Python objects: C functions, tables of 64-bit words, pointers.

Enters: Python calls.  Leaves: functions in a `PythonModule`.
Invariant: every C function and every offset is one that `gradc.runtime.objects` has verified.  Spoken by `entry_code`,
a step's way in, and by `dispatch_code`, the way from any call to its step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from gradc.codegen.ir import Function, Module, Value
from gradc.runtime.arena import WORD

#: CPython's and NumPy's C functions: type of the result, types of the parameters.
API = {
    "Py_IncRef": ("void", "ptr"),
    "Py_DecRef": ("void", "ptr"),
    "PyTuple_New": ("ptr", "i64"),
    "PyTuple_Size": ("i64", "ptr"),
    "PyTuple_GetItem": ("ptr", "ptr", "i64"),
    "PyTuple_SetItem": ("i32", "ptr", "i64", "ptr"),
    "PyList_New": ("ptr", "i64"),
    "PyList_Size": ("i64", "ptr"),
    "PyList_GetItem": ("ptr", "ptr", "i64"),
    "PyList_SetItem": ("i32", "ptr", "i64", "ptr"),
    "PyDict_New": ("ptr",),
    "PyDict_Size": ("i64", "ptr"),
    "PyDict_GetItemWithError": ("ptr", "ptr", "ptr"),
    "PyDict_SetItem": ("i32", "ptr", "ptr", "ptr"),
    "PyObject_GetAttr": ("ptr", "ptr", "ptr"),
    "PyObject_GenericSetAttr": ("i32", "ptr", "ptr", "ptr"),
    "PyObject_Vectorcall": ("ptr", "ptr", "ptr", "i64", "ptr"),
    "PyType_GenericAlloc": ("ptr", "ptr", "i64"),
    "PyContextVar_Get": ("i32", "ptr", "ptr", "ptr"),
    "PyErr_Clear": ("void",),
    "PyErr_Occurred": ("ptr",),
    "PyLong_FromLongLong": ("ptr", "i64"),
    "PyLong_AsDouble": ("double", "ptr"),
    "PyLong_AsLongLongAndOverflow": ("i64", "ptr", "ptr"),
    "PyEval_SaveThread": ("ptr",),
    "PyEval_RestoreThread": ("void", "ptr"),
    "PyMem_RawMalloc": ("ptr", "i64"),
    "PyMem_RawFree": ("void", "ptr"),
    "PyArray_NewFromDescr": ("ptr", "ptr", "ptr", "i32", "ptr", "ptr", "ptr", "i32", "ptr"),
    "PyArray_Scalar": ("ptr", "ptr", "ptr", "ptr"),
    "PyArray_SetBaseObject": ("i32", "ptr", "ptr"),
}
_ALIGN = {"i64": 8, "ptr": 8, "double": 8, "i32": 4, "float": 4}


class Pointer(Value):
    """A pointer, so that a function can return it."""

    __slots__ = ()

    @property
    def type(self) -> str:
        return "ptr"


FALSE, ZERO, NULL = Value("false", "bool"), Value("0", "int64"), Pointer("null", "uint64")


@dataclass
class PythonModule(Module):
    """A module that knows what its functions return; a function is written before the ones that call it."""

    results: dict[str, str] = field(default_factory=lambda: {name: result for name, (result, *_) in API.items()})

    def __post_init__(self) -> None:
        for name, (result, *params) in API.items():
            self.declare(name, result, *params)


class Code(Function):
    """A function over tables of words and Python objects."""

    def __init__(self, module: PythonModule, name: str, params: Sequence[tuple[str, str]], result: str = "void"):
        super().__init__(module, name, params, result)
        module.results[name] = result
        self._results = module.results

    def at(self, base: str, offset: int | str) -> str:
        """The pointer ``offset`` bytes behind ``base``."""
        return self.let(f"getelementptr i8, ptr {base}, i64 {offset}")

    def load(self, type_: str, base: str, offset: int | str = 0) -> str:
        return self.let(f"load {type_}, ptr {self.at(base, offset)}, align {_ALIGN[type_]}")

    def store(self, type_: str, value: str, base: str, offset: int | str = 0) -> None:
        self.line(f"store {type_} {value}, ptr {self.at(base, offset)}, align {_ALIGN[type_]}")

    def field(self, record: Sequence[str], base: str, name: str, type_: str = "ptr") -> str:
        return self.load(type_, base, WORD * record.index(name))

    def set_field(self, record: Sequence[str], base: str, name: str, value: str, type_: str = "i64") -> None:
        self.store(type_, value, base, WORD * record.index(name))

    def element(self, base: str, index: str, stride: int = WORD) -> str:
        """The pointer to entry ``index`` of a table whose entries are ``stride`` bytes."""
        return self.at(base, self.let(f"mul nsw i64 {index}, {stride}"))

    def count(self, record: Sequence[str], base: str, name: str) -> Value:
        return Value(self.field(record, base, name, "i64"), "int64")

    def is_(self, comparison: str, type_: str, x: str, y: str) -> str:
        return self.let(f"icmp {comparison} {type_} {x}, {y}")

    def require(self, condition: str, otherwise: str) -> None:
        """Go on if the i1 holds, else jump to the label."""
        here = self.fresh("ok")
        self.line(f"br i1 {condition}, label %{here}, label %{otherwise}")
        self.label(here)

    def call(self, name: str, *args: str) -> str:
        """Call a C function or one of the module's own with typed texts.  Returns the result's name, empty for void."""
        result = self._results[name]
        text = f"call {result} @{name}({', '.join(args)})"
        if result == "void":
            self.line(text)
            return ""
        return self.let(text)
