"""sparse_jacobian and sparse_hessian: functions whose results are sparse matrices.

Enters: a function of arrays.  Leaves: a function of the same arguments.  The first call at some shapes prepares: it
derives the pattern, colours it and compiles what computes the entries; later ones run that.
Start reading at `SparseJacobian`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradc.api.compiled import Jitted, jit
from gradc.api.derivatives import arrays_of, grad, select, title_of, with_respect_to
from gradc.api.transform import Transform, name_to_travel_by
from gradc.aval import Aval
from gradc.containers import Structure, leaves_of
from gradc.diff.derived import Derived, noted
from gradc.diff.sparsity import Pattern
from gradc.errors import DTypeError
from gradc.graph import Graph
from gradc.node import Node, here
from gradc.passes import looked_into
from gradc.sparse.colouring import Side, coloured
from gradc.sparse.given import given_pattern, probe
from gradc.sparse.matrix import assembled, template
from gradc.sparse.prepared import Prepared, entries_of, places_of, structure_of
from gradc.sparse.shown import SparsityPattern
from gradc.sparse.star import places_in_symmetric, star_coloured
from gradc.trace import aval_of, run

#: how many are kept: those that were used last, of whatever shapes and index values the arguments are
MOST_KEPT = 16


def sparse_jacobian(
    f: Callable[..., Any], argnums: int = 0, pattern: Any = None, colouring: Side = "auto"
) -> SparseJacobian:
    """All first derivatives of an array-valued function by one array argument, as a `scipy.sparse.csr_array`.

    Row i is element i of the result and column j element j of the argument, both in row-major order.  The pattern is
    derived from what the function does to indices, at the shapes of the arguments, so it holds for all their values; of
    integer arguments that choose elements it holds for those values, and other ones are prepared again.  Columns, or
    rows, that share no entry are found by one directional derivative, all of them in one compiled call.  What is
    infinite or NaN in one column leaves others of its colour alone, except through matrix products and loops.

    ``pattern``: where the entries are, as a sparse matrix, a mask, or the ``.pattern`` of another derivative; it is
    held against the function at the first call, and ValueError names an entry that is not in it.  ``colouring``:
    "columns" (forward mode), "rows" (reverse mode) or "auto", whichever costs less, or some of both.

    Without SciPy, and inside a trace, the result is a `gradc.sparse.SparseMatrix`, with ``.indices``, ``.values`` and
    ``.shape``.

    >>> import numpy as np
    >>> J = sparse_jacobian(lambda x: x[1:] * x[:-1])
    >>> J(np.array([1.0, 2.0, 3.0])).toarray()
    array([[2., 1., 0.],
           [0., 3., 2.]])
    >>> J.pattern.colours
    2
    """
    title_of(f, "sparse_jacobian")
    if colouring not in ("auto", "columns", "rows"):
        raise ValueError(f"{here()}: colouring={colouring!r}: expected 'auto', 'columns' or 'rows'")
    return SparseJacobian(f, argnums, pattern, colouring)


@dataclass(frozen=True, eq=False)
class Ready:
    """A sparse derivative at one kind of arguments: what is known of it, and a function that returns the entries, row
    after row, with fresh arrays of their columns and of the ends of rows."""

    prepared: Prepared
    function: Jitted
    pattern: SparsityPattern
    like: Any  #: a matrix with this pattern, of SciPy's class


class Kept:
    """What has been prepared, and may be asked for by several threads at once: each change is one assignment."""

    def __init__(self) -> None:
        self._newest_first: tuple[tuple[Hashable, Ready], ...] = ()
        self._last: Ready | None = None
        self._own = threading.local()

    def fitting(self, key: Hashable, leaves: Sequence[Any]) -> Ready | None:
        """The one for arguments of this kind and with these index values."""
        return next((r for k, r in self._newest_first if k == key and r.prepared.fits(leaves)), None)

    def used(self, key: Hashable, ready: Ready) -> None:
        """Note a use by this thread; what was not used for longest is let go."""
        self._last = self._own.last = ready
        newest = self._newest_first
        traced = ready.prepared.graph.free  # what reads an open trace is that trace's alone
        if not traced and not (newest and newest[0][1] is ready):
            others = tuple(one for one in newest if one[1] is not ready)
            self._newest_first = ((key, ready), *others)[:MOST_KEPT]

    @property
    def last(self) -> Ready | None:
        """The one that this thread used last, or else any thread."""
        found: Ready | None = getattr(self._own, "last", self._last)
        return found


class SparseJacobian(Transform):
    """See `sparse_jacobian`."""

    whose = "sparse_jacobian"

    def __init__(self, f: Callable[..., Any], argnums: int, pattern: Any, colouring: Side):
        super().__init__(f, argnums, pattern, colouring)
        if isinstance(argnums, bool) or not isinstance(argnums, (int, np.integer)):
            raise TypeError(
                f"{here()}: {self.whose}({self.title}): argnums={argnums!r:.40}: expected one position; the columns "
                "are the elements of one argument.  For several, differentiate by their gc.tree.ravel"
            )
        self.argnums, self.given, self.colouring = argnums, pattern, colouring
        self._kept = Kept()
        noted(self, Derived(f, argnums, 1, self._remarks))

    def _remarks(self, *args: Any, **kwargs: Any) -> Sequence[str]:
        """The row of `gradc.explain` that says where the entries are and how they are found."""
        return (f"sparse: {self._ready(args, kwargs, check=False).pattern.summary()}",)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        ready = self._ready(args, kwargs, check=True)
        entries, columns, ends = ready.function(*args, **kwargs)
        return assembled(ready.like, entries, columns, ends, ready.prepared.pattern)

    def prepare(self, *args: Any, **kwargs: Any) -> SparseJacobian:
        """Derive the pattern, colour it and compile for these arguments (arrays or `spec`s), without a call.

        Returns the function itself.
        """
        ready = self._ready(args, kwargs, check=False)
        ready.function.lower(*args, **kwargs)
        return self

    @property
    def pattern(self) -> SparsityPattern:
        """The pattern at the arguments of the last call, or of the last `prepare`; ``print`` shows it.

        Each thread sees that of its own last call; one that has made none, that of the last call of any.
        """
        last = self._kept.last
        if last is None:
            raise AttributeError(
                f"{here()}: {self.whose}({self.title}) has no pattern yet: it depends on the shapes of the arguments. "
                "Call it, or .prepare(...) it, first"
            )
        return last.pattern

    # -- preparing -----------------------------------------------------------------------------------------------------
    def _ready(self, args: tuple[Any, ...], kwargs: dict[str, Any], check: bool) -> Ready:
        leaves, structure = leaves_of((args, kwargs))
        key = self._key(leaves, structure)
        ready = self._kept.fitting(key, leaves) or self._made(args, kwargs, leaves, check)
        self._kept.used(key, ready)
        return ready

    def _key(self, leaves: Sequence[Any], structure: Structure) -> Hashable:
        """What a pattern is for: shapes and dtypes of all arguments, and which of them are only described."""
        return structure, tuple(
            (x.shape, x.dtype) if type(x) is np.ndarray else (aval_of(x), isinstance(x, Aval)) for x in leaves
        )

    def _made(self, args: tuple[Any, ...], kwargs: dict[str, Any], leaves: Sequence[Any], check: bool) -> Ready:
        graph, x = self._differentiable(args, kwargs)
        values = {
            node: np.asarray(leaf)
            for node, leaf in zip(graph.inputs, leaves, strict=False)
            if not node.aval.is_float and not isinstance(leaf, Aval | Node)
        }
        (y,) = graph.outputs
        if self.given is None:
            pattern, asked = self._structure(graph, x, values)
        else:
            pattern, asked = given_pattern(self.given, (y.size, x.size), f"{self.whose}({self.title})"), frozenset()
        kept = [(i, values[node].copy()) for i, node in enumerate(graph.inputs) if node in asked]
        prepared = self._coloured(graph, x, pattern, kept)
        ready = self._as_function(graph, x, prepared)
        if self.given is not None and check and not graph.free and not any(isinstance(v, Node) for v in leaves):
            probe(graph, x, ready.function(*args, **kwargs)[0], prepared.pattern, leaves, f"{self.whose}({self.title})")
        return ready

    def _structure(self, graph: Graph, x: Node, values: Mapping[Node, Any]) -> tuple[Pattern, frozenset[Node]]:
        return structure_of(graph, x, values)

    def _coloured(self, graph: Graph, x: Node, pattern: Pattern, asked: Sequence[tuple[int, Any]]) -> Prepared:
        (y,) = graph.outputs
        colouring = coloured(pattern, (y.shape, x.shape), self.colouring)
        entries = entries_of(graph, x, pattern, colouring, places_of(pattern, colouring))
        return Prepared(pattern, colouring, entries, asked)

    def _as_function(self, graph: Graph, x: Node, prepared: Prepared) -> Ready:
        pattern = prepared.pattern
        small = np.int32 if max(*pattern.shape, pattern.entries) < np.iinfo(np.int32).max else np.int64
        columns, ends = pattern.columns.astype(small), pattern.ends.astype(small)

        def entries(*args: Any, **kwargs: Any) -> Any:
            return run(prepared.graph, arrays_of(args, kwargs))[0], columns, ends

        entries.__name__ = f"{self.title}_entries"
        shown = SparsityPattern(pattern, prepared.colouring, self._title_at(graph.names.get(x, "x")))
        return Ready(prepared, jit(entries), shown, template(columns, ends, graph.outputs[0].dtype, pattern.shape))

    def _title_at(self, name: str) -> str:
        """What is derived by which argument."""
        return f"∂{self.title}/∂{name}"

    def _differentiable(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Graph, Node]:
        """The graph of the function, and the one input that it is differentiated by."""
        whose = f"{here()}: {self.whose}({self.title})"
        (structure,) = select(args, self.argnums, self.title).structures
        if not structure.is_leaf:
            raise TypeError(
                f"{whose}: argument {self.argnums} nests {structure.size} arrays; columns are the elements of one.\n"
                "  Differentiate by one vector:  v, unravel = gc.tree.ravel(argument)  and a function of unravel(v)."
            )
        _, graph, inputs = with_respect_to(self.function, args, kwargs, self.argnums, self.title)
        assert graph.out_tree is not None
        if not graph.out_tree.is_leaf:
            raise TypeError(
                f"{whose}: the result nests {len(graph.outputs)} arrays; the rows are the elements of one.\n"
                "  Return one vector, such as gc.tree.ravel(result)[0]."
            )
        if not graph.outputs[0].aval.is_float:
            raise DTypeError(
                f"{whose}: the result is {graph.outputs[0].aval}; integers and bools have no derivative.\n"
                "  Return floats, or cast the result with .astype(float) if its derivative is 0."
            )
        return looked_into(graph), inputs[0]


# -- second derivatives ------------------------------------------------------------------------------------------------


def sparse_hessian(f: Callable[..., Any], argnums: int = 0, pattern: Any = None) -> SparseHessian:
    """All second derivatives of a scalar function by one array argument, as a symmetric `scipy.sparse.csr_array`.

    Row i and column i are element i of the argument, in row-major order.  The pattern is that of the gradient's graph.
    It gets a star colouring, so that each entry is found on one side of the diagonal; all colours are directions of one
    compiled Hessian-vector product.  (i, j) and (j, i) are the same bits.

    ``pattern``: as for `sparse_jacobian`; what is in one half counts for both.

    >>> import numpy as np
    >>> H = sparse_hessian(lambda x: np.sum(x[1:] * x[:-1] ** 2))
    >>> H(np.array([1.0, 2.0, 3.0])).toarray()
    array([[4., 2., 0.],
           [2., 6., 4.],
           [0., 4., 0.]])
    """
    title_of(f, "sparse_hessian")
    return SparseHessian(f, argnums, pattern)


class SparseHessian(SparseJacobian):
    """See `sparse_hessian`."""

    whose = "sparse_hessian"

    def __init__(self, f: Callable[..., Any], argnums: int, pattern: Any):
        super().__init__(grad(f, argnums), argnums, pattern, "columns")
        self.settings = (argnums, pattern)
        self._differentiated = f
        noted(self, Derived(f, argnums, 2, self._remarks))

    def __reduce__(self) -> str | tuple[Any, ...]:
        return name_to_travel_by(self) or (SparseHessian, (self._differentiated, *self.settings))

    def _title_at(self, name: str) -> str:
        return f"∂²{self.title}/∂{name}²"

    def _coloured(self, graph: Graph, x: Node, pattern: Pattern, asked: Sequence[tuple[int, Any]]) -> Prepared:
        pattern = pattern.symmetrised()
        colouring = star_coloured(pattern, x.shape)
        entries = entries_of(graph, x, pattern, colouring, places_in_symmetric(pattern, colouring))
        return Prepared(pattern, colouring, entries, asked)


__all__ = ["SparseHessian", "SparseJacobian", "sparse_hessian", "sparse_jacobian"]
