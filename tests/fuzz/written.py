"""Calls of functions whose arguments hang together, or whose results have a length of gradc's own: written out.

Enters: a `Scope`.  Leaves: the text of a call.  Start reading at `WRITTEN`.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.fuzz.scope import Scope, is_float


def _written(*texts: str, least: int = 0, ndim: int | None = None) -> Callable[[Scope], str]:
    """One of some texts about a float value ``{x}``, another of the same shape ``{y}`` and its bounds."""

    def call(scope: Scope) -> str:
        x = scope.float(least, lambda a: a.size > 0 and (ndim is None or a.ndim == ndim))
        y = scope.pick(lambda a: a.shape == scope.values[x].shape and is_float(a))
        return str(scope.one_of(texts)).format(x=x, y=y, n=scope.values[x].shape[0] if least or ndim else 1)

    return call


WRITTEN: dict[str, Callable[[Scope], str]] = {
    "gnp.nonzero": _written("gnp.flatnonzero({x} > 0.1, size=4)"),
    "gnp.flatnonzero": _written("gnp.flatnonzero({x} > 0.1, size=4)", "gnp.flatnonzero({x}, size=2, fill_value=-1)"),
    "gnp.argwhere": _written("gnp.argwhere({x} > 0.1, size=3)", least=1),
    "gnp.compress": _written("gnp.compress({x} > 0, {y}, size=3)", "gnp.compress({x} > 0, {x}, size=2)", ndim=1),
    "gnp.extract": _written("gnp.extract({x} > 0, {y}, size=4, fill_value=0.5)"),
    "gnp.unique": _written("gnp.unique({x}, size=5)", "gnp.unique(gnp.round({x}), size=3)"),
    "gnp.union1d": _written("gnp.union1d({x}, gnp.round({y}), size=6)"),
    "gnp.intersect1d": _written("gnp.intersect1d(gnp.round({x}), gnp.round({y}), size=4, fill_value=9.0)"),
    "gnp.setdiff1d": _written("gnp.setdiff1d({x}, gnp.round({y}), size=4, fill_value=9.0)"),
    "gnp.setxor1d": _written("gnp.setxor1d({x}, gnp.round({y}), size=4, fill_value=9.0)"),
    "gnp.unique_values": _written("gnp.unique_values(np.array([2.0, 1.0, 2.0])) * gnp.sum({x})"),
    "gnp.unique_counts": _written("gnp.unique_counts(np.array([2.0, 1.0, 2.0]))[1] * gnp.sum({x})"),
    "gnp.unique_inverse": _written("gnp.unique_inverse(np.array([2.0, 1.0, 2.0]))[1] * gnp.sum({x})"),
    "gnp.unique_all": _written("gnp.unique_all(np.array([2.0, 1.0, 2.0]))[0] * gnp.sum({x})"),
    "gnp.interp": _written("gnp.interp({x}, [-1.0, 0.25, 1.5], [2.0, -1.0, 0.5])",
                           "gnp.interp(0.3, gnp.sort({x}), {y})",
                           "gnp.interp({y}, gnp.sort({x}), gnp.cos({x}), left=0.5, right=1)",
                           "gnp.interp({x}, [0.1, 0.9], {y}[:2], period=1.3)", ndim=1),
    "gnp.apply_along_axis": _written("gnp.apply_along_axis(gnp.cumsum, 0, {x})",
                                     "gnp.apply_along_axis(np.sum, -1, {x})", least=1),
    "gnp.apply_over_axes": _written("gnp.apply_over_axes(gnp.sum, {x}, 0)", "gnp.apply_over_axes(np.max, {x}, [0])",
                                    least=1),
    "gnp.block": _written("gnp.block([[{x}, {y}], [{y}, {x}]])", "gnp.block([{x}, {y}])", least=1),
    "gnp.choose": _written("gnp.choose(gnp.astype({x} > 0, int), [{x}, {y}])",
                           "gnp.choose(gnp.astype({x} * 3, int), [{x}, {y}, 1.0], mode='clip')"),
    "gnp.delete": _written("gnp.delete({x}, 0)", "gnp.delete({x}, [0, -1], axis=0)",
                           "gnp.delete({x}, slice(0, 1), axis=0)", least=1),
    "gnp.insert": _written("gnp.insert({x}, 0, 0.5)", "gnp.insert({x}, 1, {y}[0], axis=0)",
                           "gnp.insert({x}, [0, 1], 2, 0)", least=1),
    "gnp.ix_": _written("{x}[gnp.ix_([0, -1])]", least=1),
    "gnp.lexsort": _written("gnp.lexsort(({x}, gnp.round({y})))", least=1),
    "gnp.partition": _written("gnp.partition({x}, 0)[..., 0]", "gnp.partition({x}, -1, axis=0)[-1]", least=1),
    "gnp.argpartition": _written("gnp.argpartition({x}, -1)[..., -1]", least=1),
    "gnp.piecewise": _written("gnp.piecewise({x}, [{x} < 0, {y} > 0.5], [gnp.sin, lambda v: v * v, 1.5])"),
    "gnp.put_along_axis": _written("gnp.put_along_axis({x}, gnp.argsort({y}, axis=0)[:1], 0.5, 0)",
                                   "gnp.put_along_axis({x}, gnp.argsort({x}, axis=-1), {y}, -1)", least=1),
    "gnp.geomspace": _written("gnp.geomspace(0.5 + abs({x}), 3.0, 4)", "gnp.geomspace(1.0, 2.0 + gnp.sin({x}), 3)"),
    "gnp.ravel_multi_index": _written("gnp.ravel_multi_index((gnp.astype({x} * 9, int), 1), (4, 3), mode='wrap')"),
    "gnp.unravel_index": _written("gnp.unravel_index(gnp.astype(abs({x}), int) % 12, (3, 4))[1]"),
    "gnp.packbits": _written("gnp.packbits({x} > 0)"),
    "gnp.unpackbits": _written("gnp.unpackbits(gnp.astype(abs({x}) * 5, np.uint8))"),
    "gnp.polyval": _written("gnp.polyval([0.5, -1.0, 2.0], {x})", "gnp.polyval({x}, 0.7)",
                            "gnp.polyval({x}, {y})", ndim=1),
    "gnp.polydiv": _written("gnp.polydiv({x}, [2.0, 1.0])[0]", "gnp.polydiv({x}, gnp.array([1.5, {y}[0]]))[0]", ndim=1),
    "gnp.polymul": _written("gnp.polymul([1.0, -2.0], 0.5 + gnp.square({x}))", ndim=1),
    "gnp.polyint": _written("gnp.polyint({x})", "gnp.polyint({x}, 2, k=[1.0, {y}[0]])", ndim=1),
    "Node.choose": _written("gnp.astype({x} > 0, int).choose([{x}, {y}])"),
    "gnp.unwrap": _written("gnp.unwrap(4 * {x})", "gnp.unwrap({x}, period=1.5)", least=1),
    "gnp.gradient": _written("gnp.gradient({x}, 0.5, axis=0)", "gnp.gradient({x}, axis=-1, edge_order=2)",
                             "gnp.gradient({x}, gnp.cumsum(0.5 + abs({y})))", ndim=1),
}  # fmt: skip
