"""An update rule as its paper writes it: one function of a gradient, a parameter and a state.

Enters: a step function ``step(g, p, s, **hyperparameters) -> (update, state)``, a named tuple for its state with the
letters of the paper, and hyperparameters by name.  Leaves: an `Optimizer` for parameters of any nesting.
Invariant: g, p and the fields of s are one array each, wide (narrow floats arrive as float32); a field ``t`` is the
number of this step, 1 at first, and a hyperparameter that is a function of the step has its value: both behave like
Python numbers, so no formula casts.  State keeps the dtypes that ``init`` gave it.  Everything can be pickled if the
functions it is made of stand at the top of a module.  Start reading at `rule`; `docs/optimizers.md` adds one.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple, ParamSpec

import numpy as np

import gradc.numpy as gnp
from gradc.aval import NARROW, Aval, computed_in, is_float
from gradc.containers import Structure, leaves_of, tree_map
from gradc.errors import ShapeError
from gradc.node import OPS, Node, here
from gradc.optim.reading import joined, note_rate, reading, told

Tree = Any
P = ParamSpec("P")
#: a hyperparameter: a number, or a function of the step number (0, 1, 2, …) that gives it
Scalar = float | Callable[[Any], Any]
Schedule = Scalar
#: a dtype, or its name
DType = Any
#: (gradient, parameter, state, **hyperparameters) -> (update, state), of one array each or, for a whole rule, of trees
Step = Callable[..., tuple[Any, Any]]
_FLOAT = np.dtype(np.float64)


class _Pair(NamedTuple):
    init: Callable[[Tree], Tree]
    update: Callable[..., tuple[Tree, Tree]]


class Optimizer(_Pair):
    """``init(params) -> state`` and ``update(grads, state, params) -> (updates, state)``, both pure.

    ``repr`` is the call that made it: ``chain(clip_by_global_norm(1.0), adam(0.001))``.
    """

    call: str = ""  #: how it was made, where that is known

    def __repr__(self) -> str:
        return self.call or super().__repr__()

    def made_by(self, name: str, *args: Any, **kwargs: Any) -> Optimizer:
        """The same, printed as a call of ``name``."""
        made = Optimizer(*self)
        given = [*map(_shown, args), *(f"{key}={_shown(value)}" for key, value in kwargs.items())]
        made.call = f"{name}({', '.join(given)})"
        return made


def called(make: Callable[P, Optimizer]) -> Callable[P, Optimizer]:
    """``make``, whose optimizers are printed as the call that made them."""

    @functools.wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Optimizer:
        return make(*args, **kwargs).made_by(make.__name__, *args, **kwargs)

    return made


#: longer arguments are cut short
SHOWN = 60


def _shown(given: Any) -> str:
    """An argument as a call has it: functions by name, optimizers and schedules by their calls, arrays by shape."""
    if isinstance(given, Optimizer):
        return repr(given)
    if isinstance(given, (list, tuple)) and not hasattr(given, "_fields"):
        inner = ", ".join(map(_shown, given))
        return f"[{inner}]" if isinstance(given, list) else f"({inner}{',' * (len(given) == 1)})"
    if isinstance(given, dict):
        return f"{{{', '.join(f'{key!r}: {_shown(value)}' for key, value in given.items())}}}"
    if isinstance(given, partial):
        parts = [*map(_shown, given.args), *(f"{name}={_shown(value)}" for name, value in given.keywords.items())]
        return f"{_name(given.func)}({', '.join(parts)})"
    if isinstance(given, type) or inspect.isroutine(given):
        return _name(given)
    if isinstance(given, (Node, np.ndarray)) and gnp.ndim(given):
        return f"array of shape {gnp.shape(given)}"
    return _cut(given)


def _name(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__)).strip("_")


def _cut(given: Any) -> str:
    """`repr`, cut short in the middle."""
    text = repr(given)
    return text if len(text) <= SHOWN else f"{text[: SHOWN // 2]}…{text[-SHOWN // 4 :]}"


class EmptyState(NamedTuple):
    """The state of a transformation that has none."""


class CountState(NamedTuple):
    t: Any  #: int64 scalar: steps taken


class ScheduledState(NamedTuple):
    """The state of a rule that counts no steps, some of whose hyperparameters are functions of the step."""

    t: Any  #: int64 scalar: steps taken
    inner: Any


@called
def rule(
    step: Step,
    state: type = EmptyState,
    *,
    start: Mapping[str, Any] | None = None,
    whole: bool = False,
    wants: Iterable[str] = (),
    dtypes: Mapping[str, DType] | None = None,
    **hyperparameters: Any,
) -> Optimizer:
    """The optimizer, or part of one, that updates each parameter by ``step``.

    ``state``: a named tuple; its field ``t``, if there is one, counts steps, and each other field begins as zeros like
    the parameter, or as ``start`` says by name: a number, or a function of the parameter.  ``whole``: the step works on
    whole trees, for rules that join parameters; its starts are functions of the tree.  ``wants``: what the step needs
    beside gradients: "params", or keywords of ``update`` that it is then given: "value", "value_fn", "grad_fn".
    ``dtypes``: in which dtype fields are kept between steps, None for that of the parameters, float32 for narrow ones.

    >>> import numpy as np
    >>> def _halved(g, p, s, rate):
    ...     return -rate * g / 2, s
    >>> optimizer = rule(_halved, rate=0.5)
    >>> optimizer.update(np.array([4.0]), optimizer.init(np.ones(1)))[0]
    array([-1.])
    """
    given: Any = state
    if not (isinstance(given, type) and issubclass(given, tuple) and hasattr(given, "_fields")):
        raise TypeError(f"{here()}: the state of a rule is a class of named tuples, got {state!r:.60}")
    for name, value in hyperparameters.items():
        _refuse_unless_number(name, value)
        _refuse_outside(name, value, "t" in _fields(state))
    kept = {name: dtype for name, dtype in (dtypes or {}).items() if dtype is not None}
    made = Rule(step, state, dict(start or {}), whole, tuple(wants), kept, hyperparameters)
    return Optimizer(made.init, made.update)


@dataclass(frozen=True, eq=False)
class Rule:
    """What `rule` was told; ``hyperparameters`` by name, as they were given."""

    step: Step
    state: type
    start: Mapping[str, Any]
    whole: bool
    wants: tuple[str, ...]
    dtypes: Mapping[str, DType]
    hyperparameters: Mapping[str, Any]
    #: what hyperparameters are called where the user gave them, if not as here
    outer: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """What messages call it."""
        step = self.step.func if isinstance(self.step, partial) else self.step
        return getattr(step, "__name__", "rule").strip("_").replace("_", " ")

    @property
    def counts(self) -> bool:
        """Whether its own state counts steps."""
        return "t" in _fields(self.state)

    @property
    def scheduled(self) -> bool:
        """Whether the state of a rule that counts no steps needs to: some hyperparameter is a function of the step."""
        return not self.counts and any(callable(h) for h in self.hyperparameters.values())

    def init(self, params: Tree) -> Tree:
        """The state before the first step."""
        parts = {name: counter() if name == "t" else self._begin(name, params) for name in _fields(self.state)}
        state = self.state(**parts)
        if not self.scheduled:
            return state
        return CountState(counter()) if self.state is EmptyState else ScheduledState(counter(), state)

    def _begin(self, name: str, params: Tree) -> Tree:
        """A field of the state before the first step."""
        start = self.start.get(name, 0.0)
        if self.whole and name in self.start:
            made = start(params)
        else:
            leaves, structure = leaves_of(params)
            begin = start if callable(start) else lambda p: filled(p, start)
            made = structure.of_arrays.unflatten(map(begin, leaves))
        dtype = self.dtypes.get(name)
        return made if dtype is None else stored_in(made, dtype)

    def update(self, grads: Tree, state: Tree, params: Tree = None, **extra: Any) -> tuple[Tree, Tree]:
        """One step."""
        if "params" in self.wants and params is None and leaves_of(grads)[0]:
            raise ValueError(f"{here()}: {self.title} needs the parameters: call update(grads, state, params)")
        wanted = {name: self._wanted(name, extra) for name in self.wants if name != "params"}
        count, own = self._opened(state)
        numbers = self.hyperparameters.items()
        given = {name: _at(count, self.outer.get(name, name), value) for name, value in numbers} | wanted
        if "learning_rate" in given:
            note_rate(self.hyperparameters["learning_rate"], given["learning_rate"])
        with np.errstate(all="ignore"):  # numbers that are no longer finite are data, as they are when compiled
            stepped = self._whole(grads, own, params, given) if self.whole else self._each(grads, own, params, given)
        updates, new = stepped
        if not self.scheduled:
            return updates, new
        return updates, CountState(count + 1) if self.state is EmptyState else ScheduledState(count + 1, new)

    def _wanted(self, name: str, extra: Mapping[str, Any]) -> Any:
        if extra.get(name) is None:
            raise ValueError(
                f"{here()}: {self.title} needs {name}: gc.train_step gives it; elsewhere call "
                f"update(grads, state, params, {name}=…)"
            )
        return extra[name]

    def _opened(self, state: Tree) -> tuple[Any, Any]:
        """The number of steps taken and the rule's own state, as they stand in ``state``."""
        kind: Any = self.state
        if self.scheduled:
            kind = CountState if self.state is EmptyState else ScheduledState
        if not isinstance(state, tuple) or len(state) != len(_fields(kind)):
            raise ValueError(f"{here()}: {self.title} got a state {state!r:.60}; use its own init")
        opened = kind(*state)
        if not self.scheduled:
            return (opened.t if self.counts else None), opened
        return opened.t, (opened.inner if kind is ScheduledState else EmptyState())

    def _each(self, grads: Tree, state: Any, params: Tree, given: dict[str, Any]) -> tuple[Tree, Tree]:
        """One step of each array by itself."""
        leaves, structure = leaves_of(grads)
        of_params = [None] * len(leaves) if params is None else beside(grads, params)
        fields = [name for name in _fields(self.state) if name != "t"]
        columns = [self._parts(structure, getattr(state, name)) for name in fields]
        counted = {"t": state.t + 1} if self.counts else {}
        told = {"t": number(counted["t"])} if self.counts else {}
        updates, news = [], []
        for g, p, *old in zip(leaves, of_params, *columns, strict=True):
            here_now = self.state(**told, **dict(zip(fields, map(_wide_tree, old), strict=True)))
            u, new = self._stepped(self._called(wide(g), None if p is None else wide(p), here_now, given))
            updates.append(u)
            news.append([_kept(getattr(new, name), before) for name, before in zip(fields, old, strict=True)])
        back = structure.of_arrays.unflatten
        after = {name: back(new[i] for new in news) for i, name in enumerate(fields)}
        return back(updates), self.state(**counted, **after)

    def _parts(self, structure: Structure, tree: Tree) -> list[Any]:
        """What a field of the state has for each gradient."""
        try:
            return structure.parts_of(tree)
        except ValueError:
            raise ValueError(
                f"{here()}: {self.title}: its state nests otherwise than the gradients, {structure}; use its own init"
            ) from None

    def _called(self, g: Any, p: Any, s: Any, given: Mapping[str, Any]) -> Any:
        """What the step returns; whoever reads along sees what it computed."""
        reader = reading.get()
        if reader is None:
            return self.step(g, p, s, **given)
        return reader.called(self.step, (g, p, s), given, self.state is EmptyState)

    def _stepped(self, result: Any) -> tuple[Any, Any]:
        """What the step returned; TypeError if it is no update and state."""
        if isinstance(result, tuple) and len(result) == 2 and isinstance(result[1], self.state):
            return result
        raise TypeError(
            f"{here()}: {self.title} returns the update and the new {self.state.__name__}, got {result!r:.80}"
        )

    def _whole(self, grads: Tree, state: Any, params: Tree, given: dict[str, Any]) -> tuple[Tree, Tree]:
        """One step of all arrays together."""
        counted = {"t": state.t + 1} if self.counts else {}
        told = {"t": number(counted["t"])} if self.counts else {}
        fields = [name for name in _fields(self.state) if name != "t"]
        old = {name: getattr(state, name) for name in fields}
        now = self.state(**told, **{name: _wide_tree(part) for name, part in old.items()})
        theirs = None if params is None else _wide_tree(params)
        updates, new = self._stepped(self._called(_wide_tree(grads), theirs, now, given))
        return updates, self.state(**counted, **{name: _kept(getattr(new, name), old[name]) for name in fields})


def _fields(kind: Any) -> tuple[str, ...]:
    """The names of the fields of a named tuple."""
    return kind._fields


def given_as(made: Optimizer, **outer: str) -> Optimizer:
    """An optimizer of `rule` whose hyperparameters the user gave by other names: ``decay="momentum"``."""
    own: Rule = made.update.__self__  # type: ignore[attr-defined]
    renamed = replace(own, outer={**own.outer, **outer})
    return Optimizer(renamed.init, renamed.update)


def _refuse_unless_number(name: str, value: Any) -> None:
    words = f"a {name.replace('_', ' ')}" if "_" in name else name
    if value is None or isinstance(value, (str, bytes, list, tuple, dict, type)):
        raise TypeError(f"{here()}: {words} is a number or a function of the step, got {value!r:.60}")
    if not callable(value) and gnp.ndim(value) != 0:
        raise ShapeError(f"{here()}: {words} is a number or a function of the step, got shape {gnp.shape(value)}")


#: from where to where known numbers of these names lie, both ends included
_RANGES = dict.fromkeys(("b1", "b2", "b3", "decay"), (0.0, 1.0)) | dict.fromkeys(
    ("learning_rate", "eps", "eps_root"), (0.0, math.inf)
)
#: but 1 for these where steps are counted: such rules divide by 1 − bᵗ
_BELOW = frozenset({"b1", "b2", "b3"})


def _refuse_outside(name: str, value: Any, counts: bool) -> None:
    """ValueError for a known number that no rule can go on with."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
        return
    least, most = _RANGES.get(name, (-math.inf, math.inf))
    below = counts and name in _BELOW
    if least <= value <= most and not (below and value == most):
        return
    if name not in _RANGES:
        allowed = "a number"
    elif most == math.inf:
        allowed = f"at least {least:g}"
    else:
        allowed = f"at least {least:g} and {'below' if below else 'at most'} {most:g}"
    raise ValueError(f"{here()}: {name} must be {allowed}, got {value!r:.60}")


def _at(count: Any, name: str, value: Any) -> Any:
    """The value of a hyperparameter at a step, which behaves like a Python number."""
    if not callable(value):
        return number(told(name, value))
    made = value(count)
    made = made if isinstance(made, (Node, int, float)) else gnp.asarray(made)
    _refuse_unless_number(name, made)
    return number(made)


def beside(grads: Tree, params: Tree) -> list[Any]:
    """The parameters of the gradients, in order; TraceError if they nest differently."""
    return leaves_of(tree_map(lambda g, p: p, grads, params))[0]


# -- what formulas are made of -----------------------------------------------------------------------------------------


def number(x: Any) -> Any:
    """A scalar as a Python number, or traced as something that behaves like one: its dtype yields to its partner's."""
    if isinstance(x, Node):
        is_number = x.aval.weak or x.dtype == bool
        return x if is_number else Node(OPS["cast"], (x,), {"dtype": _FLOAT}, Aval((), _FLOAT, weak=True))
    return x.item() if isinstance(x, (np.generic, np.ndarray)) else x


def wide(x: Any) -> Any:
    """A gradient, parameter or moment as updates are computed: narrow floats as float32."""
    dtype = gnp.result_type(x)
    return gnp.astype(x, computed_in(dtype)) if dtype in NARROW else x


def _wide_tree(tree: Tree) -> Tree:
    return tree_map(wide, tree)


def filled(p: Any, value: float) -> Any:
    """An array like ``p`` of one value, in its dtype, float32 for a narrow one."""
    dtype = computed_in(gnp.result_type(p))
    return gnp.full_like(p, value, dtype) if gnp.ndim(p) else np.full((), value, dtype)


def scalar_like(value: float, p: Any) -> Any:
    """One number for an array like ``p``, in its dtype, float32 for a narrow one."""
    return np.full((), value, computed_in(gnp.result_type(p)))


def is_zero(x: Any) -> bool:
    """Whether a number is known, and 0."""
    return isinstance(x, (int, float, np.number)) and x == 0


def plus(x: Any, number: Any) -> Any:
    """x + number; x itself if the number is known to be 0."""
    return x if is_zero(number) else x + number


def select(flag: Any, new: Tree, old: Tree) -> Tree:
    """The leaves of ``new`` where ``flag`` is true, else those of ``old``."""
    return tree_map(lambda n, o: gnp.where(flag, n, o), new, old)


def copied(p: Any) -> Any:
    """``p`` as it is now, in its dtype, float32 for a narrow one: no array of the caller's stands in a state."""
    dtype = computed_in(gnp.result_type(p))
    return gnp.astype(p, dtype) if isinstance(p, Node) else np.array(p, dtype)


def stored_in(tree: Tree, dtype: DType) -> Tree:
    """``tree`` with its floats in ``dtype``."""
    wanted = gnp.dtype(dtype) if isinstance(dtype, str) else np.dtype(dtype)
    return tree_map(lambda x: gnp.astype(x, wanted) if is_float(gnp.result_type(x)) else x, tree)


def _kept(new: Tree, old: Tree) -> Tree:
    """State after a step in the dtypes that it had before."""
    return tree_map(lambda n, o: like(n, o), new, old)


def like(x: Any, other: Any) -> Any:
    """``x`` in the dtype of ``other``."""
    dtype = gnp.result_type(other)
    return x if gnp.result_type(x) == dtype and not _is_weak(x) else gnp.astype(gnp.asarray(x), dtype)


def _is_weak(x: Any) -> bool:
    return x.aval.weak if isinstance(x, Node) else isinstance(x, (bool, int, float))


def bias_correction(moment: Any, decay: Any, t: Any) -> Any:
    """moment/(1 − decayᵗ): the mean of a running mean that began at zero ``t`` steps ago (Kingma & Ba 2015)."""
    return moment / (1 - decay**t)


def scalar(value: float, params: Tree) -> Any:
    """A number of the state that is ``value`` before the first step."""
    return np.full((), value)


def counter() -> Any:
    """Steps taken before the first one."""
    return np.zeros((), np.int64)


# -- keywords of update beside gradients, state and parameters ---------------------------------------------------------


def taken(update: Callable[..., Any], extra: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the keywords ``extra`` that an update takes: all of them, or some by name."""
    try:
        parameters = inspect.signature(update).parameters
    except (TypeError, ValueError):
        return {}
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return extra
    return {name: value for name, value in extra.items() if name in parameters}


def updated(
    optimizer: Optimizer, grads: Tree, state: Tree, params: Tree, extra: Mapping[str, Any]
) -> tuple[Tree, Tree]:
    """``optimizer.update`` with as much of ``extra`` as it takes."""
    return optimizer.update(grads, state, params, **taken(optimizer.update, extra))


def total(terms: Iterable[Any]) -> Any:
    """A sum of scalars of any dtype, as a number."""
    summed: Any = 0.0
    every = list(terms)
    for term in every:
        summed = summed + number(term)
    return joined(summed, "total", every)


def dot(one: Tree, two: Tree) -> Any:
    """Σ x·y over all elements of two trees, as a number."""
    left, right = leaves_of(one)[0], leaves_of(two)[0]
    return joined(total(gnp.sum(a * b) for a, b in zip(left, right, strict=True)), "dot", left, right)


def norm(x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    """√Σ x² over ``axis`` (None: all), for numbers whose squares overflow, too."""
    return gnp.linalg.vector_norm(x, axis=axis, keepdims=keepdims)


def joint_norm(norms: Sequence[Any]) -> Any:
    """The norm, element by element, of all that such ``norms`` are of, in their common dtype; 0 of none."""
    if len(norms) < 2:
        return norms[0] if norms else 0.0
    dtype = gnp.result_type(*norms)
    return norm(gnp.stack([gnp.astype(gnp.asarray(size), dtype) for size in norms]), axis=0)


def global_norm(tree: Tree) -> Any:
    """√Σ x² over all leaves."""
    leaves = [wide(leaf) for leaf in leaves_of(tree)[0]]
    return joined(joint_norm([norm(leaf) for leaf in leaves]), "norm", leaves)


def times(tree: Tree, factor: Any) -> Tree:
    """Each leaf times a number; infinity times 0 is NaN without a warning."""
    return tree_map(lambda x: gnp.multiply(x, factor), tree)


__all__ = ["CountState", "EmptyState", "Optimizer", "ScheduledState", "rule"]
