"""jit, compile and train_step: Python functions to native functions.

`jit` compiles lazily, once per tree structure, leaf shapes and dtypes, and static values.  Called inside a trace it
is traced once for the same.  Its graph is inlined where it is small: what it computes can be fused with what stands
around it.  A larger one is a body that all calls share, in the graph, its derivatives and the code, so that functions
which call each other n deep cost n bodies; one that is called at a single place is inlined after all (`passes.inline`).
`compile` is the same ahead of time, from `spec`s.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

import gradc.numpy as gnp
from gradc.api.chosen import Names, chosen
from gradc.api.collector import collecting_later
from gradc.api.derivatives import ValueAndGradient, grad, jvp, title_of, value_and_grad
from gradc.api.dispatched import Dispatched
from gradc.api.measures import Measures, measures_of, measuring
from gradc.api.step_arguments import ABSENT, PAIRS, refuse_other_arguments, same_kind
from gradc.api.transform import name_to_travel_by
from gradc.api.versions import Key, Versions
from gradc.aval import Aval, computed_in, is_number
from gradc.containers import Pinned, flatten, leaves_of, tree_map
from gradc.errors import DTypeError, TraceError
from gradc.graph import Graph
from gradc.machines.budget import Budget
from gradc.machines.options import Options, OwnMemory, watched
from gradc.machines.table import machine_for
from gradc.node import Node, as_node, describe, here, made_in
from gradc.ops.control import own_size
from gradc.ops.elementwise import cast
from gradc.passes import cse
from gradc.process import load_module
from gradc.trace import argument_names, aval_of, called, function_name, open_traces, run, trace
from gradc.tree import ravel

if TYPE_CHECKING:
    from gradc.api.executable import Executable
    from gradc.optim import Optimizer

#: Of how many argument shapes a function keeps the graph for calls inside traces.
MOST_KEPT = 64

#: A function of fewer nodes becomes part of the trace that calls it; one of so many stands once for all calls.  A call
#: is one node, so small functions that call each other grow until they are large enough to be called.
FEWEST_SHARED = 64

#: jitted functions that are being traced, each with what it is traced for
_running: ContextVar[frozenset[tuple[int, Hashable]]] = ContextVar("gradc_jitted_traces", default=frozenset())

_ARRAY = {np.ndarray}


class Jitted(Dispatched):
    """A function that compiles itself for the arguments it meets; see `jit`."""

    def __init__(self, f: Callable[..., Any], static: Names = (), donate: Names = (), options: Options | None = None):
        functools.update_wrapper(self, f, updated=())
        self.function = f
        self.title = function_name(f)
        self.static = chosen(f, static, "static")
        self.donate = chosen(f, donate, "donate")
        self.options = options or Options()
        if both := {*self.static.positions, *self.static.names} & {*self.donate.positions, *self.donate.names}:
            shared = min(both, key=str)
            raise TypeError(f"{here()}: {self.title}: argument {shared!r} cannot be both static and donated")
        self._versions: Versions[Executable] = Versions(f, self.title, self.options.versions)
        self._graphs: dict[Hashable, Graph] = {}  #: what calls inside traces are replaced by, newest last

    def call_any(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The call when it is not one for the version called last: find its version, or compile it, or inline it."""
        if self.static:
            args, kwargs = self._pin(args, kwargs)
        leaves, structure = leaves_of((args, kwargs))
        if not _all_arrays(leaves):
            leaves = [_as_argument(x) for x in leaves]
            args, kwargs = structure.unflatten(leaves)
        try:
            key = (structure, tuple([(x.shape, x.dtype) if type(x) is np.ndarray else _leaf_key(x) for x in leaves]))
        except DTypeError:
            self._name_the_culprit(args, kwargs)
            raise
        executable = self._versions.get(key)
        if executable is None or open_traces.get():
            made = self._compile_or_inline(args, kwargs, leaves, key)
            if isinstance(made, _Inlined):
                return made.value
            executable = made
        if executable.dispatched is not None:
            self.prefer(executable.dispatched)
        return executable.call_flat(leaves)

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"a jitted function has no attribute {name!r}; what one compiled version has, such as .save and .stats, "
            "is an attribute of  f.lower(*args)"
        )

    def _name_the_culprit(self, args: Any, kwargs: Any) -> None:
        """Raise for the argument that cannot be one, by its name."""
        leaves, paths, _ = flatten((args, kwargs))
        for leaf, name in zip(leaves, argument_names(self.function, args, kwargs, paths), strict=True):
            aval_of(leaf, name)

    @collecting_later
    def lower(self, *args: Any, **kwargs: Any) -> Executable:
        """The Executable for these arguments (arrays or `spec`s), compiled now if need be."""
        if self.static:
            args, kwargs = self._pin(args, kwargs)
        leaves, structure = leaves_of((args, kwargs))
        key = (structure, tuple(map(_leaf_key, leaves)))
        known = self._versions.get(key)
        if known is None:
            start = perf_counter()
            graph = self._trace(args, kwargs)
            known = self._versions.keep(key, self._compile(graph, args, kwargs, perf_counter() - start))
        return known

    def traced(self, *args: Any, **kwargs: Any) -> tuple[Graph, Options, list[Any]]:
        """What a call with these arguments compiles, with which options, and its flat arguments."""
        if self.static:
            args, kwargs = self._pin(args, kwargs)
        graph = self._trace(args, kwargs)
        return graph, self._options_for(graph, args, kwargs), leaves_of((args, kwargs))[0]

    def clear(self) -> None:
        """Forget every compiled version."""
        self._versions.clear()
        self._graphs.clear()
        self.prefer(None)

    @collecting_later
    def _compile_or_inline(self, args: Any, kwargs: Any, leaves: Sequence[Any], key: Key) -> Executable | _Inlined:
        start = perf_counter()
        graph = self._graphs.get(key)
        if graph is None:
            graph = self._trace(args, kwargs, key)
        seconds = perf_counter() - start
        if graph.free or any(isinstance(x, Node) for x in leaves):
            assert graph.out_tree is not None
            kept = self._kept(graph, key)
            shared = not kept.free and own_size(kept) >= FEWEST_SHARED
            return _Inlined(graph.out_tree.unflatten((called if shared else run)(kept, leaves)))
        known = self._versions.get(key)
        if known is None:
            known = self._versions.keep(key, self._compile(graph, args, kwargs, seconds))
        return known

    def _kept(self, graph: Graph, key: Hashable) -> Graph:
        """The graph of a call inside a trace: traced once, with equal work done once.  One that reads an open trace is
        that trace's alone.
        """
        if graph.free:
            return graph
        known = self._graphs.get(key)
        if known is None:
            if len(self._graphs) >= MOST_KEPT:
                self._graphs.pop(next(iter(self._graphs)), None)
            known = self._graphs[key] = cse(graph)
        return known

    def _trace(self, args: Any, kwargs: Any, key: Hashable = None) -> Graph:
        """The graph for these arguments, whose ``key`` tells them from others."""
        running = _running.get()
        mine = id(self), key
        if key is not None and mine in running:
            raise TraceError(
                f"{here()}: {self.title} calls itself with arguments of the same shapes, dtypes and statics while "
                "it is traced, which would never end.\n  A condition on values is gc.cond or gc.while_loop; a counter "
                "that ends the recursion is a static argument."
            )
        token = _running.set(running | {mine})
        try:
            return self._traced(args, kwargs)
        finally:
            _running.reset(token)

    def _traced(self, args: Any, kwargs: Any) -> Graph:
        f = self.function
        if not self.static:
            return trace(f, *args, **kwargs)

        @functools.wraps(f)
        def unpinned(*inner: Any, **named: Any) -> Any:
            return f(*map(_unpin, inner), **{k: _unpin(v) for k, v in named.items()})

        return trace(unpinned, *args, **kwargs)

    def _compile(self, graph: Graph, args: Any, kwargs: Any, seconds: float) -> Executable:
        load_module("gradc.api.executable")  # and with it LLVM: on the first compilation, not at import
        from gradc.api.executable import Executable

        return Executable(graph, self._options_for(graph, args, kwargs), seconds)

    def _options_for(self, graph: Graph, args: Any, kwargs: Any) -> Options:
        """The options with the donated arguments by their place in the graph."""
        if graph.free:
            raise TraceError(f"{here()}: {self.title} reads values of an open trace and cannot be compiled on its own")
        if named := sorted(kwargs.keys() & {*self.donate.names}):
            raise TypeError(f"{here()}: {self.title}: donated {named[0]} was passed by keyword; pass it by position")
        chosen = sorted(p for p in self.donate.positions if p < len(args))
        donated = donation(graph, chosen, args, kwargs) if self.donate else {}
        budget = self.options.budget
        if budget is not None:
            assert graph.out_tree is not None
            turn = graph.out_tree.unflatten(range(len(graph.outputs)))[budget.result]
            budget = replace(budget, turn=turn)
        return replace(self.options, donate=donated, budget=budget)

    def _pin(self, args: Any, kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        fixed = self.static.positions
        pinned = tuple(self._pinned(a, i) if i in fixed else a for i, a in enumerate(args))
        return pinned, {k: self._pinned(v, k) if k in self.static.names else v for k, v in kwargs.items()}

    def _pinned(self, value: Any, which: int | str) -> Pinned:
        """A static value must be hashable: a mutable one could change behind the compiled function's back.

        And it must be a value, which a traced one is not.
        """
        traced = [] if isinstance(value, _VALUES) else [x for x in leaves_of(value)[0] if isinstance(x, Node)]
        if traced:
            raise TraceError(
                f"{here()}: {self.title}: static argument {which!r} is traced: {describe(traced[0])}.\n"
                "  What is static is compiled in: pass a Python value that no transform traces, or declare it no "
                "longer static."
            )
        try:
            hash(value)
        except TypeError:
            raise TypeError(
                f"{here()}: {self.title}: static argument {which!r} must be hashable, got {type(value).__name__}; "
                "pass a tuple instead of a list, or a frozen dataclass"
            ) from None
        return Pinned(value)

    def __get__(self, instance: Any, owner: Any) -> Any:
        return self if instance is None else functools.partial(self, instance)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """It travels without the compiled versions, which belong to this process; a module's function by its name."""
        given = (self.function, self.static.given, self.donate.given, self.options)
        return name_to_travel_by(self) or (Jitted, given)

    def __repr__(self) -> str:
        return f"<jit of {self.title}, {len(self._versions)} compiled>"


#: what is static as it is
_VALUES = (str, int, float, type(None))


@dataclass(frozen=True, slots=True)
class _Inlined:
    value: Any


def _unpin(value: Any) -> Any:
    return value.value if isinstance(value, Pinned) else value


def _all_arrays(leaves: Sequence[Any]) -> bool:
    return set(map(type, leaves)) <= _ARRAY


def _as_argument(leaf: Any) -> Any:
    """What NumPy takes for an array (a memoryview, an array of another library) as one; other things as they are."""
    if isinstance(leaf, (np.ndarray, np.generic, Node, Aval, int, float)):
        return leaf
    try:
        array = np.asarray(leaf)
    except Exception:  # an object of any class may refuse in any way; its aval says so in words
        return leaf
    return array if is_number(array.dtype) else leaf


def _leaf_key(leaf: Any) -> Hashable:
    aval = aval_of(leaf)
    return (aval.shape, aval.dtype, True) if aval.weak else (aval.shape, aval.dtype)


def donation(graph: Graph, arguments: Sequence[int], args: Any, kwargs: Any) -> dict[int, int]:
    """flat input -> flat output for donated arguments: the output at the same tree path, of the same aval."""
    _, in_paths, _ = flatten((args, kwargs))
    assert graph.out_tree is not None
    _, out_paths, _ = flatten(graph.out_tree.unflatten(graph.outputs))
    places = {path: j for j, path in enumerate(out_paths)}
    alone = places if len(arguments) == 1 else {}
    pairs: dict[int, int] = {}
    for i, path in enumerate(in_paths):
        if path[0] != 0 or path[1] not in arguments:
            continue
        j = places.get(path[1:], alone.get(path[2:]))
        name = graph.names.get(graph.inputs[i], f"argument {i}")
        if j is None:
            raise TypeError(
                f"{here()}: {graph.title}: donated {name} has no result at the same place; return it there, or do not "
                "donate"
            )
        given, result = graph.inputs[i].aval, graph.outputs[j].aval
        if (given.shape, given.dtype) != (result.shape, result.dtype):
            raise TypeError(
                f"{here()}: {graph.title}: donated {name} is {given}, the result at its place is {result}; they must "
                "match"
            )
        pairs[i] = j
    return pairs


def jit(
    f: Callable[..., Any] | None = None,
    *,
    static: Names = (),
    donate: Names = (),
    threads: int | None = None,
    fp: str = "ieee",
    cpu: str | None = None,
    debug: bool | str = False,
    check: bool | None = None,
    verify: str = "",
    show: Sequence[str] | None = None,
    versions: int | None = None,
    check_nans: bool | str | Sequence[str] = False,
) -> Any:
    """Compile ``f`` to one native function, lazily per shape.

    ``static``: arguments (positions or names) that are Python values, part of the cache key; bool, str, None, Enum,
    dtype and callable leaves are static by nature.  ``donate``: arguments whose storage becomes the result at the same
    place in the tree: updated in place, the same ndarray comes back.  ``threads``: how many may share the work
    (default: OMP_NUM_THREADS, or else the CPUs this process may use); any number gives the same bits.  ``fp``: "ieee"
    (default: + − × ÷ √ bit-equal to NumPy), "contract" (a·b + c in one rounding) or "fast" (any order, no NaN or
    infinity, subnormal numbers are zero).  ``cpu``: a level of CPUs, "x86-64", "x86-64-v2", "x86-64-v3" or "x86-64-v4":
    nothing more is asked of them, and the result has the same bits on every machine of that level (default: all that
    this CPU has).  ``debug``: carry the lines of your source through to the machine code as
    debug locations (the instructions stay the same): ``.asm`` has them, and what ``.save`` writes shows your Python
    file in gdb, perf and objdump.  ``debug="bounds"``: beside that each access is checked, and one outside of the
    buffers of its kernel raises CompileError with the kernel and the line instead of being made (many times slower, and
    calls of the function wait for each other).  ``check``: verify the graph between passes, and the schedule behind
    them (default: GRADC_CHECK).  ``verify="first"``: the first call of each compiled version is compared with the
    interpreter, within the error bounds of both (NaN in both counts as equal;
    ``f.lower(*args).stats["verified"]`` says how many); a difference raises VerificationError, which names
    the kernel and the node that is wrong first.  Donated arguments are overwritten by then; `Executable.bind` is
    not compared.  ``show``: stages to print to standard error while
    compiling, of "graph", "optimised", "schedule", "llvm", "asm" (default: GRADC_SHOW).  ``versions``: how many kinds
    of arguments the function stays compiled for (default: 128); of more, the least recently used version goes, and a
    `VersionsWarning` names the argument that varies.  ``check_nans=True``: a result that holds a NaN raises
    `NumericalError`, which says where the first NaN on the way to it was made, and of what (`gc.trace_nans`); or some
    of "nan", "overflow" (an infinity) and "denormal" (a subnormal number).  Usable as a decorator.

    >>> import gradc as gc, numpy as np
    >>> gc.jit(lambda x: np.sin(x) * x)(np.arange(3.0)).shape
    (3,)
    """
    if f is None:
        return lambda inner: jit(
            inner, static=static, donate=donate, threads=threads, fp=fp, cpu=cpu, debug=debug, check=check,
            verify=verify, show=show, versions=versions, check_nans=check_nans,
        )  # fmt: skip
    if not callable(f):
        raise TypeError(f"{here()}: jit expects a function, got {type(f).__name__}")
    given = {
        "cpu": cpu, "threads": threads, "check": check, "versions": versions,
        "show": None if show is None else tuple(show),
    }  # fmt: skip
    options = _options(fp=fp, debug=debug, verify=verify, watch=watched(check_nans), **given)
    return Jitted(f, static, donate, options)


def _options(**given: Any) -> Options:
    """Options with their defaults for whatever is None."""
    return Options(**{name: value for name, value in given.items() if value is not None})


def compile(
    f: Callable[..., Any],
    *specs: Any,
    target: str = "cpu",
    static: Names = (),
    donate: Names = (),
    threads: int | None = None,
    fp: str = "ieee",
    cpu: str | None = None,
    precision: str = "ieee",
    debug: bool | str = False,
    verify: str = "",
    check_nans: bool | str | Sequence[str] = False,
    **kwargs: Any,
) -> Executable:
    """Compile ``f`` ahead of time for arguments described by ``specs`` (arrays, numbers or `gradc.spec`); see `jit`.

    ``target``: "cpu", this machine; or an NVIDIA GPU by its architecture, "sm_75", "sm_80", "sm_86", "sm_89", "sm_90",
    "sm_100", "sm_120": then the result has ``.ptx`` and ``.plan``, which need no GPU, and takes arrays on the device.
    ``precision``: of float32 products and convolutions on a GPU, "ieee" (default) or "tf32": from sm_80 on tensor cores
    multiply operands rounded to 11 bits and add up in float32.
    Raises CompileError for an unknown target, and for a precision or an op that the target lacks.
    """
    given = {"threads": threads, "cpu": cpu, "target": target}
    watch = watched(check_nans)
    options = _options(fp=fp, precision=precision, debug=debug, verify=verify, watch=watch, **given)
    machine_for(options)  # refuses what it does not know before anything is traced
    return Jitted(f, static, donate, options).lower(*specs, **kwargs)


def train_step(
    loss: Callable[..., Any],
    optimizer: Optimizer,
    has_aux: bool = False,
    donate: bool = True,
    threads: int | None = None,
    verify: str = "",
    memory: int | str | None = None,
    has_state: bool = False,
    measure: str | Sequence[str] = (),
    check_nans: bool | str | Sequence[str] = False,
) -> Jitted:
    """One training step as one native function: ``step(params, state, *batch) -> (params, state, loss)``.

    ``loss(params, *batch)`` returns a float scalar (or ``(scalar, aux)`` with ``has_aux=True``; then the step returns
    ``(params, state, loss, aux)``).  ``threads`` and ``verify`` as in `jit`.  Inside another trace the step is inlined.

    ``has_state``: the model has a state of its own that no optimizer moves, such as the running statistics of batch
    normalisation, a tree of arrays: ``loss(params, model_state, *batch)`` returns ``(scalar, model_state)``, or
    ``(scalar, (model_state, aux))`` with ``has_aux``, and the step is
    ``step(params, state, model_state, *batch) -> (params, state, model_state, loss)``, with aux behind.  The new model
    state has the structure, shapes and dtypes of the old one, TypeError otherwise.

    ``measure``: numbers that the step returns beside all else, as a dict that comes last: "gradient_norm", the norm of
    the gradient over all parameters before the optimizer sees it, and "learning_rate", at which the step was taken (see
    `gradc.optim.reading.Rates`).  The dict has no rate where the optimizer has none.

    With ``donate`` the step updates params and states in place, and returns the same arrays again, but only those that
    it returned before: arrays of yours are copied the first time and never written into, and so are views of results
    and arrays that stand at two places.  So go on with what comes back; to keep a snapshot of an earlier result, copy
    it: ``best = gc.tree.map(np.copy, params)``.

    ``check_nans`` as in `jit`.  Then nothing is updated in place: a step whose results hold a NaN raises
    `NumericalError` and the params and state that it was given are those before it.

    ``memory``: the most scratch memory that a call may take, in bytes or in words such as "12MB" or "64KiB"; the
    arguments and results lie outside of it.  Where what the backward pass reads of the forward pass takes more, parts
    of that are computed again: first what is cheap, then segments of the pass, cut where least crosses, as few as
    suffice.  The results keep their bits.  ``step.lower(...).stats["notes"]`` says what was done, what is kept for the
    backward pass, and the scratch with and without.  A first call raises CompileError where no cut is small enough,
    and names the least.
    """
    from gradc import optim  # who trains nothing waits for no optimizers

    made: Any = optimizer
    if not isinstance(made, tuple) or len(made) != 2:
        raise TypeError(f"{here()}: train_step expects an optimizer such as gc.optim.adam(1e-3), got {optimizer!r:.60}")
    title_of(loss, "train_step")
    wanted = measures_of(measure)
    kind: Any = functools.partial(MeasuredStep, wanted) if wanted else Step
    step = kind(loss, optim.Optimizer(*optimizer), has_aux, has_state)
    watch = watched(check_nans)
    donate = donate and not watch
    own = OwnMemory() if donate else None
    updated = (0, 1, 2) if has_state else (0, 1)
    budget = None if memory is None else Budget.of(memory, len(updated), "train_step")
    given = {"threads": threads, "memory": own, "budget": budget}
    return Jitted(step, (), updated if donate else (), _options(verify=verify, watch=watch, **given))


class Step:
    """What `train_step` compiles: loss, gradient, and the optimizer's update of the parameters."""

    def __init__(self, loss: Callable[..., Any], optimizer: Optimizer, has_aux: bool, has_state: bool = False):
        self.scaled = hasattr(optimizer.update, "differentiated")  # mixed precision has a loss of its own
        self.loss = optimizer.update.loss_of(loss) if self.scaled else loss  # type: ignore[attr-defined]
        self.optimizer, self.has_aux, self.has_state = optimizer, has_aux, has_state
        self.has_more = has_aux or has_state  #: whether the loss returns a pair
        self.value_of = ValueAndGradient(self.loss, 0, self.has_more, "reverse", PAIRS[has_state, has_aux])
        self.__name__ = f"{function_name(loss)}_step"

    def __call__(self, params: Any = ABSENT, state: Any = ABSENT, *batch: Any) -> Any:
        refuse_other_arguments(self.__name__, self.loss, self.has_state, params, state, batch)
        value, grads = self.value_and_gradient(state, params, batch)
        loss = value[0] if self.has_more else value
        elsewhere: dict[str, Callable[..., Any]] = {
            "grad_fn": self.gradient_at, "hessian_fn": self.hessian_at, "residual_fn": self.residuals_at,
            "factors_fn": functools.partial(self.factors_at, params), "hessian_product_fn": self.hessian_product_at,
        }  # fmt: skip
        more = {"value": loss, "grad": grads} | {k: functools.partial(f, batch) for k, f in elsewhere.items()}
        as_stored: dict[str, Callable[..., Any]] = {"value_fn": self.loss_as_stored, "line_search": self.line_search}
        more |= {k: functools.partial(f, params, batch) for k, f in as_stored.items()}
        more |= {"scaled": True} if self.scaled else {}
        more["trust_step"] = self.trust_step
        from gradc.optim.rules import updated
        from gradc.optim.transforms import apply_updates

        token = made_in.set("update")
        try:
            updates, new_state = updated(self.optimizer, grads, state, params, more)
            moved = apply_updates(params, updates)
        finally:
            made_in.reset(token)
        return (moved, new_state, *self.results(value, batch))

    def results(self, value: Any, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """What the step returns of that which the loss returned: the model's new state, the loss, and aux."""
        if not self.has_state:
            return tuple(value) if self.has_aux else (value,)
        if not self.has_aux:
            return same_kind(self.__name__, batch[0], value[1]), value[0]
        if not isinstance(value[1], tuple | list) or len(value[1]) != 2:
            raise TypeError(
                f"{here()}: {self.__name__}: with has_state and has_aux the loss returns (loss, (model_state, aux))"
            )
        return same_kind(self.__name__, batch[0], value[1][0]), value[0], value[1][1]

    def value_and_gradient(self, state: Any, params: Any, batch: tuple[Any, ...]) -> tuple[Any, Any]:
        """What the loss returns, and the gradient that the optimizer asks for: its own, or that of a scaled loss."""
        if not self.scaled:
            result: tuple[Any, Any] = self.value_of(params, *batch)
            return result
        scaled = self.optimizer.update.differentiated(self.loss, state)  # type: ignore[attr-defined]
        (_, value), grads = value_and_grad(scaled, 0, True)(params, *batch)
        if self.has_more and (not isinstance(value, tuple) or len(value) != 2):
            said, _, wanted = PAIRS[self.has_state, self.has_aux].partition(": ")
            raise TypeError(f"{here()}: {said}: {function_name(self.loss)} must return a pair {wanted}")
        return value, grads

    @property
    def alone(self) -> Callable[..., Any]:
        """The loss by itself, under the names of its own signature."""
        if not self.has_more:
            return self.loss

        @functools.wraps(self.loss)
        def alone(params: Any, *batch: Any) -> Any:
            return self.loss(params, *batch)[0]

        return alone

    def loss_as_stored(self, stored: Any, batch: tuple[Any, ...], params: Any) -> Any:
        """The loss of other parameters in the dtypes of the stored ones, for optimizers that ask for ``value_fn``."""
        return self.loss_at(batch, _in_dtypes_of(stored, params))

    def loss_at(self, batch: tuple[Any, ...], params: Any) -> Any:
        """The loss of other parameters on the same batch."""
        value = self.loss(params, *batch)
        return value[0] if self.has_more else value

    def gradient_at(self, batch: tuple[Any, ...], params: Any) -> Any:
        """The gradient at other parameters on the same batch, for optimizers that ask for ``grad_fn``."""
        return self.value_of(params, *batch)[1]

    def hessian_at(self, batch: tuple[Any, ...], params: Any) -> Any:
        """The Hessian at other parameters, over all of them as one vector, for who asks for ``hessian_fn``."""
        from gradc.api.jacobian import hessian

        vector, back = ravel(params)
        return hessian(lambda x: self.loss_at(batch, back(x)))(vector)

    def hessian_product_at(self, batch: tuple[Any, ...], params: Any, v: Any) -> Any:
        """The Hessian at other parameters times a tree like them, for ``hessian_product_fn``: no matrix is built."""
        start, back = ravel(params)
        slope = grad(lambda x: self.loss_at(batch, back(x)))
        return back(jvp(slope, (start,), (cast(as_node(ravel(v)[0]), start.dtype),))[1])

    def residuals_at(self, batch: tuple[Any, ...], params: Any) -> tuple[Any, Any]:
        """The residuals of a sum of squares at other parameters, and their Jacobian, for ``residual_fn``."""
        from gradc.api.jacobian import jacobian

        residuals = getattr(self.loss, "residuals", None)
        if residuals is None and self.scaled:
            raise TypeError(
                f"{here()}: {self.__name__}: Gauss–Newton steps read residuals off the loss, and mixed precision gives "
                "them another: one with its products in 16 bits.\n  Give gc.train_step the optimizer without "
                "gc.mixed_precision around it."
            )
        if residuals is None:
            raise TypeError(
                f"{here()}: {self.__name__}: Gauss–Newton steps read residuals: the loss is "
                "gc.optim.sum_of_squares(residuals)"
            )
        vector, back = ravel(params)

        def flat(x: Any) -> Any:
            return ravel(residuals(back(x), *batch))[0]

        return flat(vector), jacobian(flat)(vector)

    def factors_at(self, now: Any, batch: tuple[Any, ...], params: Any, examples: int | None = None) -> Any:
        """The Kronecker factors at other parameters, for ``factors_fn``; where ``params`` has None the parameter stays
        as it is ``now`` and has no factors.
        """
        from gradc.api.kronecker import kfac_factors

        leaves, structure = leaves_of(now)

        def loss(params: Any, *batch: Any) -> Any:
            given = structure.parts_of(params)
            whole = structure.unflatten(x if p is None else p for p, x in zip(given, leaves, strict=True))
            return self.loss_at(batch, whole)

        return kfac_factors(loss, examples)(params, *batch)

    def line_search(
        self, stored: Any, batch: tuple[Any, ...], params: Any, value: Any, grads: Any, direction: Any, first: Any,
        curvature: float,
    ) -> Any:  # fmt: skip
        """How far to go along a direction by the strong Wolfe conditions, 0 where they are not met.

        Losses and slopes are those of parameters as they will be stored, rounded to their dtypes.
        """
        from gradc.optim.rules import number, times
        from gradc.optim.transforms import apply_updates
        from gradc.solve.line_search import strong_wolfe

        begin, way = _in_dtypes_of(stored, params), ravel(direction)[0]
        wide = computed_in(np.result_type(as_node(value).dtype, way.dtype))
        way = cast(way, wide)

        def slope(gradient: Any) -> Any:
            return gnp.reshape(gnp.dot(cast(ravel(gradient)[0], wide), way), (1,))

        def value_and_slope(size: Any) -> tuple[Any, Any]:
            value, gradient = self.value_of(apply_updates(begin, times(direction, number(size[0]))), *batch)
            return cast(as_node(value[0] if self.has_more else value), wide), slope(gradient)

        zero, one = np.zeros(1, wide), np.ones(1, wide)
        level, first = cast(as_node(value), wide), cast(as_node(first), wide)
        found = strong_wolfe(value_and_slope, as_node(zero), level, slope(grads), as_node(one), first, curvature)
        return gnp.where(found.done, found.size, 0.0)

    def trust_step(self, model: Any, grads: Any, radius: Any) -> tuple[Any, Any, Any]:
        """Where gᵀd + ½dᵀHd is least in a ball, by how much it falls to there, and whether that is at the border.

        ``model`` is H, a matrix whose eigenvalues are taken, or its product with a tree, for conjugate gradients.
        """
        from gradc.solve import trust

        g, back = ravel(grads)
        size = cast(as_node(radius), g.dtype)
        if callable(model):
            found = trust.truncated(lambda v: cast(ravel(model(back(v)))[0], g.dtype), as_node(g), size, 20 * g.size)
        else:
            found = trust.exact(cast(as_node(model), g.dtype), as_node(g), size)
        return back(found.step), found.promised, found.at_border


class MeasuredStep(Step):
    """A step that also returns numbers by name."""

    def __init__(self, measure: tuple[str, ...], *given: Any):
        super().__init__(*given)
        self.measure = measure

    def __call__(self, params: Any = ABSENT, state: Any = ABSENT, *batch: Any) -> Any:
        measures = Measures(self.measure)
        with measures:
            results = super().__call__(params, state, *batch)
        return (*results, measures.numbers())

    def value_and_gradient(self, state: Any, params: Any, batch: tuple[Any, ...]) -> tuple[Any, Any]:
        value, grads = super().value_and_gradient(state, params, batch)
        measuring(grads, state.scale if self.scaled else None)
        return value, grads


def _in_dtypes_of(stored: Any, params: Any) -> Any:
    """Parameters in the dtypes of those that are stored."""
    return tree_map(lambda p, s: gnp.astype(p, gnp.result_type(s)), params, stored)


__all__ = ["Jitted", "compile", "jit", "train_step"]
