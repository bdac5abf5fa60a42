"""Keys of the random number generator: made of seeds, split, and turned into bits.

Enters: integer seeds, and keys, which are arrays uint32[2].  Leaves: keys, and arrays of unsigned integers.
Invariant: an element of a result is Threefry-2×32 of the key and of the element's place alone, as in JAX 0.10 with
its default settings and 64-bit types enabled; there is no state.  Start reading at `words_of`, which every sampler asks
for the bits of its elements.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import numpy as np

from gradc.aval import Shape
from gradc.errors import DTypeError, ShapeError
from gradc.node import FUNCTIONS, OPS, Label, Node, as_node, constant, describe, here, tracing
from gradc.numpy.axes import shape_of
from gradc.numpy.public import Array, ArrayLike, evaluated, is_traced, public
from gradc.numpy.shapes import joined, reshaped
from gradc.ops.elementwise import broadcast_to, unyielding
from gradc.ops.elementwise import cast as as_dtype
from gradc.ops.leaves import full, iota
from gradc.ops.randomness import TWO_WORDS, WORD
from gradc.random.arguments import full_name, unsigned_dtype
from gradc.random.reuse import Use, note

F = TypeVar("F", bound=Callable[..., Any])

#: counters up to here have an upper word of 0
_ONE_WORD = 1 << 32


def of_keys(build: F) -> F:
    """The public form of a function that makes keys of keys: what is known is computed at once, in a trace, too."""
    FUNCTIONS[f"random.{build.__name__}"] = build
    return public(build)


def sampler(build: F) -> F:
    """The public form of a function that draws: inside a trace always traced, so that its numbers are made where they
    are used.  The result is labelled as a draw, of which formulas tell no more."""
    name = f"random.{build.__name__}"

    @functools.wraps(build)
    def draw(*args: Any, **kwargs: Any) -> Any:
        result = build(*args, **kwargs)
        if not (tracing() or is_traced(args) or is_traced(kwargs.values())):
            return evaluated(result)
        operands = tuple(x for x in (*args, *kwargs.values()) if isinstance(x, Node))
        if result.label is None and not any(result is x for x in operands):
            result.label = Label(name, operands, {})
        return result

    FUNCTIONS[name] = draw
    return cast(F, draw)


@of_keys
def key(seed: ArrayLike) -> Array:
    """A key, uint32[2], of an integer seed: its upper and its lower 32 bits.

    A Python integer, traced or not, counts as int64, so that −1 has all bits set; an array's integer of at most 32 bits
    leaves the upper word 0, a truth value is 0 or 1.  DTypeError for what is no integer or does not fit into 64 bits,
    ShapeError for an array of several.

    >>> key(7).tolist()
    [0, 7]
    """
    node = unyielding(as_node(seed))
    if node.dtype == bool:
        node = as_dtype(node, np.int64)
    if node.dtype.kind not in "iu":
        raise DTypeError(f"{here()}: random.key: a seed is an integer, got {_shown(seed, node)}")
    if node.shape != ():
        raise ShapeError(
            f"{here()}: random.key: a seed is one integer, got {_shown(seed, node)}; for a key of each use gc.vmap"
        )
    low = as_dtype(node, WORD)
    if node.dtype.itemsize < TWO_WORDS.itemsize:
        high = constant(np.uint32(0))
    else:
        high = as_dtype(FUNCTIONS["bitwise_right_shift"](as_dtype(node, TWO_WORDS), np.uint64(32)), WORD)
    return _stacked(high, low)


@of_keys
def split(key: ArrayLike, num: int | Sequence[int] = 2) -> Array:
    """``num`` new keys, uint32[num, 2], independent of each other and of all else that is drawn with ``key``.

    ``num`` may be a shape.  Do not use ``key`` itself again: its draws and the new keys come from the same bits.

    >>> first, second = split(key(0))
    >>> first.tolist()
    [1797259609, 2579123966]
    """
    shape = shape_of(num)
    words = _words(key, "split")
    note(key, Use.SPLIT)
    return _stacked(*(_encrypted(words, counter_of(shape), part) for part in ("high", "low")))


@of_keys
def fold_in(key: ArrayLike, data: ArrayLike) -> Array:
    """A new key, uint32[2], of a key and an integer: the number of a step, of a layer, of a process.

    ``data`` counts modulo 2³²; a Python integer must lie in [0, 2³²).  Different numbers give independent keys.
    """
    node = as_node(data)
    if node.dtype.kind not in "iu" or node.shape != ():
        raise DTypeError(f"{here()}: random.fold_in: data is one integer, got {_shown(data, node)}")
    if isinstance(data, int) and not 0 <= data < _ONE_WORD:
        raise DTypeError(f"{here()}: random.fold_in: data must lie in [0, 2**32), got {data}")
    counter = (constant(np.uint32(0)), as_dtype(node, WORD))
    words = _words(key, "fold_in")
    return _stacked(*(_encrypted(words, counter, part) for part in ("high", "low")))


@sampler
def bits(key: ArrayLike, shape: Any = (), dtype: Any = None) -> Array:
    """Uniform random bits: an array of ``shape`` of an unsigned integer dtype (None: uint64)."""
    target = unsigned_dtype(dtype, "bits")
    return bits_of(words_of(key, "bits"), shape_of(shape), target)


def words_of(key: ArrayLike, name: str) -> list[Node]:
    """The two words of a key, which the sampler ``name`` uses up."""
    words = _words(key, name)
    note(key, Use.DRAW)
    return words


def bits_of(words: Sequence[Node], shape: Shape, dtype: np.dtype[Any]) -> Node:
    """Bits of an array of ``shape``, of the two words of a key that is used for nothing else."""
    if dtype == TWO_WORDS:
        return _encrypted(words, counter_of(shape), "both")
    found = _encrypted(words, counter_of(shape), "xor")
    return found if dtype == WORD else as_dtype(found, dtype)


def split_words(words: Sequence[Node], count: int = 2) -> list[list[Node]]:
    """The words of ``count`` keys made of the words of one, as `split` makes them."""
    counters = [(constant(np.uint32(0)), constant(np.uint32(k))) for k in range(count)]
    return [[_encrypted(words, c, part) for part in ("high", "low")] for c in counters]


def checked(key: ArrayLike, name: str) -> Node:
    """``key`` as a node; an error says what else was given."""
    if isinstance(key, (bool, int, float)):
        raise DTypeError(
            f"{here()}: {full_name(name)}: expected a key, got the number {key!r}; make one with gc.random.key({key!r})"
        )
    node = as_node(key)
    if node.dtype != WORD:
        raise DTypeError(
            f"{here()}: {full_name(name)}: a key is an array of uint32, as gc.random.key(seed) gives it, got "
            f"{_shown(key, node)}"
        )
    if node.shape != (2,):
        remedy = "for several keys use gc.vmap" if node.ndim > 1 and node.shape[-1] == 2 else "see gc.random.key"
        raise ShapeError(f"{here()}: {full_name(name)}: one key has the shape (2,), got {_shown(key, node)}; {remedy}")
    return node


def _words(key: ArrayLike, name: str) -> list[Node]:
    """The two words of a key; of one that is known they are numbers."""
    node = checked(key, name)
    if not isinstance(key, Node):
        return [constant(np.uint32(word)) for word in np.asarray(key)]
    return [FUNCTIONS["getitem"](node, k) for k in range(2)]


def _encrypted(words: Sequence[Node], counter: Sequence[Node], part: str) -> Node:
    """Threefry of a key and an array of counters."""
    shape = counter[1].shape
    return OPS["threefry"].make([broadcast_to(w, shape) for w in (*words, *counter)], part=part)


def counter_of(shape: Shape) -> tuple[Node, Node]:
    """The number of each element of an array, in order, as two words."""
    size = int(np.prod(shape, dtype=object))
    if size <= 1:
        return full(shape, 0, WORD), full(shape, 0, WORD)
    if size <= _ONE_WORD:
        return full(shape, 0, WORD), reshaped(iota((size,), 0, WORD), shape)
    number = reshaped(iota((size,), 0, TWO_WORDS), shape)
    return as_dtype(FUNCTIONS["bitwise_right_shift"](number, np.uint64(32)), WORD), as_dtype(number, WORD)


def _stacked(high: Node, low: Node) -> Node:
    """Keys of their upper and lower words, along a new last axis."""
    return joined([reshaped(word, (*word.shape, 1)) for word in (high, low)], high.ndim)


def _shown(given: Any, node: Node) -> str:
    return describe(node) if isinstance(given, Node) else f"{node.dtype}{list(node.shape)}"
