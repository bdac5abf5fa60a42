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
    "special.multigammaln": _written("special.multigammaln(1.5 + abs({x}), 2)", "special.multigammaln(2.5 + {x}, 1)"),
    "special.boxcox": _written("special.boxcox(0.5 + abs({x}), {y})", "special.boxcox(1.5 + gnp.tanh({x}), 0.0)"),
    "special.boxcox1p": _written("special.boxcox1p(abs({x}), {y})", "special.boxcox1p(gnp.tanh({x}) * 0.9, 0.3)"),
    "special.inv_boxcox": _written("special.inv_boxcox(0.5 * gnp.tanh({x}), gnp.tanh({y}))"),
    "special.inv_boxcox1p": _written("special.inv_boxcox1p(0.5 * gnp.tanh({x}), gnp.tanh({y}))",
                                     "special.inv_boxcox1p({x}, 0.0)"),
    "special.sici": _written("special.sici(0.3 + abs({x}))[0]", "special.sici(0.3 + abs({x}))[1]"),
    "special.shichi": _written("special.shichi(0.3 + abs({x}))[0]", "special.shichi(0.3 + abs({x}))[1]"),
    "special.comb": _written("special.comb(3.5 + {x}, 2)", "special.comb(5, gnp.tanh({x}) + 2)"),
    "special.perm": _written("special.perm(4.5 + gnp.tanh({x}), 2)"),
    "special.factorial": _written("special.factorial(1.5 + abs({x}))", "special.factorial(gnp.round(abs({x})))"),
    "special.factorial2": _written("special.factorial2(gnp.astype(abs({x}) * 3, np.int64))"),
    "special.expn": _written("special.expn(2, 0.2 + abs({x}))", "special.expn(1, 1.5 + gnp.tanh({x}))"),
    "special.zeta": _written("special.zeta(1.5 + abs({x}))", "special.zeta(2.5 + gnp.tanh({x}), 0.5 + abs({y}))"),
    "gnp.unwrap": _written("gnp.unwrap(4 * {x})", "gnp.unwrap({x}, period=1.5)", least=1),
    "gnp.gradient": _written("gnp.gradient({x}, 0.5, axis=0)", "gnp.gradient({x}, axis=-1, edge_order=2)",
                             "gnp.gradient({x}, gnp.cumsum(0.5 + abs({y})))", ndim=1),
}  # fmt: skip

# -- random numbers ----------------------------------------------------------------------------------------------------

#: keys that are known as the program is traced, and keys that are values
KEYS = (
    "gc.random.key(3)", "np.array([1, 2], np.uint32)", "gc.random.split(gc.random.key(5), 3)[1]",
    "gc.random.fold_in(gc.random.key(7), gnp.argmax({x}))", "gc.random.key(gnp.sum({x} > 0))",
    "gnp.astype(gnp.stack([gnp.argmin({x}), gnp.sum({y} < 0.5)]), np.uint32)",
)  # fmt: skip
FLOATS = ("np.float64", "np.float32", "np.float16", "gnp.bfloat16")
#: classes 0 and 1 of rows, and signs, that are values
CLASSES, SIGNS = "gnp.astype({y}[:, 0] > 0, np.int64)", "gnp.where({y}[:, 0] > 0, 1, -1)"


def _drawn(*texts: str, least: int = 0) -> Callable[[Scope], str]:
    """One of some texts about a key ``{key}``, a float dtype ``{dtype}``, and the values of `_written`."""

    def call(scope: Scope) -> str:
        text = str(scope.one_of(texts)).replace("{key}", str(scope.one_of(KEYS)))
        return _written(text.replace("{dtype}", str(scope.one_of(FLOATS))), least=least)(scope)

    return call


def _plain(name: str) -> Callable[[Scope], str]:
    """Numbers of a distribution without parameters, beside a value."""
    return _drawn(f"gc.random.{name}({{key}}, {{x}}.shape) + {{x}}", f"gc.random.{name}({{key}}, (3,), {{dtype}})",
                  f"{{x}} * gc.random.{name}({{key}}, {{x}}.shape, {{x}}.dtype)")  # fmt: skip


def _rejected(name: str, parameters: int = 1) -> Callable[[Scope], str]:
    """Numbers of shapes that are values.

    Their derivative by the shape is that of the distribution, which no difference of draws tells, so it is stopped.
    """
    given = ", ".join(["gc.stop_gradient(0.3 + abs({x}))", "gc.stop_gradient(0.5 + gnp.square({y}))"][:parameters])
    shown = ", {x}.shape" if name in ("t", "student_t") else ""
    some, others = (", ".join(numbers[:parameters]) for numbers in (["1.5", "0.4"], ["0.7", "2.5"]))
    return _drawn(f"gc.random.{name}({{key}}, {given}{shown})",
                  f"{{x}} * gc.random.{name}({{key}}, {some}, {{x}}.shape)",
                  f"gc.random.{name}({{key}}, {others}, (2, 2), {{dtype}})")  # fmt: skip


RANDOM: dict[str, Callable[[Scope], str]] = {
    **{f"gc.random.{name}": _plain(name) for name in
       ("normal", "uniform", "exponential", "gumbel", "laplace", "logistic", "cauchy", "rademacher")},
    **{f"gc.random.{name}": _rejected(name) for name in ("gamma", "loggamma", "chisquare", "t", "student_t")},
    "gc.random.beta": _rejected("beta", 2),
    "gc.random.dirichlet": _drawn("gc.random.dirichlet({key}, gc.stop_gradient(0.5 + abs({x})))",
                                  "gc.random.dirichlet({key}, np.array([0.5, 1.0, 2.5]), (2,), {dtype})", least=1),
    "gc.random.key": _drawn("gc.random.key(gnp.argmax({x}))", "gc.random.key(12) + gnp.argmax({x})"),
    "gc.random.split": _drawn("gc.random.split({key})[0]", "gc.random.split({key}, (2, 1))[1, 0]"),
    "gc.random.fold_in": _drawn("gc.random.fold_in({key}, 3)", "gc.random.fold_in({key}, gnp.argmax({x}))"),
    "gc.random.bits": _drawn("gc.random.bits({key}, {x}.shape)", "gc.random.bits({key}, (3,), np.uint8)",
                             "gc.random.bits({key}, (2, 2), np.uint64) % 7"),
    "gc.random.uniform": _drawn("gc.random.uniform({key}, {x}.shape, {x}.dtype, {x}, {x} + 1)",
                                "gc.random.uniform({key}, (4,), {dtype})",
                                "gc.random.uniform({key}, minval=gnp.sum({x}), maxval=3.0)"),
    "gc.random.gumbel": _drawn("gc.random.gumbel({key}, {x}.shape, {x}.dtype) + {x}",
                               "gc.random.gumbel({key}, (3,), {dtype}, 'high')"),
    "gc.random.truncated_normal": _drawn("gc.random.truncated_normal({key}, {x}, {x} + 1.5)",
                                         "gc.random.truncated_normal({key}, -0.5, 0.5 + abs({x}), {x}.shape)",
                                         "gc.random.truncated_normal({key}, -1.0, 2.0, (3,), {dtype})"),
    "gc.random.bernoulli": _drawn("gc.random.bernoulli({key}, 0.3, {x}.shape)",
                                  "gc.random.bernoulli({key}, 0.5 + 0.5 * gnp.tanh({x}))"),
    "gc.random.categorical": _drawn("gc.random.categorical({key}, {x})", "gc.random.categorical({key}, {x}, 0)",
                                    "gc.random.categorical({key}, {x}, -1, (2, *{x}.shape[:-1]))", least=1),
    "gc.random.choice": _drawn("gc.random.choice({key}, {x}, (3,))", "gc.random.choice({key}, 5, (2,), replace=False)",
                               "gc.random.choice({key}, {x}, (), p=nn.softmax(gnp.arange({n}) * 0.5))", least=1),
    "gc.random.permutation": _drawn("gc.random.permutation({key}, {x})", "gc.random.permutation({key}, 4)",
                                    "gc.random.permutation({key}, {x}, -1, independent=True)", least=1),
    "gc.random.randint": _drawn("gc.random.randint({key}, {x}.shape, -3, 9)",
                                "gc.random.randint({key}, (3,), 0, 1 + gnp.argmax({x}), np.int32)"),
    "gc.random.poisson": _drawn("gc.random.poisson({key}, 2.5, {x}.shape)", "gc.random.poisson({key}, abs({x}) * 4)"),
    "gc.random.binomial": _drawn("gc.random.binomial({key}, 7.0, 0.4, {x}.shape)",
                                 "gc.random.binomial({key}, 5, 0.5 + 0.5 * gnp.tanh(gc.stop_gradient({x})))"),
    "gc.random.multivariate_normal": _drawn(
        "gc.random.multivariate_normal({key}, {x}[0], {n} * np.eye({x}.shape[1]) + 0.5)",
        "gc.random.multivariate_normal({key}, {x}[0], {x}.T @ {x} + 2 * np.eye({x}.shape[1]), (2,))", least=2),
    "gc.random.orthogonal": _drawn("gc.random.orthogonal({key}, 3)", "gc.random.orthogonal({key}, 2, (2,), {dtype})",
                                   "gc.random.orthogonal({key}, 2, m=3) * gnp.sum({x})"),
}  # fmt: skip


def _scored(*texts: str) -> Callable[[Scope], str]:
    """Losses of scores ``{x}`` of two classes or more, with ``{classes}`` and ``{signs}`` of their rows."""

    def call(scope: Scope) -> str:
        x = scope.float(2, lambda a: a.ndim == 2 and a.shape[0] > 0 and a.shape[1] > 1)
        y = scope.pick(lambda a: a.shape == scope.values[x].shape and is_float(a))
        text = str(scope.one_of(texts)).replace("{classes}", CLASSES).replace("{signs}", SIGNS)
        reduction = repr(scope.one_of(("mean", "sum", "none")))
        return text.format(x=x, y=y, n=scope.values[x].shape[0], r=f"reduction={reduction}",
                           key=str(scope.one_of(KEYS)).format(x=x, y=y))  # fmt: skip

    return call


LOSSES: dict[str, Callable[[Scope], str]] = {
    "nn.threshold": _written("nn.threshold({x}, 0.25, {y})", "nn.threshold({x}, 0.1, -1.0)"),
    "nn.maxout": _written("nn.maxout(gnp.concatenate([{x}, {y}], axis=0), 2, 0)",
                          "nn.maxout(gnp.stack([{x}, {y}, gnp.sin({x})], axis=-1), 3, dim=-1)", least=1),
    "nn.margin_ranking_loss": _scored("nn.margin_ranking_loss({x}[:, 0], {x}[:, 1], {signs}, margin=0.3, {r})"),
    "nn.multi_margin_loss": _scored("nn.multi_margin_loss({x}, {classes}, {r})",
                                    "nn.multi_margin_loss({x}, {classes}, 2, 0.7, abs({y}[0]), {r})"),
    "nn.multilabel_margin_loss": _scored(
        "nn.multilabel_margin_loss({x}[:, :2], gnp.stack([{classes}, gnp.full({n}, -1)], axis=1), {r})"),
    "nn.mixup": _scored("nn.mixup({x}, {y}, key={key})[0]", "nn.mixup({x}, {y}[:, 0], 0.6, key={key})[1]"),
    "nn.gumbel_softmax": _scored("nn.gumbel_softmax({x}, key={key})", "nn.gumbel_softmax({x}, 0.5, dim=0, key={key})"),
    "nn.focal_loss": _scored("nn.focal_loss({x}, {classes}, {r})",
                             "nn.focal_loss({x}, {classes}, abs({y}[0]) + 0.1, gamma=1.5, ignore_index=1, {r})"),
    "nn.sigmoid_focal_loss": _scored("nn.sigmoid_focal_loss({x}, gnp.astype({y} > 0, {x}.dtype), {r})",
                                     "nn.sigmoid_focal_loss({x}, nn.sigmoid({y}), -1.0, 1.5, {r})"),
    "nn.causal_lm_loss": _scored("nn.causal_lm_loss({x}, {classes}, {y}[:, 0] > -0.5, {r})",
                                 "nn.causal_lm_loss({x}, {classes}, shift=False, label_smoothing=0.1, {r})"),
    "nn.ctc_loss": _scored(
        "nn.ctc_loss(nn.log_softmax({x}), np.array([1]), {n}, 1, {r})",
        "nn.ctc_loss(nn.log_softmax(gnp.tile({x}, (3, 1))), 1 + 0 * {classes}, 3 * {n}, {n}, zero_infinity=True, {r})",
        "nn.ctc_loss(nn.log_softmax(gnp.stack([{x}, {y}], axis=1)), np.array([[1], [1]]), np.array([{n}, 1]), "
        "np.array([1, 1]), {r})"),
    "nn.cosine_embedding_loss": _scored("nn.cosine_embedding_loss({x}, gnp.sin({y}) + 0.1, {signs}, margin=0.2, {r})"),
    "nn.info_nce_loss": _scored("nn.info_nce_loss({x} + 2, gnp.sin({y}) + 1.5, {r})",
                                "nn.info_nce_loss({x}, {y}, gnp.cos({x}), temperature=0.7, normalized=False, {r})",
                                "nn.info_nce_loss({x}, {y} + 0.1, normalized=False, symmetric=True, {r})"),
    "nn.triplet_margin_loss": _scored("nn.triplet_margin_loss({x}, {y}, gnp.cos({x}), {r})",
                                      "nn.triplet_margin_loss({x}, gnp.sin({y}), {y}, 0.5, 3.0, swap=True, {r})"),
    "nn.triplet_margin_with_distance_loss": _scored(
        "nn.triplet_margin_with_distance_loss({x}, {y}, gnp.cos({x}), swap=True, {r})",
        "nn.triplet_margin_with_distance_loss({x}, {y}, gnp.sin({x}), margin=0.4, "
        "distance_function=lambda a, b: gnp.sum(gnp.square(a - b), -1), {r})"),
}  # fmt: skip

#: first values: of keys, and of numbers that are values
FIRST: dict[str, Callable[[Scope], str]] = {
    **{f"nn.init.{name}": _drawn(f"nn.init.{name}({{key}}, (2, 3), dtype={{dtype}})",
                                 f"{{x}}[..., None, None] * nn.init.{name}({{key}}, (3, 2))")
       for name in ("he_normal", "he_uniform", "kaiming_normal", "kaiming_uniform", "lecun_normal", "lecun_uniform",
                    "glorot_normal", "glorot_uniform", "variance_scaling", "truncated_normal")},
    **{f"nn.init.{name}": _drawn(f"nn.init.{name}({{key}}, (2, 3), gnp.sum({{x}}))",
                                 f"nn.init.{name}({{key}}, (3, 2), 1.5, {{dtype}})")
       for name in ("xavier_normal", "xavier_uniform", "orthogonal")},
    "nn.init.deepnorm": _drawn("nn.init.deepnorm({key}, (2, 3), 4)"),
    "nn.init.normal": _drawn("nn.init.normal({key}, (2, 2), gnp.sum({x}), 0.5)", "nn.init.normal({key}, (3,))"),
    "nn.init.uniform": _drawn("nn.init.uniform({key}, (3,), gnp.min({x}), gnp.max({x}) + 1)"),
    "nn.init.sparse": _drawn("nn.init.sparse({key}, (4, 3), 0.4)",
                             "gnp.sum({x}) * nn.init.sparse({key}, (3, 2), 0.5, 1.0)"),
    "nn.init.constant": _written("nn.init.constant((2, 3), gnp.sum({x}))"),
    "nn.init.identity": _written("nn.init.identity((2, 2), gnp.sum({x}))"),
    "nn.init.dirac": _written("nn.init.dirac((2, 2, 3)) * gnp.mean({x})"),
    "nn.init.ones": _written("nn.init.ones((2,)) * gnp.mean({x})"),
    "nn.init.zeros": _written("nn.init.zeros((2,)) + gnp.mean({x})"),
}  # fmt: skip
