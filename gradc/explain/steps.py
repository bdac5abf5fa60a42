"""What one step of an optimizer does, line by line: the update as a textbook writes it.

Enters: an optimizer, and parameters and state as arrays or their descriptions.  Leaves: `Update`s, one for all
parameters whose lines are the same.
The update is traced once for all parameters, on gradients that are leaves; hyperparameters, and what rules called the
values they computed, keep their names (`gradc.optim.reading`).  A parameter's lines are those of the graph that its new
value and its part of the state need, in which it is θ, its gradient g, and fields of the state have their own names.
``x ← …`` gives x another value: whatever line reads the old one stands before it; where none of two can stand first,
the new value is x′ until the end.  Start reading at `Steps`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from typing import Any

import numpy as np

from gradc.aval import Aval
from gradc.containers import flatten, leaves_of, one_level, tree_map
from gradc.diff.kronecker import Factored
from gradc.explain.folding import Said, Update
from gradc.explain.formula import Apply, Formula, Symbol, number, value_of
from gradc.explain.layout import (
    Call,
    Derivative,
    Fenced,
    Hadamard,
    Ident,
    Inner,
    Juxtaposed,
    Layout,
    Minus,
    Num,
    Ones,
    Plus,
    Quotient,
    Raised,
    Relation,
    Root,
    Summed,
    Tensor,
    Transposed,
)
from gradc.explain.letters import GREEK
from gradc.explain.lift import Lifter, exact
from gradc.explain.matching import Names
from gradc.explain.naming import written
from gradc.explain.notation import Notation
from gradc.explain.rules import FORWARD_RULES, RULES, Simplifier
from gradc.node import Node, constant
from gradc.optim.reading import LETTERS, Reader, reading
from gradc.optim.rules import Optimizer, updated
from gradc.optim.transforms import apply_updates
from gradc.trace import aval_of, trace
from gradc.tree import ravel

#: how the parameter, its gradient and the number of the step are called before letters are chosen
PARAMETER, GRADIENT, COUNT, LOSS = "theta", "g", "t", "L"
#: by what mixed precision scales the loss, in its state
SCALE = "scale"
#: what rules and their states call the parameter
OWN_NAMES = {"p": PARAMETER, "p_old": f"{PARAMETER}_old"}
#: notation beside that of forward lines: a step is read, not derived
STEP_RULES = (*FORWARD_RULES, *(r for r in RULES if r.name == "common factor"))
#: an update that goes on to other rules gets a line if it is read more than once and at least this long
SHARED = 4
PRIME = "′"
#: any part gets a line if it is read more than once and at least this long
LONG = 12
#: marks what is computed of all parameters together
JOINT = ("composite", "joint")
#: how the labels of random draws begin
DRAWN = "random."
#: what a rule asks of the loss elsewhere, by the name of its composite: how it is written
ELSEWHERE = {
    "loss at": "L", "gradient at": "∇L", "hessian at": "∇²L", "residuals at": "r", "residual slopes at": "∂r/∂θ",
    "first factor at": "factor_1", "other factor at": "factor_2", "step along": "line_search",
    "least in ball": "trust_region", "fall in ball": "promised", "border of ball": "at_border",
}  # fmt: skip

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Place:
    """A leaf of the state: the field that holds it, and the position of the parameter that it belongs to, if to one."""

    name: str
    owner: int | None


def explained_steps(
    optimizer: Optimizer, params: Any, state: Any, names: Sequence[tuple[str, Layout]], loss: Layout,
    taken: set[Ident], residuals: int = 0,
) -> tuple[tuple[Update, ...], tuple[tuple[Layout, str | Layout], ...]]:  # fmt: skip
    """The updates of a step, and what their letters stand for.

    ``names`` are those of the parameters, in order, and how they are written; ``loss`` is what the loss is called;
    idents in ``taken`` mean something else already; ``residuals`` is the number of those that a sum of squares has.
    """
    return Steps(optimizer, params, state, names, loss, taken, residuals).explained()


class Steps:
    """One update, traced, and the lines of each parameter."""

    def __init__(
        self, optimizer: Optimizer, params: Any, state: Any, names: Sequence[tuple[str, Layout]], loss: Layout,
        taken: set[Ident], residuals: int = 0,
    ):  # fmt: skip
        self.residuals, self.scaled = residuals, hasattr(optimizer.update, "differentiated")
        self.optimizer, self.loss, self.taken = optimizer, loss, taken
        self.names, self.written = [name for name, _ in names], [shown for _, shown in names]
        leaves, paths, structure = flatten(params)
        self.avals = [aval_of(x) for x in leaves]
        self.state = [aval_of(x) for x in leaves_of(state)[0]]
        self.places = [_place(path, [*map(tuple, paths)]) for path in _paths(state)]
        self.structure, self.nesting = structure.of_arrays, leaves_of(state)[1]
        self.counts = {i for i, place in enumerate(self.places) if place.name == COUNT and self._is_count(i)}
        self._trace()
        wrong = {i for i in self.counts if not self._counts_on(i)}
        if wrong:
            self.counts -= wrong
            self._trace()

    def _is_count(self, i: int) -> bool:
        return self.state[i].shape == () and self.state[i].dtype.kind == "i"

    # -- tracing -------------------------------------------------------------------------------------------------------

    def _trace(self) -> None:
        """Trace the update twice: the first time tells which numbers it takes, and where it looks for other gradients;
        the second time all those are leaves.
        """
        self._trace_on({}, [])
        self._trace_on(dict.fromkeys(self.reader.numbers), [x.aval for x in self.elsewhere])

    def _trace_on(self, numbers: dict[tuple[str, float], Any], elsewhere: Sequence[Aval]) -> None:
        """Trace on leaves: parameters, gradients, state, the number of this step, the loss; and on those given."""
        weak, strong = (Aval((), np.dtype(np.float64), weak=w) for w in (True, False))
        self.elsewhere: list[Node] = []  #: losses and gradients at other parameters
        self.reader = Reader(self.structure)

        def step(params: Any, grads: Any, state: Any, t: Any, value: Any, named: Any, found: Any) -> Any:
            self.reader.numbers |= dict(zip(numbers, named, strict=True))
            self.reader.passed_on |= dict.fromkeys(grads, True)
            self.found = iter(found)
            held = [t - 1 if i in self.counts else s for i, s in enumerate(state)]
            p, g = self.structure.unflatten(params), self.structure.unflatten(grads)
            extra = {
                "value": value, "grad": g, "value_fn": self._loss_at, "grad_fn": self._gradient_at,
                "hessian_fn": self._hessian_at, "residual_fn": self._residuals_at, "line_search": self._line_search,
                "factors_fn": self._factors_at, "trust_step": self._trust_step,
                "hessian_product_fn": self._hessian_product_at,
            } | ({"scaled": True} if self.scaled else {})  # fmt: skip
            token = reading.set(self.reader)
            try:
                updates, after = updated(self.optimizer, g, self.nesting.unflatten(held), p, extra)
            finally:
                reading.reset(token)
            return leaves_of(apply_updates(p, updates))[0], leaves_of(after)[0]

        graph = trace(step, self.avals, self.avals, self.state, weak, strong, [weak] * len(numbers), [*elsewhere])
        n, m = len(self.avals), len(self.state)
        self.params, self.grads, self.held = graph.inputs[:n], graph.inputs[n : 2 * n], graph.inputs[2 * n : 2 * n + m]
        self.count, self.value = graph.inputs[2 * n + m : 2 * n + m + 2]
        self.new_params, self.new_state = graph.outputs[:n], graph.outputs[n : n + m]

    def _loss_at(self, params: Any) -> Node:
        """The loss at other parameters: a leaf that says where."""
        places = leaves_of(params)[0]
        return self._leaf("loss at", places, Aval((), np.dtype(np.float64)))

    def _gradient_at(self, params: Any) -> Any:
        places = leaves_of(params)[0]
        return self.structure.unflatten(self._leaf("gradient at", places, a) for a in self.avals)

    def _hessian_at(self, params: Any) -> Node:
        size = sum(a.size for a in self.avals)
        return self._leaf("hessian at", leaves_of(params)[0], Aval((size, size), np.dtype(np.float64)))

    def _residuals_at(self, params: Any) -> tuple[Node, Node]:
        places, size = leaves_of(params)[0], sum(a.size for a in self.avals)
        return (
            self._leaf("residuals at", places, Aval((self.residuals,), np.dtype(np.float64))),
            self._leaf("residual slopes at", places, Aval((self.residuals, size), np.dtype(np.float64))),
        )

    def _factors_at(self, params: Any, examples: int | None = None) -> Any:
        """Kronecker factors, over the first axis of a parameter and over the others: leaves that say of what."""
        places = leaves_of(params)[0]

        def factored(p: Any) -> Factored:
            first, others = (p.shape[0], math.prod(p.shape[1:])) if p.shape else (1, 1)
            one, two = (
                self._leaf(f"{which} factor at", places, Aval((n, n), np.dtype(np.float64)))
                for which, n in (("first", first), ("other", others))
            )
            return Factored(one, two, (0,)) if p.shape else Factored(two, one, ())

        return tree_map(factored, params)

    def _line_search(self, params: Any, value: Any, grads: Any, direction: Any, first: Any, curvature: float) -> Node:
        """How far a line search goes: a leaf that says along what."""
        return self._leaf("step along", leaves_of(direction)[0], Aval((), np.dtype(np.float64)))

    def _hessian_product_at(self, params: Any, v: Any) -> Any:
        """The Hessian at other parameters times a tree like them; which Hessian it was is kept."""
        self.multiplied = self._hessian_at(params)
        vector, back = ravel(v)
        return back(self.multiplied @ vector)

    def _trust_step(self, model: Any, grads: Any, radius: Any) -> tuple[Any, Node, Node]:
        """Where a model of the loss is least in a ball, by how much, and whether at its border: leaves that say so."""
        if callable(model):
            model(grads)
        H = self.multiplied if callable(model) else model
        (leaves, structure), number = leaves_of(grads), Aval((), np.dtype(np.float64))

        def told(name: str, aval: Aval) -> Node:
            node = self._leaf(name, leaves, aval)
            self.reader.joint[node] = (name, tuple((H, g, radius) for g in leaves))
            return node

        d = [told("least in ball", aval_of(g)) for g in leaves]
        border = told("border of ball", Aval((), np.dtype(bool)))
        return structure.of_arrays.unflatten(d), told("fall in ball", number), border

    def _leaf(self, name: str, places: Sequence[Any], aval: Aval) -> Node:
        known = next(self.found, None)
        node: Node = constant(np.zeros(aval.shape, aval.dtype)) if known is None else known
        self.elsewhere.append(node)
        self.reader.joint[node] = (name, tuple((p,) for p in places))
        return node

    def _counts_on(self, i: int) -> bool:
        """Whether a counter is one more after the step, whatever else happens."""
        lines = Lines(self, 0, whole=True)
        return lines.lifter.formula(self.new_state[i]) == lines.lifter.formula(self.count)

    # -- lines ---------------------------------------------------------------------------------------------------------

    def explained(self) -> tuple[tuple[Update, ...], tuple[tuple[Layout, str | Layout], ...]]:
        """The updates, one for all parameters with the same lines, and the legend."""
        groups: dict[tuple[Said, ...], list[int]] = {}
        legend: dict[Layout, str | Layout] = {}
        for i in range(len(self.avals)):
            lines = Lines(self, i)
            groups.setdefault(tuple(lines.said()), []).append(i)
            legend |= lines.legend()
        alone = len(self.avals) == 1
        updates = tuple(
            Update(self.letter, () if alone else tuple(self.written[i] for i in members), said)
            for said, members in groups.items()
        )
        return updates, tuple(legend.items())

    @property
    def letter(self) -> Ident:
        """How a parameter is written: by its own name if there is no other."""
        if len(self.avals) == 1:
            alone = self.written[0]
            return alone if isinstance(alone, Ident) else written(self.names[0])
        return next(x for x in (Ident("θ"), Ident("ϑ"), Ident("θ", "p")) if x not in self.taken)


class Lines:
    """The lines of one parameter; with ``whole``, what they do not read has a name, too."""

    def __init__(self, steps: Steps, number: int, whole: bool = False):
        self.steps, self.number = steps, number
        self.reader = steps.reader
        self.idents: dict[str, Ident] = {}  #: how each symbol is written
        self.used: set[Ident] = set(steps.taken)
        self.values: dict[str, tuple[str, float]] = {}  #: of hyperparameters, with what they are called in the call
        self.meanings: dict[str, Formula] = {}  #: what each line says
        self.owned: list[str] = []  #: the parameter's part of the state
        self.drawn: dict[str, str] = {}  #: random numbers, in words
        self.symbols: dict[Node, Symbol] = {}
        self.assigned: dict[Node, str] = {}  #: new values, and the symbols of the old ones
        self.targets: dict[str, Node] = {}  #: all of them, by those symbols
        self.order = self._order()
        self._name_leaves(None if whole else set(self.order))
        self.lifter = Lifter(self.symbols, Simplifier(Names({}, {}), STEP_RULES), {}, composites=True)
        self._name_parts()

    # -- what there is -------------------------------------------------------------------------------------------------

    def _name_leaves(self, read: Set[Node] | None) -> None:
        """Name what the parameter has, and of what others have as much as is ``read`` (None: all)."""
        steps, me = self.steps, self.number
        self._leaf(steps.params[me], PARAMETER, steps.letter)
        self._leaf(steps.grads[me], GRADIENT)
        for j, name in enumerate(steps.names):
            if j != me and (read is None or steps.params[j] in read):
                self._leaf(steps.params[j], name, written(name))
            if j != me and (read is None or steps.grads[j] in read):
                self._leaf(steps.grads[j], f"{GRADIENT}_{name}", Ident(GRADIENT, name))
        self._leaf(steps.count, COUNT)
        self._leaf(steps.value, LOSS, steps.loss if isinstance(steps.loss, Ident) else None)
        for (name, value), node in self.reader.numbers.items():
            self.values[self._leaf(node, LETTERS.get(name, name))] = name, value
        for i, (node, place) in enumerate(zip(steps.held, steps.places, strict=True)):
            if i in steps.counts:
                continue
            mine = place.owner in (None, me)
            if not mine and read is not None and node not in read:
                continue
            name = OWN_NAMES.get(place.name, place.name)
            old = Ident(steps.letter.name, "old")
            free = mine and place.name == "p_old" and not steps.letter.below and old not in self.used
            ident = old if free else None
            wish = LETTERS.get(name, name) if mine else f"{name}_{steps.names[place.owner or 0]}"
            symbol = self._leaf(node, wish, ident)
            if place.owner is not None and mine:
                self.owned.append(symbol)
            if mine and node.dtype.kind != "u" and _bare(steps.new_state[i]) is not node:
                self.targets[symbol] = _bare(steps.new_state[i])
        if _bare(steps.new_params[me]) is not steps.params[me]:
            self.targets[self.symbols[steps.params[me]].name] = _bare(steps.new_params[me])
        self.assigned |= {node: old for old, node in reversed(self.targets.items())}

    def _leaf(self, node: Node, wish: str, ident: Ident | None = None) -> str:
        """The symbol of a leaf; how it is written is a name of its own."""
        name = self._fresh(wish, ident)
        self.symbols[node] = Symbol(node.shape, name=name, role="input", nodes=frozenset((node,)))
        return name

    def _fresh(self, wish: str, ident: Ident | None = None) -> str:
        shown, number, name = ident or in_greek(written(wish)), 2, wish
        if ident is None:
            plain = shown
            while shown in self.used:
                shown = replace(plain, below=f"{plain.below}{number}")
                number += 1
        while name in self.idents:
            name += "'"
        self.used.add(shown)
        self.idents[name] = shown
        return name

    def _order(self) -> list[Node]:
        """What the new values need, operands first; of what joins all parameters, this one's share."""
        steps = self.steps
        mine = [
            new
            for new, held, place in zip(steps.new_state, steps.held, steps.places, strict=True)
            if place.owner in (None, self.number) and held.dtype.kind != "u"  # keys of random numbers
        ]
        order: dict[Node, None] = {}
        pending = [(x, False) for x in (steps.new_params[self.number], *reversed(mine))]
        while pending:
            node, done = pending.pop()
            if done:
                order[node] = None
            elif node not in order:
                pending.append((node, True))
                pending += [(a, False) for a in reversed(self._operands(node))]
        return list(order)

    def _operands(self, node: Node) -> Sequence[Node]:
        if node in self.symbols or _is_draw(node):
            return ()
        share = self._share(node)
        return [x for x in share if isinstance(x, Node)] if share is not None else node.args

    def _share(self, node: Node) -> tuple[Any, ...] | None:
        """What a joint norm or product is of, for this parameter."""
        found = self.reader.joint.get(node)
        if found is None:
            return None
        if len(found[1]) == len(self.steps.avals):
            return found[1][self.number]
        if found[0] in ELSEWHERE:  # of some of the parameters
            return tuple(dict.fromkeys(x for places in found[1] for x in places))
        return None

    def _name_parts(self) -> None:
        """Which nodes get a line: new values, what rules named, and what goes on to other rules and is read twice."""
        uses = Counter(a for node in self.order for a in self._operands(node))
        for node in self.order:
            if node in self.symbols:
                continue
            if _is_draw(node):
                self.drawn[self._leaf(node, "xi")] = _drawn(node)
                continue
            share = self._share(node)
            if share is not None:
                self.lifter.define(node, self._joint(node, share))
            meaning = self.lifter.definition(node)
            name = self._wish(node, meaning, uses[node])
            if name:
                self.meanings[name] = meaning
                self.symbols[node] = Symbol(node.shape, name=name, nodes=frozenset((node,)))

        for old, node in self.targets.items():  # what is a leaf, or the new value of something else, too
            self.meanings.setdefault(f"new {old}", self.lifter.formula(node))

    def _joint(self, node: Node, share: tuple[Any, ...]) -> Formula:
        args = tuple(self.lifter.formula(x) if isinstance(x, Node) else _number(x) for x in share)
        name = self.reader.joint[node][0]
        return Apply(node.shape, nodes=frozenset((node,)), name=name, args=args, attrs={}, attrs_key=JOINT)

    def _wish(self, node: Node, meaning: Formula, uses: int) -> str:
        """The symbol of a line of its own, if ``node`` has one."""
        if node in self.assigned:
            return f"new {self.assigned[node]}"
        if not meaning.parts or value_of(meaning) is not None:
            return ""
        named = self.reader.computed.get(node)
        if named is not None and (node.aval.is_float or uses > 1):
            return self._fresh(LETTERS.get(named, named))
        going_on = self.reader.passed_on.get(node)
        if going_on and uses > 1 and GRADIENT not in self.assigned.values():
            self.assigned[node] = GRADIENT
            return f"new {GRADIENT}"
        if going_on is not None and uses > 1 and meaning.size >= SHARED:
            return self._fresh("u")
        return self._fresh("x") if node.aval.is_float and uses > 1 and meaning.size >= LONG else ""

    # -- how it is written ---------------------------------------------------------------------------------------------

    def said(self) -> list[Said]:
        """The lines, in an order in which each reads what its names then stand for."""
        order, primed = self.in_order()
        for old in self._overwritten:
            shown = self.idents[old]
            self.idents[f"new {old}"] = replace(shown, name=shown.name + PRIME) if old in primed else shown
        notation, alone = Notation(self.idents, {}), len(self.steps.avals) == 1
        news = {f"new {old}" for old in self._overwritten} - {f"new {old}" for old in primed}
        known = {self.idents[name] for name in (*self.values, COUNT)}
        known |= {self.idents[x.name] for node, x in self.symbols.items() if node in self.reader.functions}
        mine = {self.idents[name] for name in (PARAMETER, GRADIENT, *self.owned)}
        bodies = {name: elementwise(notation.layout(self.meanings[name]), alone, known, mine) for name in order}
        lines = [Said(self.idents[name], x, sign="←" if name in news else "=") for name, x in bodies.items()]
        if any(GRADIENT in x.symbols for x in self.meanings.values()):
            lines.insert(0, Said(self.idents[GRADIENT], self._gradient()))
        return lines + [Said(self.idents[old], self.idents[f"new {old}"], sign="←") for old in primed]

    def _gradient(self) -> Layout:
        """What the optimizer is given: the gradient of the loss, or of the scaled one of mixed precision."""
        plain = Derivative(self.steps.loss, self.steps.letter)
        return Juxtaposed((self.idents[SCALE], plain)) if self.steps.scaled and SCALE in self.idents else plain

    @property
    def _overwritten(self) -> list[str]:
        """The names that get another value."""
        return [name.removeprefix("new ") for name in self.meanings if name.startswith("new ")]

    def in_order(self) -> tuple[list[str], list[str]]:
        """The lines in order, and the names that stand for their old values until the end."""
        left, order, primed = list(self.meanings), [], list[str]()
        while left:
            ready = next((name for name in left if self._is_ready(name, left, primed)), None)
            if ready is None:
                stuck = next(x for x in left if x.startswith("new ") and x[4:] not in primed)
                primed.append(stuck[4:])
                continue
            left.remove(ready)
            order.append(ready)
        return order, primed

    def _is_ready(self, name: str, left: Sequence[str], primed: Sequence[str]) -> bool:
        """Whether what a line reads has been said, and nobody reads any more what it overwrites."""
        if self.meanings[name].symbols & set(left) - {name}:
            return False
        old = name.removeprefix("new ")
        if old == name or old in primed:
            return True
        return not any(old in self.meanings[other].symbols for other in left if other != name)

    def legend(self) -> dict[Layout, str | Layout]:
        """What letters stand for that the lines are written with."""
        read = {name for x in self.meanings.values() for name in x.symbols}
        found: dict[Layout, str | Layout] = {}
        for name, (called, value) in self.values.items():
            if name in read:
                shown = self.idents[name]
                found[shown] = f"= {value:.12g}" + (f", {called}" if shown != Ident(called) else "")
        found |= {self.idents[name]: words for name, words in self.drawn.items() if name in read}
        if COUNT in read and not self.values.get(COUNT):
            found[self.idents[COUNT]] = "is the number of the step, 1 at first"
        return found


def elementwise(x: Layout, alone: bool, known: Set[Ident], mine: Set[Ident]) -> Layout:
    """Formulas that work element by element without ⊙ and ⊘, as books write updates; others as they are.

    What joins all parameters is a sum over θ, unless a parameter is ``alone``.  Factors made of hyperparameters, the
    ``known`` ones, come first, and those that are what a parameter has, ``mine``, last.
    """
    x = mapped(x, _logic)
    x = _without_circles(x, known, mine) if all(map(_is_plain, _pieces(x))) else x
    return mapped(x, lambda piece: _joint_layout(piece, alone))


def mapped(x: Layout, change: Callable[[Layout], Layout]) -> Layout:
    """``change`` of each piece, from the inside out."""
    new: dict[str, Any] = {}
    for f in fields(x):
        value = getattr(x, f.name)
        if f.name == "source":
            continue
        if isinstance(value, Layout):
            new[f.name] = mapped(value, change)
        elif isinstance(value, tuple) and any(isinstance(v, Layout) for v in value):
            new[f.name] = tuple(mapped(v, change) for v in value)
    return change(replace(x, **new) if new else x)


def _pieces(x: Layout) -> list[Layout]:
    found: list[Layout] = []

    def noted(piece: Layout) -> Layout:
        found.append(piece)
        return piece

    mapped(x, noted)
    return found


def _logic(x: Layout) -> Layout:
    """Sums of whole numbers, and truth values, with signs."""
    match x:
        case Call("add", (left, right), ()):
            return Plus((left, right), source=x.source)
        case Call("subtract", (left, right), ()):
            return Plus((left, Minus(right)), source=x.source)
        case Call("bitwise_and", (left, right), ()):
            return Relation(left, "∧", right, source=x.source)
        case Call("bitwise_or", (left, right), ()):
            return Relation(left, "∨", right, source=x.source)
        case _:
            return x


def _joint_layout(x: Layout, alone: bool) -> Layout:
    """A norm, product or sum over all parameters; the loss and its gradient at other parameters."""
    if isinstance(x, Raised) and isinstance(x.base, Root) and x.exponent == Num(Fraction(2)):
        return x.base.inner
    if not isinstance(x, Call) or not isinstance(x.source, Apply) or x.source.attrs_key != JOINT:
        return x

    def summed(body: Layout) -> Layout:
        return Summed(("θ",), body, source=x.source)

    match x.name:
        case "norm":
            norm = Fenced(x.args[0], double=True, source=x.source)
            return norm if alone else Root(summed(Raised(norm, Num(Fraction(2)))), source=x.source)
        case "dot":
            inner = Inner(*x.args, source=x.source)
            return inner if alone else summed(inner)
        case "total":
            return x.args[0] if alone else summed(x.args[0])
        case "finite":
            return replace(x, options=() if alone else ("for all θ",))
        case _:
            return replace(x, name=ELSEWHERE[x.name]) if x.name in ELSEWHERE else x


def _is_plain(x: Layout) -> bool:
    """Whether a piece of notation means the same element by element."""
    if isinstance(x, Transposed | Ones | Tensor) or (isinstance(x, Summed) and x.indices):
        return False
    if isinstance(x, Juxtaposed):
        return sum(_is_array(item) for item in x.items) < 2
    return True


def _is_array(x: Layout) -> bool:
    return (x.source is None and not isinstance(x, Num)) or (x.source is not None and x.source.ndim > 0)


def _without_circles(x: Layout, known: Set[Ident], mine: Set[Ident]) -> Layout:
    def rank(item: Layout) -> int:
        names = {piece for piece in _pieces(item) if isinstance(piece, Ident)}
        return 0 if isinstance(item, Num) else 1 if names <= known else 3 if names <= known | mine else 2

    def sorted_flat(items: Sequence[Layout]) -> tuple[Layout, ...]:
        return tuple(sorted((y for x in items for y in (x.items if isinstance(x, Juxtaposed) else (x,))), key=rank))

    def change(piece: Layout) -> Layout:
        match piece:
            case Hadamard(items):
                return Juxtaposed(sorted_flat(items), source=piece.source)
            case Juxtaposed(items):
                return replace(piece, items=sorted_flat(items))
            case Quotient(pointwise=True):
                return replace(piece, pointwise=False)
            case _:
                return piece

    return mapped(x, change)


# -- names of the state ------------------------------------------------------------------------------------------------


def _paths(tree: Any, path: Path = ()) -> Iterator[Path]:
    """The way to each array, with the names of fields where tuples have them."""
    parts = one_level(tree)
    if parts is None:
        if tree is not None and leaves_of(tree)[0]:
            yield path
        return
    names = getattr(type(tree), "_fields", None)
    for key, part in parts.items():
        yield from _paths(part, (*path, names[key] if names is not None and isinstance(key, int) else key))


def _place(path: Path, params: Sequence[Path]) -> Place:
    """What the end of a path says: a field, then the way to a parameter, then what it has of that."""
    for k in reversed(range(len(path))):
        if not isinstance(path[k], str):
            continue
        rest = path[k + 1 :]
        owner = next((i for i, p in enumerate(params) if p and rest[: len(p)] == p), None)
        if owner is not None and not any(isinstance(key, str) for key in rest[len(params[owner]) :]):
            return Place(_called(path[k], rest[len(params[owner]) :]), owner)
        if params == [()]:
            return Place(_called(path[k], rest), 0)
    last = max((k for k, key in enumerate(path) if isinstance(key, str)), default=-1)
    return Place(_called(str(path[last]), path[last + 1 :]) if last >= 0 else "s", None)


def _called(field: str, rest: Path) -> str:
    return "_".join((field, *map(str, rest)))


def _number(x: Any) -> Formula:
    return number(exact(x, np.dtype(np.float64)))


def _is_draw(node: Node) -> bool:
    return node.label is not None and node.label.name.startswith(DRAWN) and node.aval.is_float


def _drawn(node: Node) -> str:
    assert node.label is not None
    return f"is drawn anew in each step: {node.label.name}"


def _bare(node: Node) -> Node:
    """``node`` without changes of its dtype."""
    while node.op.converts and node.aval.is_float and node.args[0].aval.is_float:
        node = node.args[0]
    return node


def in_greek(x: Ident) -> Ident:
    """A Greek letter by its name, with what follows below."""
    head, bar, tail = x.name.partition("_")
    if bar and head in GREEK and not x.below:
        return replace(x, name=GREEK[head], below=tail)
    return replace(x, name=GREEK.get(x.name, x.name))


__all__ = ["Steps", "explained_steps"]
