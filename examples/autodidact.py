"""A differentiation compiler on a few screens: trace, differentiate, simplify, schedule, emit, load, call.

A NumPy function becomes a graph, the graph is differentiated by writing more of it, cut into loops, written as LLVM IR
and run: a training step is one native function.  It needs NumPy and llvmlite, and nothing of gradc, whose rooms do the
same in earnest: docs/autodidact.md leads from each function here to its room.  Arrays are float64 and contiguous,
broadcasting adds leading axes, and a product has two matrices.      Run: python examples/autodidact.py
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

import llvmlite.binding as llvm
import numpy as np

# -- ops: what is known of one stands in its record --------------------------------------------------------------------


@dataclass(frozen=True)
class Op:
    """`numpy`: its value.  `pull`: the cotangents of the operands xs from y's, in nodes.  `lower`: one element."""

    name: str
    numpy: Callable
    pull: Callable = lambda ct, y, *xs: ()
    lower: str = ""


def view_of(x, axes, extents):
    """The array with x[i[axes[0]], i[axes[1]], …] at index i: transposes and broadcasts are both that."""
    thin = [n if k in axes else 1 for k, n in enumerate(extents)]
    return np.broadcast_to(x.transpose(np.argsort(axes)).reshape(thin), extents)


def pull_view(ct, y, x):
    """An element collects from all places that read it: a sum over the repeated axes, then x's order of axes."""
    axes = y.attrs["axes"]
    summed = ct.sum(tuple(k for k in range(len(y.shape)) if k not in axes))
    return (view(summed, x.shape, tuple(int(k) for k in np.argsort(axes))),)


def pull_sum(ct, y, x):
    """Every element that was added receives the cotangent of its sum."""
    return (view(ct, x.shape, tuple(k for k in range(len(x.shape)) if k not in y.attrs["axes"])),)


INPUT, CONSTANT = Op("input", lambda: None), Op("constant", lambda value: np.float64(value))
VIEW, SUM = Op("view", view_of, pull_view), Op("sum", lambda x, axes: np.sum(x, axis=axes), pull_sum)
ELEMENTWISE = {
    np.add: Op("add", np.add, lambda ct, y, a, b: (ct, ct), "fadd {fast} double {}, {}"),
    np.subtract: Op("subtract", np.subtract, lambda ct, y, a, b: (ct, -ct), "fsub {fast} double {}, {}"),
    np.multiply: Op("multiply", np.multiply, lambda ct, y, a, b: (ct * b, ct * a), "fmul {fast} double {}, {}"),
    np.divide: Op("divide", np.divide, lambda ct, y, a, b: (ct / b, -ct * y / b), "fdiv double {}, {}"),
    np.negative: Op("negative", np.negative, lambda ct, y, x: (-ct,), "fneg double {}"),
    np.exp: Op("exp", np.exp, lambda ct, y, x: (ct * y,), "call double @exp(double {})"),
    np.log: Op("log", np.log, lambda ct, y, x: (ct / x,), "call double @log(double {})"),
    np.tanh: Op("tanh", np.tanh, lambda ct, y, x: (ct * (1 - y * y),), "call double @tanh(double {})"),
}

# -- trace: a function is called on nodes, and what it does with them is written down ----------------------------------


@dataclass(eq=False)
class Node(np.lib.mixins.NDArrayOperatorsMixin):
    """A value of the graph.  NumPy's functions find `__array_ufunc__`; the mixin makes the operators of it."""

    op: Op
    args: tuple
    shape: tuple
    attrs: dict = field(default_factory=dict)
    __eq__, __hash__ = object.__eq__, object.__hash__

    def __array_ufunc__(self, ufunc, method, *xs):
        if ufunc is np.matmul:
            return matmul(*xs)
        return elementwise(ELEMENTWISE[ufunc], *xs) if method == "__call__" else NotImplemented

    def sum(self, axis=None, out=None):
        axes = range(len(self.shape)) if axis is None else np.atleast_1d(axis).tolist()
        axes = tuple(k % len(self.shape) for k in axes)
        kept = tuple(n for k, n in enumerate(self.shape) if k not in axes)
        return make(SUM, (self,), kept, axes=axes) if axes else self

    @property
    def T(self):
        return view(self, self.shape[::-1], tuple(reversed(range(len(self.shape)))))


MADE = WeakValueDictionary()


def make(op, args, shape, **attrs):
    """The node, or the equal one that is there already, which is common-subexpression elimination."""
    return MADE.setdefault((op.name, *map(id, args), shape, repr(attrs)), Node(op, tuple(args), shape, attrs))


def elementwise(op, *xs):
    nodes = [x if isinstance(x, Node) else make(CONSTANT, (), (), value=float(x)) for x in xs]
    shape = max((x.shape for x in nodes), key=len)
    return simplified(op, [view(x, shape, tuple(range(len(shape) - len(x.shape), len(shape)))) for x in nodes], shape)


def simplified(op, xs, shape):
    """The node of an op on ``xs``, or x itself for x · 1, of which a gradient is full."""
    for x, other in (xs, xs[::-1]) if op.name == "multiply" else ():
        root = other.args[0] if other.op is VIEW else other
        if root.op is CONSTANT and root.attrs["value"] == 1:
            return x
    return make(op, xs, shape)


def view(x, shape, axes):
    """`view_of` x.  A view of a view is one view, and one that changes nothing is none."""
    if x.shape != tuple(shape[k] for k in axes):
        raise TypeError(f"{list(x.shape)} does not broadcast to {list(shape)}")
    if x.op is VIEW:
        return view(x.args[0], shape, tuple(axes[k] for k in x.attrs["axes"]))
    return x if axes == tuple(range(len(shape))) else make(VIEW, (x,), shape, axes=axes, extents=shape)


def matmul(a, b):
    """Σₖ a[i, k] b[k, j]: a product is a multiplication of two views and a sum, and so are its derivatives."""
    space = (*a.shape, b.shape[1])
    return (view(a, space, (0, 1)) * view(b, space, (1, 2))).sum(1)


@dataclass
class Graph:
    inputs: list
    outputs: list

    @property
    def nodes(self):
        """Operands before results.  What no output needs is not there, which is dead-code elimination."""
        seen = {}

        def visit(node):
            if node not in seen:
                for x in node.args:
                    visit(x)
                seen[node] = None

        for node in (*self.inputs, *self.outputs):
            visit(node)
        return list(seen)

    def __str__(self):
        names = {n: f"%{k}" for k, n in enumerate(self.nodes)}
        rows = [
            f"{s} = {n.op.name}({', '.join([names[x] for x in n.args] + [f'{k}={v}' for k, v in n.attrs.items()])})"
            f" : {list(n.shape)}"
            for n, s in names.items()
        ]
        return "\n".join([*rows, "return " + " ".join(names[y] for y in self.outputs)])


def trace(f, *shapes):
    inputs = [Node(INPUT, (), shape) for shape in shapes]
    result = f(*inputs)
    return Graph(inputs, list(result) if isinstance(result, tuple) else [result])


def interpret(graph, *arrays):
    """The graph's value in NumPy, node by node: what compiled code is held against."""
    values = dict(zip(graph.inputs, arrays, strict=True))
    for n in graph.nodes[len(values) :]:
        values[n] = n.op.numpy(*(values[x] for x in n.args), **n.attrs)
    return [values[y] for y in graph.outputs]


# -- differentiate: reverse mode writes more of the same graph ---------------------------------------------------------


def value_and_grad(f):
    """The function that gives f's value, a scalar, and its derivative by each argument: to be called in a trace."""

    def g(*xs):
        y = f(*xs)
        cotangents = {y: make(CONSTANT, (), (), value=1.0)}
        for node in reversed(Graph(xs, [y]).nodes):
            if node in cotangents:
                for x, ct in zip(node.args, node.op.pull(cotangents[node], node, *node.args), strict=True):
                    cotangents[x] = cotangents[x] + ct if x in cotangents else ct
        return y, *(cotangents.get(x, 0.0 * x) for x in xs)

    return g


# -- schedule: what is stored, by a loop nest of its own; the rest is computed where it is read, which is fusion -------


def schedule(graph):
    """The nodes that kernels store, in order: outputs, sums, and what would be computed more than once."""
    readers = {n: [r for r in graph.nodes if n in r.args] for n in graph.nodes}

    def stored(n):
        repeated = len(readers[n]) > 1 or any(r.op is VIEW and len(r.shape) > len(n.shape) for r in readers[n])
        return n.op is not INPUT and (n in graph.outputs or n.op is SUM or (n.op.lower and repeated))

    return [n for n in graph.nodes if stored(n)]


# -- emit: LLVM IR, one loop nest per kernel ---------------------------------------------------------------------------


class Writer:
    def __init__(self, pointers):
        self.pointers, self.slots, self.lines, self.count, self.known = pointers, [], [], 0, {}

    def value(self, instruction, to=None):
        self.count += 1
        (self.lines if to is None else to).append(f"%v{self.count} = {instruction}")
        return f"%v{self.count}"

    @contextmanager
    def loop(self, extent):
        """A loop around what is written meanwhile.  Its counter is a slot on the stack; LLVM makes it a register."""
        slot = self.value("alloca i64", self.slots)
        head = f"loop{self.count}"
        self.lines += [f"store i64 0, ptr {slot}", f"br label %{head}", f"{head}:"]
        index = self.value(f"load i64, ptr {slot}")
        yield index
        following = self.value(f"add nuw nsw i64 {index}, 1")
        again = self.value(f"icmp ult i64 {following}, {extent}")
        self.lines += [f"store i64 {following}, ptr {slot}", f"br i1 {again}, label %{head}, label %{head}.end"]
        self.lines += [f"{head}.end:"]

    def address(self, node, index):
        at = "0"
        for i, n in zip(index, node.shape, strict=True):
            at = self.value(f"add nsw i64 {self.value(f'mul nsw i64 {at}, {n}')}, {i}")
        return self.value(f"getelementptr double, ptr {self.pointers[node]}, i64 {at}")

    def element(self, node, index, own=False):
        """One element: loaded if it is stored (and not this kernel's ``own``), else computed here, once."""
        if (node, *index) not in self.known:
            if node in self.pointers and not own:
                found = self.value(f"load double, ptr {self.address(node, index)}")
            elif node.op is CONSTANT:
                found = f"0x{np.float64(node.attrs['value']).view(np.uint64):016X}"
            elif node.op is VIEW:
                found = self.element(node.args[0], [index[k] for k in node.attrs["axes"]])
            else:
                xs = [self.element(x, index) for x in node.args]
                found = self.value(node.op.lower.format(*xs, fast="reassoc contract"))
            self.known[node, *index] = found
        return self.known[node, *index]

    def kernel(self, node):
        """Loops over the node's axes and, within, over those that it sums."""
        x, summed = (node.args[0], node.attrs["axes"]) if node.op is SUM else (node, ())
        kept, self.known = [k for k in range(len(x.shape)) if k not in summed], {}
        with ExitStack() as loops:
            index = {k: loops.enter_context(self.loop(x.shape[k])) for k in kept}
            target = self.address(node, list(index.values()))
            if summed:
                self.lines.append(f"store double 0.0, ptr {target}")
            with ExitStack() as inner:
                index |= {k: inner.enter_context(self.loop(x.shape[k])) for k in summed}
                result = self.element(x, [index[k] for k in sorted(index)], own=not summed)
                if summed:
                    sofar = self.value(f"load double, ptr {target}")
                    result = self.value(f"fadd reassoc contract double {sofar}, {result}")
                self.lines.append(f"store double {result}, ptr {target}")


def emit(graph, kernels):
    writer = Writer({n: f"%p{k}" for k, n in enumerate((*graph.inputs, *kernels))})
    for node in kernels:
        writer.kernel(node)
    arguments = ", ".join(f"ptr noalias {p}" for p in writer.pointers.values())
    declared = {f"declare double @{n.op.name}(double)" for n in graph.nodes if n.op.lower.startswith("call")}
    body = ["entry:", *writer.slots, "br label %begin", "begin:", *writer.lines, "ret void"]
    return "\n".join([*declared, f"define void @step({arguments}) {{", *body, "}"])


# -- load and call -----------------------------------------------------------------------------------------------------


class Compiled:
    """A graph as one native function: ``.graph``, ``.kernels``, ``.llvm``; a call takes and returns arrays."""

    def __init__(self, f, *shapes):
        self.graph = trace(f, *shapes)
        self.kernels = schedule(self.graph)
        self.llvm = emit(self.graph, self.kernels)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_default_triple().create_target_machine(opt=3, cpu=llvm.get_host_cpu_name())
        module = llvm.parse_assembly(self.llvm)
        module.verify()
        passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
        passes.getModulePassManager().run(module, passes)
        self.engine = llvm.create_mcjit_compiler(module, machine)
        self.engine.finalize_object()
        pointers = [ctypes.c_void_p] * (len(shapes) + len(self.kernels))
        self.native = ctypes.CFUNCTYPE(None, *pointers)(self.engine.get_function_address("step"))

    def __call__(self, *arrays):
        places = {n: np.empty(n.shape) for n in self.kernels}
        for n, a in zip(self.graph.inputs, arrays, strict=True):
            places[n] = np.ascontiguousarray(np.broadcast_to(a, n.shape), float)
        self.native(*(places[n].ctypes.data for n in (*self.graph.inputs, *self.kernels)))
        return [places[y] for y in self.graph.outputs]


# -- a network, and its training step as one native function -----------------------------------------------------------


def loss(W, b, v, X, y):
    """Mean logistic loss of a network with one hidden layer, labels ±1."""
    z = np.tanh(X @ W + b) @ v
    return np.sum(np.log(1 + np.exp(-y * z))) / y.shape[0]


def step(W, b, v, X, y, rate=0.5):
    L, dW, db, dv = value_and_grad(lambda *weights: loss(*weights, X, y))(W, b, v)
    return L, W - rate * dW, b - rate * db, v - rate * dv


def main(steps=2000):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (200, 2))
    y = np.where(X[:, :1] * X[:, 1:] > 0, 1.0, -1.0)  # which quadrants: no line separates them
    weights = [rng.standard_normal((2, 16)), np.zeros(16), rng.standard_normal((16, 1))]
    compiled = Compiled(step, *(a.shape for a in (*weights, X, y)))
    print(compiled.llvm, "\n")
    print(compiled.graph, f"\n{len(compiled.graph.nodes)} nodes, {len(compiled.kernels)} of them stored by kernels")
    for _ in range(steps):
        L, *weights = compiled(*weights, X, y)
    print(f"loss {L:.4f} after {steps} steps")
    return float(L)


if __name__ == "__main__":
    main()
