"""Constructs that are no function: operators, indexing, updates, stacks, views of views, and guards.

Enters: a `Scope`.  Leaves: statements taken into it.  Start reading at `FORMS`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.fuzz.arguments import call
from tests.fuzz.language import NAME, Array, Statement, literal
from tests.fuzz.scope import NotThisTimeError, Scope, is_float
from tests.fuzz.surface import ENTRIES, OPERATORS

#: what is written behind ``x.at[…]`` with a value v, and what it means: "get" and "apply" take none
UPDATES = {
    "set": "{v}", "add": "{v}", "subtract": "{v}", "multiply": "{v}", "divide": "2.0 + gnp.tanh({v})", "power": "2",
    "max": "{v}", "min": "{v}", "get": "", "apply": "gnp.sin",
}  # fmt: skip
#: functions with an edge inside the reals, and a guard that keeps a program away from it
GUARDED = {
    "gnp.sqrt({x})": "{x} > 0", "gnp.log({x})": "{x} > 0", "1 / {x}": "{x} != 0", "gnp.arccos({x})": "abs({x}) < 1",
    "gnp.arcsin({x})": "abs({x}) < 1", "{x} ** 0.5": "{x} > 0", "gnp.log1p({x})": "{x} > -1",
    "gnp.arctanh({x})": "abs({x}) < 1", "gnp.cbrt({x})": "{x} != 0",
    "gnp.linalg.norm({x}, axis=-1, keepdims=True)": "abs({x}) > 0",
    "special.xlogy({x}, {x})": "{x} > 0", "special.entr({x})": "{x} > 0", "gnp.exp(300 * {x})": "{x} < 0.5",
    "gnp.arccosh({x})": "{x} > 1", "gnp.hypot({x}, {x})": "{x} != 0",
    "gnp.prod({x}, axis=-1, keepdims=True)": "{x} > 0",
    "gnp.std({x}, axis=-1, keepdims=True)": "{x} > 0", "special.logit({x})": "({x} > 0) & ({x} < 1)",
    "gnp.log(gnp.cumsum({x}, axis=-1))": "{x} > 0", "gnp.sqrt(gnp.sort({x}, axis=-1))": "{x} > 0",
}  # fmt: skip
#: methods of which NumPy's own is another: the reference calls its function
BY_FUNCTION = ("Node.astype", "Node.argsort", "Node.argpartition")
#: smooth functions written with operations that have a kink or an edge where the whole has none
SMOOTH = (
    "abs({x}) ** 2", "gnp.sqrt(gnp.square({x}) + 1e-3)", "gnp.logaddexp(0.0, {x})", "gnp.logaddexp({x}, {x})",
    "gnp.maximum({x}, 0) ** 3", "gnp.linalg.norm({x}) ** 2", "gnp.hypot({x}, 0.5)", "gnp.power(abs({x}) + 0.5, {x})",
    "gnp.logsumexp({x}, axis=-1)", "gnp.cos(gnp.linalg.norm({x}))",
    "{x} ** 2", "{x} ** 3", "gnp.prod({x}, axis=-1)", "gnp.cumprod({x}, axis=-1)", "gnp.var({x})",
)  # fmt: skip


def _take(scope: Scope, text: str, form: str, plain: str | None = None, keep: bool = False) -> bool:
    return scope.accept(Statement((scope.fresh(),), text, form, (), plain), keep)


def function(scope: Scope) -> bool:
    """A call of any public function or method, each as likely as another."""
    entry = ENTRIES[scope.one_of(list(ENTRIES))]
    return function_named(scope, entry.path)


def function_named(scope: Scope, path: str) -> bool:
    """A call of one function; a list or a tuple that it returns gives one of its elements."""
    text = call(scope, ENTRIES[path])
    if not NAME.search(text):  # outside a trace, where nobody says how what is computed at once is rounded
        raise NotThisTimeError
    if ENTRIES[path].name in ("split", "array_split", "hsplit", "vsplit", "dsplit", "unstack", "meshgrid", "divmod",
                              "broadcast_arrays", "frexp", "modf", "histogram", "histogram2d", "sici", "shichi",
                              "histogramdd"):  # fmt: skip
        text += "[0]"
    if ENTRIES[path].name.startswith("atleast") and ", " in text:
        text += "[0]"
    method = ENTRIES[path].name
    plain = re.sub(rf"(\w+)\.{method}\(", rf"gnp.{method}(\1, ", text) if path in BY_FUNCTION else None
    if _take(scope, text, path, plain):
        return True
    return scope.gave_several and _take(scope, f"{text}[{scope.number(0, 1)}]", path, plain)


def operator(scope: Scope) -> bool:
    """An arithmetic operator on two values that broadcast, or on one and a number."""
    name = scope.one_of(list(OPERATORS))
    x = scope.pick()
    y = scope.pick(lambda a: a.shape in (scope.values[x].shape, (), scope.values[x].shape[-1:]))
    number = repr(scope.one_of((2.0, 0.5, -1.0, 3)))
    return _take(scope, OPERATORS[name].format(x, y if scope.chance(0.7) else number, number), name)


def index_text(scope: Scope, a: Array) -> str:
    """Any index of an array: integers, slices with steps, None, ..., masks, integer arrays, and mixtures."""
    entries: list[str] = []
    arrays = scope.chance(0.4)
    for n in a.shape:
        kind = scope.number(0, 6 if arrays else 3)
        if kind == 0 and n:
            entries.append(str(scope.number(-n, n - 1)))
        elif kind in (4, 5) and n:
            entries.append(literal(scope.random.integers(-n, n, 2)))
        elif kind == 6 and n:
            entries.append(literal(scope.random.random(n) < 0.6))
        else:
            entries.append(_slice(scope, n))
    while entries and scope.chance(0.3):
        entries.pop()
    if scope.chance(0.2):
        entries.insert(scope.number(0, len(entries)), "None")
    if len(entries) < a.ndim and scope.chance(0.4):
        entries.insert(scope.number(0, len(entries)), "...")
    return ", ".join(entries) or "..."


def _slice(scope: Scope, n: int) -> str:
    start = scope.one_of(("", "", str(scope.number(-n - 1, n + 1))))
    stop = scope.one_of(("", "", str(scope.number(-n - 1, n + 1))))
    step = scope.one_of(("", "", ":2", ":-1", ":-2"))
    return f"{start}:{stop}{step}"


def indexing(scope: Scope) -> bool:
    """``x[…]``, by constants or by values."""
    x = scope.pick(lambda a: a.ndim > 0)
    a = scope.values[x]
    if scope.chance(0.25) and a.shape[0]:
        i = scope.float(1, lambda b: b.size > 0)
        return _take(scope, f"{x}[gnp.astype(abs({i}) * 3, np.int64) % {a.shape[0]}]", "index by values")
    return _take(scope, f"{x}[{index_text(scope, a)}]", "indexing")


def update(scope: Scope) -> bool:
    """``x.at[…].set(v)`` and its kin."""
    x = scope.float(1)
    index = index_text(scope, scope.values[x])
    how = scope.one_of(list(UPDATES))
    value = scope.float() if scope.chance(0.6) else repr(scope.one_of((0.5, 2, -1.0)))
    if scope.chance(0.5) and value[0] in "xvp":
        value = f"gnp.mean({value})"
    value = UPDATES[how].format(v=value)
    plain = f"updated({x}, np.s_[{index}], {how!r}, {value or None})"
    return _take(scope, f"{x}.at[{index}].{how}({value})", f"at.{how}", plain)


def stack(scope: Scope) -> bool:
    """Blocks of blocks: what becomes one n-ary view."""
    x = scope.float(1)
    same = scope.pick(lambda a: a.shape == scope.values[x].shape and is_float(a))
    inner = f"gnp.sin({same})" if scope.chance(0.5) else same
    axis = scope.number(-1, 0)
    text = scope.one_of((
        f"gnp.stack([{x}, {inner}, {x} * 0.5], axis={axis})", f"gnp.concatenate([{x}, {inner}], axis={axis})",
        f"gnp.concatenate([gnp.stack([{x}, {inner}]), gnp.stack([{inner}, {x}])], axis={axis})",
        f"gnp.stack([gnp.sum({x}), gnp.max({inner})])", f"gnp.concatenate([{x}[:1], {inner}[1:]])",
        f"gnp.array([[gnp.sum({x}), 1.0], [gnp.mean({inner}), gnp.sum({inner})]])",
    ))  # fmt: skip
    return _take(scope, text, "stack")


def view_of_view(scope: Scope) -> bool:
    """Two or three views in a row."""
    x = scope.pick(lambda a: a.ndim > 0)
    views = (".T", "[::-1]", "[..., None]", "[None]", "[..., ::2]", ".reshape(-1)", "[1:]", "[:, ::-1]", ".ravel()[1:]",
             ".swapaxes(0, -1)", ".reshape({0}.shape[::-1])", "[..., 0]", ".T.reshape(-1)")  # fmt: skip
    text = x + "".join(scope.one_of(views).format(x) for _ in range(scope.number(2, 3)))
    return _take(scope, text, "view of view")


def skeleton(scope: Scope) -> bool:
    """The products that models are made of: batched matmul, attention heads, layers, normalisation."""
    x = scope.float(2, lambda a: a.size > 0)
    text = scope.one_of((
        "{x} @ gnp.swapaxes({x}, -1, -2)", "gnp.swapaxes({x}, -1, -2) @ gnp.tanh({x})",
        "nn.softmax({x} @ gnp.swapaxes({x}, -1, -2)) @ {x}", "({x}[..., None, :] * {x}[..., :, None]).sum(-1)",
        "({x} - {x}.mean(-1, keepdims=True)) / (gnp.std({x}, axis=-1, keepdims=True) + 0.1)",
        "gnp.einsum('...ij,...kj->...ik', {x}, gnp.sin({x}))", "gnp.matmul({x}[None], gnp.swapaxes({x}, -1, -2)[None])",
        "nn.log_softmax({x} * 3)", "gnp.tanh({x}) @ gnp.ones(({x}.shape[-1], 2)) + gnp.sin({x})[..., :1]",
    ))  # fmt: skip
    return _take(scope, text.format(x=x), "products")


def guard(scope: Scope) -> bool:
    """A function beyond its edge, and a where that takes the other branch there, directly or after other operations."""
    x = scope.float()
    text = scope.one_of(list(GUARDED))
    inside = GUARDED[text].format(x=x)
    middle = scope.fresh()
    if not scope.accept(Statement((middle,), text.format(x=x), "guard"), keep=True):
        return False
    value = scope.one_of((middle, middle, f"gnp.sin({middle})", f"{middle} * {x}", f"gnp.stack([{middle}, {x}])[0]",
                          f"gnp.clip({middle}, -5, 5)", f"gnp.flip(gnp.flip({middle}))", f"({middle} + 1)[...]",
                          ))  # fmt: skip
    other = scope.one_of(("0.0", "1.0", x, f"gnp.sin({x})"))
    taken = _take(scope, f"gnp.where({inside}, {value}, {other})", "guard")
    if not scope.is_finite(middle):
        del scope.values[middle]
    return taken


def smooth(scope: Scope) -> bool:
    """A smooth function by way of a kink."""
    return _take(scope, scope.one_of(SMOOTH).format(x=scope.float(1)), "smooth by way of a kink")


def special_input(scope: Scope) -> bool:
    """A value with zeros, ties and ones in it: where implementations branch."""
    x = scope.float(1, lambda a: a.size > 0)
    text = scope.one_of(("gnp.round({x})", "{x} - {x}[..., :1]", "{x} * ({x} > 0)", "gnp.sign({x}) * {x}", "{x} - {x}",
                         "gnp.maximum({x}, {x}.max())", "{x} * 0.0 + 1"))  # fmt: skip
    return _take(scope, text.format(x=x), "special values")


def conversion(scope: Scope) -> bool:
    """A change of dtype in the middle."""
    x = scope.pick()
    dtype = scope.one_of(("np.float32", "np.float64", "np.float16", "gnp.bfloat16", "np.int32", "np.float64"))
    return _take(scope, f"gnp.astype({x}, {dtype})", "conversion")


def stopped(scope: Scope) -> bool:
    """`stop_gradient` in the middle."""
    x = scope.float()
    return _take(scope, f"{x} * gc.stop_gradient(gnp.sin({x}))", "stop_gradient")


def guarded_value(scope: Scope, path: str) -> bool:
    """A call of ``path`` whose value may be anything, and where it is finite, that; else a number."""
    middle = scope.fresh()
    text = call(scope, ENTRIES[path])
    if not scope.accept(Statement((middle,), text, path), keep=True):
        return False
    if not is_float(scope.values[middle]):
        raise NotThisTimeError
    return _take(scope, f"gnp.where(gnp.isfinite({middle}), {middle}, 0.5)", "guard")


Form = Callable[[Scope], bool]
FORMS: tuple[tuple[Form, float], ...] = (
    (function, 10), (operator, 2), (indexing, 2), (update, 1.5), (stack, 1.5), (view_of_view, 1.5), (skeleton, 1.5),
    (guard, 1), (smooth, 1), (special_input, 0.5), (conversion, 0.5), (stopped, 0.2),
)  # fmt: skip
