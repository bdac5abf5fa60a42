"""Trees as the vectors that SciPy works on, functions of trees as compiled functions of such vectors.

Enters: a guess in a tree, and functions of such trees.  Leaves: a `Flat`.  Invariant: SciPy sees vectors of float64,
and functions see trees with the dtypes of the guess; further arguments are arguments of the compiled functions, as they
are, so that other values of them compile nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc import tree
from gradc.api.bodies import Leaves, required_function
from gradc.api.compiled import jit
from gradc.api.jacobian import jacobian
from gradc.containers import leaves_of
from gradc.errors import DTypeError, TraceError
from gradc.node import Node, describe, here
from gradc.solve.unknowns import array_of_numbers
from gradc.sparse import sparse_jacobian
from gradc.trace import function_name, trace


def optimize_of(whose: str) -> Any:
    """`scipy.optimize`; ImportError with the remedy where SciPy is not installed."""
    try:
        import scipy.optimize
    except ImportError as error:
        raise _missing(whose, error) from None
    return scipy.optimize


def integrate_of(whose: str) -> Any:
    """`scipy.integrate`, likewise."""
    try:
        import scipy.integrate
    except ImportError as error:
        raise _missing(whose, error) from None
    return scipy.integrate


def _missing(whose: str, error: ImportError) -> ImportError:
    return ImportError(
        f"{here()}: gc.scipy.{whose} needs SciPy, which cannot be imported ({error}): pip install 'gradc[scipy]'"
    )


def refuse_traced(values: Any, whose: str, instead: str) -> None:
    """TraceError for arguments without values."""
    if any(isinstance(x, Node) for x in leaves_of(values)[0]):
        raise TraceError(
            f"{here()}: gc.scipy.{whose} was called with a traced value, and SciPy works on numbers.\n"
            f"  Inside a trace {instead}."
        )


#: A Jacobian of so many elements, of which at most such a part may not be zero, is handed over as a sparse matrix.
LEAST_SPARSE, MOST_FILLED = 10_000, 0.1


@dataclass(frozen=True, eq=False)
class Flat:
    """A guess as a vector, and the way back to trees."""

    start: np.ndarray[Any, Any]
    unravel: tree.Unravel
    args: tuple[Any, ...]
    whose: str

    @classmethod
    def of(cls, guess: Any, args: Any, whose: str, what: str, instead: str) -> Flat:
        """TypeError, DTypeError or TraceError for what holds no floats."""
        if not isinstance(args, tuple):
            args = (args,)
        refuse_traced((guess, args), whose, instead)
        given = Leaves.of(array_of_numbers(guess), what, f"gc.scipy.{whose}")
        if not given.values:
            raise TypeError(f"{here()}: gc.scipy.{whose}: {what} holds no array")
        for aval, name in zip(given.avals, given.names, strict=True):
            if aval.dtype == np.bool_:
                raise DTypeError(f"{here()}: gc.scipy.{whose}: {name} is {aval}; expected floats")
        pairs = zip(given.values, given.avals, strict=True)
        floats = [np.asarray(v, a.dtype if a.is_float else np.float64) for v, a in pairs]
        vector, unravel = tree.ravel(given.structure.unflatten(floats))
        return cls(np.asarray(vector, np.float64), unravel, args, whose)

    def on_vectors(self, f: Callable[..., Any], before: int = 0) -> Callable[..., Any]:
        """``f`` of a vector in place of its tree, which is argument number ``before``; its result is one vector."""
        required_function(f, f"gc.scipy.{self.whose}", "functions of trees")

        def flat(*given: Any) -> Any:
            front, x, rest = given[:before], given[before], given[before + 1 :]
            return tree.ravel(f(*front, self.unravel(x), *rest))[0].astype(np.float64)

        flat.__name__ = function_name(f)
        return flat

    def scalar(self, f: Callable[..., Any]) -> Callable[..., Any]:
        """``f`` of a vector in place of its tree, as it is: derivatives say what is wrong with its result."""
        required_function(f, f"gc.scipy.{self.whose}", "a function of trees")

        def flat(x: Any, *rest: Any) -> Any:
            return f(self.unravel(x), *rest)

        flat.__name__ = function_name(f)
        return flat

    def compiled(self, f: Callable[..., Any], vectors: Sequence[int] = (0,)) -> Callable[..., Any]:
        """``f``, compiled, for vectors of SciPy's, which are its arguments number ``vectors``; others, such as
        ``args``, are what the user handed over, with the dtypes that they have."""
        native = jit(f)

        def call(*given: Any) -> Any:
            found = native(*(np.asarray(x, np.float64) if k in vectors else x for k, x in enumerate(given)))
            traced = [x for x in leaves_of(found)[0] if isinstance(x, Node)]
            if traced:
                raise TraceError(
                    f"{here()}: gc.scipy.{self.whose}: {function_name(f)} reads a traced value, and SciPy works on "
                    "numbers.\n  Call it outside of the trace, or use gradc's own solvers inside.  "
                    f"{describe(traced[0])}"
                )
            return found

        return call

    def jacobian(self, f: Callable[..., Any], args: tuple[Any, ...], sparse: bool) -> Callable[..., Any]:
        """The compiled Jacobian of a function of vectors; ``sparse`` where SciPy takes it so, and it is large enough
        and mostly zeros: then a `scipy.sparse` matrix."""
        rows = trace(f, self.start, *args).outputs[0].size if sparse else 0
        if rows * self.start.size >= LEAST_SPARSE:
            found = sparse_jacobian(f).prepare(self.start, *args)
            if found.pattern.entries <= MOST_FILLED * rows * self.start.size:
                return lambda x, *rest: found(np.asarray(x, np.float64), *rest)
        return self.compiled(jacobian(f))

    def tree(self, vector: Any) -> Any:
        """A vector of SciPy's as a tree like the guess."""
        return self.unravel(np.asarray(vector, np.float64))
