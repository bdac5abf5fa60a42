"""The value of a tree, among the values of names.

Enters: a tree of `grammar`.  Leaves: a `Value`.  Start reading at `Reading.value`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.readback import functions, grammar, signs
from tests.readback.grammar import Tree
from tests.readback.signs import UnreadError
from tests.readback.values import (
    ONES,
    UNIT,
    Value,
    beside,
    classes,
    dropped,
    elementwise,
    reduced,
    scaled,
    settled,
    total,
    transposed,
    value,
)

LETTERS = frozenset("ijklmrstuvab")
RELATIONS: dict[str, Callable[..., Any]] = {
    "=": np.equal, "≠": np.not_equal, "<": np.less, ">": np.greater, "≤": np.less_equal, "≥": np.greater_equal,
}  # fmt: skip
CONSTANTS = {"π": np.pi, "root π": np.sqrt(np.pi), "∞": np.inf}


class Reading:
    """Reads formulas; ``strict`` is for arrays of derivatives, where a number beside a matrix is no matrix."""

    def __init__(self, names: Mapping[str, Value], strict: bool = False):
        self.names = dict(names)
        self.strict = strict
        self.expected: tuple[int, ...] | None = None  #: the shape of the line that is read, if the program says it
        self.sizes: dict[str, int] = {}

    def __call__(self, text: str) -> Value:
        return self.value(grammar.tree(signs.words(text, self.names, functions.NAMES)))

    def value(self, x: Tree) -> Value:
        kind, *parts = x
        found: Value = getattr(self, f"_{_METHODS.get(kind, kind)}")(*parts)
        return found

    # -- leaves ------------------------------------------------------------------------------------------------------

    def _number(self, x: Any) -> Value:
        return value(float(x))

    def _constant(self, name: str) -> Value:
        return ONES if name == "𝟏" else value(CONSTANTS[name])

    def _name(self, name: str) -> Value:
        return self.names[name]

    def _word(self, word: str) -> Value:
        if word == "I":
            return UNIT
        if word == "e":
            return value(np.e)
        if word in ("True", "False"):
            return value(word == "True")
        raise UnreadError(f"{word} is not said to be anything")

    # -- arithmetic --------------------------------------------------------------------------------------------------

    def _minus(self, x: Tree) -> Value:
        return scaled(self.value(x), value(-1.0))

    def _plus(self, *terms: Tree) -> Value:
        found = [self.value(t) for t in terms]
        if self.strict and any(v.is_scalar for v in found) and any(v.ndim >= 2 for v in found):
            raise UnreadError("a number beside a matrix")
        return total(found)

    def _side(self, *items: Tree) -> Value:
        first, *others = (self.value(i) for i in items)
        for other in others:
            first = beside(first, other)
        return first

    def _pointwise(self, left: Tree, right: Tree) -> Value:
        return elementwise(np.multiply, self.value(left), self.value(right))

    def _divided(self, left: Tree, right: Tree) -> Value:
        return elementwise(np.divide, self.value(left), self.value(right))

    def _over(self, left: Tree, right: Tree) -> Value:
        below = self.value(right)
        if not below.is_scalar:
            raise UnreadError("a quotient by an array without ⊘")
        with np.errstate(all="ignore"):
            return scaled(self.value(left), replace(below, array=np.asarray(1 / np.asarray(below.array, float))))

    def _kronecker(self, left: Tree, right: Tree) -> Value:
        """The array with left[i, k]·right[j, l] at (i, j, k, l)."""
        a, b = self.value(left), self.value(right)
        if a.unit is not None or b.unit is not None:
            if self.expected is None or len(self.expected) != 4:
                raise UnreadError("I beside ⊗, whose size nothing says")
            a, b = (settled(x, n) for x, n in zip((a, b), self.expected, strict=False))
        return value(np.einsum("ik,jl->ijkl", a.array, b.array))

    def _power(self, base: Tree, exponent: Tree) -> Value:
        return elementwise(
            np.power, elementwise(lambda x: np.asarray(x, float), self.value(base)), self.value(exponent)
        )

    def _inverse(self, base: Tree) -> Value:
        x = self.value(base)
        if x.is_scalar:
            return elementwise(np.reciprocal, x)
        if x.ndim < 2 or x.unit is not None:
            raise UnreadError("the inverse of no matrix")
        return Value(np.linalg.inv(x.array), x.labels)

    def _transposed(self, x: Tree) -> Value:
        return transposed(self.value(x))

    def _root(self, x: Tree) -> Value:
        return elementwise(np.sqrt, self.value(x))

    def _bars(self, sign: str, x: Tree) -> Value:
        v = self.value(x)
        if sign == "|":
            return elementwise(np.abs, v)
        return Value(np.sqrt(reduced(np.sum, replace(v, array=v.array**2), ()).array), v.labels)

    def _inner(self, left: Tree, right: Tree) -> Value:
        return reduced(np.sum, self._pointwise(left, right), ())

    def _mask(self, condition: Tree) -> Value:
        return elementwise(lambda x: x * 1.0, self.value(condition))

    def _relation(self, sign: str, left: Tree, right: Tree) -> Value:
        return elementwise(RELATIONS[sign], self.value(left), self.value(right))

    def _logic(self, sign: str, left: Tree, right: Tree) -> Value:
        f = np.logical_and if sign == "∧" else np.logical_or
        return elementwise(f, self.value(left), self.value(right))

    # -- sums, elements ----------------------------------------------------------------------------------------------

    def _sum(self, letters: tuple[str, ...], body: Tree) -> Value:
        return self._reduced(np.sum, letters, body)

    def _mean(self, name: str, letters: tuple[str, ...], body: Tree) -> Value:
        return self._reduced({"mean": np.mean, "var": np.var, "std": np.std}[name], letters, body)

    def _reduced(self, f: Callable[..., Any], letters: tuple[str, ...], body: Tree) -> Value:
        self._are_indices(letters)
        return reduced(f, self.value(body), letters)

    def _are_indices(self, letters: tuple[str, ...]) -> None:
        for k in letters:
            if k in self.names:
                raise UnreadError(f"{k} is a name and an index")

    def _elements(self, letters: tuple[str, ...], body: Tree) -> Value:
        """The array whose element at ``letters`` is ``body``."""
        self._are_indices(letters)
        expected = self.expected or ()
        self.sizes = dict(zip(letters, expected, strict=True)) if len(expected) == len(letters) else {}
        v = self.value(body)
        sizes, self.sizes = self.sizes, {}
        if v.ndim:
            raise UnreadError(f"an element that is an array of {v.own}")
        for k in letters:
            if k not in v.labels and k in sizes:
                v = elementwise(np.add, v, Value(np.zeros(sizes[k]), (k,)))
        if missing := [k for k in letters if k not in v.labels]:
            raise UnreadError(f"elements at {letters} that do not depend on {missing}")
        kept = tuple(k for k in v.labels if k not in letters)
        order = [v.labels.index(k) for k in (*kept, *letters)]
        return Value(v.array.transpose(order), kept)

    def _indexed(self, base: Tree, indices: tuple[Tree, ...]) -> Value:
        v = dropped(self.value(base))
        if v.pending is not None and len(indices) == v.pending.ndim + 1 and indices[-1][0] == "word":
            v = classes(v, self.sizes[indices[-1][1]]) if indices[-1][1] in self.sizes else v
        if v.pending is not None:
            raise UnreadError("onehot of how many classes")
        if v.unit is not None:
            known = (
                [self.expected[-1]]
                if not any(i[0] == "word" for i in indices) and self.expected
                else [self.sizes[i[1]] for i in indices if i[0] == "word" and i[1] in self.sizes]
            )
            if not known or len(set(known)) > 1:
                raise UnreadError("an element of I whose size nothing says")
            v = settled(v, known[0])
        if v.row or v.free:
            raise UnreadError("an element of a row")
        if len(indices) > v.ndim:
            raise UnreadError(f"{len(indices)} indices of an array of {v.own}")
        array, labels, axis = v.array, list(v.labels), len(v.labels)
        for index in indices:
            array, axis = self._at(array, labels, axis, index)
        return Value(array, tuple(labels))

    def _at(self, array: Any, labels: list[str], axis: int, index: Tree) -> tuple[Any, int]:
        """``array`` at an index of ``axis``, and the axis of the next index."""
        if index[0] == "slice":
            parts = [None if p is None else int(self.value(p).array) for p in index[1:]]
            return array[(slice(None),) * axis + (slice(*parts),)], axis + 1
        if index[0] == "word" and index[1] in LETTERS:
            letter = index[1]
            if letter in labels:  # the diagonal
                at = labels.index(letter)
                return np.moveaxis(np.diagonal(array, axis1=at, axis2=axis), -1, at), axis
            labels.append(letter)
            place = len(labels) - 1
            return np.moveaxis(array, axis, place), axis + 1
        if index[0] == "name" and index[1] in LETTERS and self.names[index[1]].array.dtype.kind == "f":
            raise UnreadError(f"{index[1]} is a name and an index")
        at = self.value(index)
        if at.labels:
            raise UnreadError("an index that depends on an open one")
        if at.ndim == 0:
            n, k = array.shape[axis], int(at.array)
            if not -n <= k < n:
                raise UnreadError(f"element {k} of {n}")
            return np.take(array, k, axis), axis
        chosen = np.take(array, at.array.astype(int), axis)
        return chosen, axis + at.ndim

    def _list(self, *items: Tree) -> Value:
        return value(np.stack([self.value(i).array for i in items]))

    # -- functions ---------------------------------------------------------------------------------------------------

    def _call(self, name: str, *arguments: Tree) -> Value:
        options = {key: vs[0] if len(vs) == 1 else vs for _, key, vs in (a for a in arguments if a[0] == "option")}
        plain = [a for a in arguments if a[0] != "option"]
        if name == "place":
            return self._placed(*plain)
        if name == "onehot":
            return self._onehot(plain, options)
        if name == "diag" and plain[0][0] != "sizes":
            v = self.value(plain[0])
            if v.ndim == 1 and not v.free:
                array = v.array[..., None] * np.eye(v.own[0])
                return Value(array, v.labels)
        if name in functions.POINTWISE and not options:
            return elementwise(functions.POINTWISE[name], *map(self.value, plain))
        if name in ("max", "min") and len(plain) == 2:
            return elementwise({"max": np.maximum, "min": np.minimum}[name], *map(self.value, plain))
        if name not in functions.OF_ARRAYS:
            raise UnreadError(f"the function {name} with {options}")
        return self._of_arrays(functions.OF_ARRAYS[name], plain, options)

    def _of_arrays(self, f: Callable[..., Any], plain: list[Tree], options: dict[str, Any]) -> Value:
        args: list[Any] = []
        for a in plain:
            if a[0] in ("sizes", "pairs"):
                args.append(tuple(a[1:]))
            else:
                v = dropped(self.value(a))
                if v.labels or v.free or v.unit is not None:
                    raise UnreadError("a function of elements that looks at their neighbours")
                args.append(v.array if v.ndim or a[0] != "number" else int(v.array))
        try:
            return value(f(*args, **options))
        except (TypeError, ValueError, IndexError) as error:
            raise UnreadError(str(error)) from error

    def _placed(self, x: Tree, places: Tree) -> Value:
        """An array among zeros, as many as make the shape of the line."""
        part, shape = self.value(x), self.expected
        if shape is None or part.labels or part.row or part.free:
            raise UnreadError("an array placed among zeros, of how many nothing says")
        result = np.zeros(shape)
        where = []
        for axis, index in enumerate(places[1:]):
            sliced = index[0] == "slice"
            bounds = [None if p is None else int(self.value(p).array) for p in (index[1:] if sliced else ())]
            at = slice(*bounds) if sliced else slice(int(self.value(index).array), int(self.value(index).array) + 1)
            where.append(at if axis < len(shape) else None)
        if len(where) > len(shape):
            raise UnreadError(f"{len(where)} places of an array of {shape}")
        chosen = result[tuple(where)]
        if [n for n in chosen.shape if n != 1] != [n for n in part.own if n != 1]:
            raise UnreadError(f"an array of {part.own} in {chosen.shape} places")
        result[tuple(where)] = part.array.reshape(chosen.shape)
        return value(result)

    def _onehot(self, plain: list[Tree], options: dict[str, Any]) -> Value:
        inner = plain[0]
        if len(plain) == 1 and not options and not (inner[0] == "call" and inner[1] in functions.ONEHOT):
            places = self.value(inner).array
            return Value(np.ones((*places.shape, 1)), pending=places)
        if inner[0] != "call" or inner[1] not in functions.ONEHOT or options:
            raise UnreadError("onehot of how many classes")
        given = {key: vs[0] if len(vs) == 1 else vs for _, key, vs in (a for a in inner[2:] if a[0] == "option")}
        return self._of_arrays(functions.ONEHOT[inner[1]], [a for a in inner[2:] if a[0] != "option"], given)


_METHODS = {"⊙": "pointwise", "⊘": "divided", "/": "over", "⊗": "kronecker"}
