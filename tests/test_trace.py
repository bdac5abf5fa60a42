"""Tracing: names, source lines, containers, free variables, leaks."""

from __future__ import annotations

import functools
import inspect
import random
import subprocess
import sys
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc import draws, witnesses
from gradc.witnesses import Witnesses


def test_nodes_keep_the_users_names_and_lines():
    def model(x, p):
        h = np.sin(x)
        y = h * p["W"]
        return y

    graph = gc.trace(model, gc.spec((3,)), {"W": np.ones(3)})
    names = set(graph.names.values())
    assert {"x", "W", "h", "y"} <= names
    first = inspect.getsourcelines(model)[1]
    sine = next(n for n in graph.nodes if n.op.name == "sin")
    assert sine.where.line == first + 1 and sine.where.file == __file__


def test_equal_leaf_names_are_told_apart():
    graph = gc.trace(lambda a, b: a["w"] + b["w"], {"w": 1.0}, {"w": 2.0})
    assert [graph.names[x] for x in graph.inputs] == ["a.w", "b.w"]


def test_any_callable_can_be_traced():
    class Model:
        def __call__(self, x, *, scale=1.0):
            return x * scale

    f = functools.partial(lambda a, b, *rest, k: a + b + rest[0] * k, k=2.0)
    assert gc.trace(f, 1.0, 2.0, 3.0).evaluate(1.0, 2.0, 3.0)[0] == 9.0
    assert gc.trace(Model(), 2.0, scale=3.0).evaluate(2.0, 3.0)[0] == 6.0


def test_static_leaves_stay_python_values():
    def f(x, options):
        return np.sum(x, axis=0) if options["first"] and options["mode"] == "sum" else x

    graph = gc.trace(f, gc.spec((2, 3)), {"first": True, "mode": "sum"})
    assert len(graph.inputs) == 1 and graph.outputs[0].shape == (3,)


def test_captured_arrays_are_snapshotted():
    table = np.arange(3.0)
    graph = gc.trace(lambda x: x + table, gc.spec((3,)))
    table[:] = 99
    np.testing.assert_array_equal(graph.evaluate(np.zeros(3))[0], [0, 1, 2])


def test_a_leaked_traced_value_is_named():
    kept = []
    gc.trace(lambda x: kept.append(x) or x * 2, 1.0)
    with pytest.raises(gc.TraceError, match=rf"{__file__}:\d+: leaked traced value.*'x'.*finished trace of f"):
        gc.trace(lambda y: y + kept[0], 1.0)


@pytest.mark.parametrize(
    "use",
    [
        lambda kept: kept + 1,
        lambda kept: 2.0 * kept,
        lambda kept: -kept,
        np.sin,
        lambda kept: np.sum(kept),
        lambda kept: np.stack([kept, kept]),
        lambda kept: gnp.exp(kept),
        lambda kept: kept[0],
        lambda kept: kept.sum(),
        lambda kept: kept.at[0].set(1.0),
        lambda kept: list(kept),
        lambda kept: kept == 1,
        lambda kept: np.asarray(kept),
        lambda kept: np.zeros(3) + kept,
        lambda kept: float(kept[0]),
        bool,
        lambda kept: kept.tolist(),
        lambda kept: gc.jit(lambda x: x * 2)(kept),
        lambda kept: gc.grad(lambda x: x.sum())(kept),
        lambda kept: gc.jit(lambda x: x * kept)(np.ones(3)),
        lambda kept: gc.grad(lambda x: (x * kept).sum())(np.ones(3)),
        lambda kept: gc.nn.softmax(kept),
        lambda kept: gc.special.erf(kept),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_any_use_of_a_leaked_value_says_where_it_is_from(use, which):
    """An argument, and a value computed from it."""
    kept = []

    def keeper(x):
        doubled = x * 2
        kept.extend([x, doubled])
        return doubled

    gc.jit(keeper)(np.ones(3))
    made = r"'x'" if which == 0 else rf"made at test_trace\.py:{keeper.__code__.co_firstlineno + 1} in keeper"
    with pytest.raises(
        gc.TraceError, match=rf"{__file__}:\d+: leaked traced value: (.|\n)*{made}(.|\n)*trace of keeper"
    ):
        use(kept[which])
    assert len(kept[which]) == 3 and kept[which].dtype == np.float64 and "traced" in repr(kept[which])


@pytest.mark.parametrize("result", [None, "text", object()])
def test_results_must_be_arrays(result):
    with pytest.raises(gc.GradcError):
        gc.trace(lambda x: result, 1.0)


def test_a_python_if_names_the_line_and_the_remedy():
    def f(x):
        if x > 0:
            return x
        return -x

    with pytest.raises(gc.TraceError, match=rf"{__file__}:\d+.*if.*no value while tracing(.|\n)*np\.where"):
        gc.trace(f, 1.0)


@pytest.mark.parametrize(
    ("use", "words"),
    [
        (float, r"float\(x\)"),
        (int, "static="),
        (lambda x: range(x), "static="),
        (lambda x: np.zeros(3)[x], "no value|asarray"),
        (lambda x: np.asarray(x), r"gradc\.numpy\.asarray"),
        (lambda x: x.item(), r"\.item\(\)"),
        (lambda x: np.frompyfunc(abs, 1, 1)(x), "cannot be traced"),
        (lambda x: x.__setitem__(0, 1.0), r"\.at\[index\]\.set"),
        (lambda x: 1.0 in x, "values"),
        (lambda x: np.add(x, 1.0, out=np.zeros(3)), "immutable"),
    ],
)
def test_what_needs_values_says_so(use, words):
    with pytest.raises(gc.TraceError, match=words):
        gc.trace(use, np.ones(3))


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        (np.array([1j]), "complex"),
        (np.array([object()]), "object"),
        (np.array(["a"]), "<U1"),
        (np.zeros(2, np.longdouble), "longdouble|float128"),
    ],
)
def test_arguments_of_no_use_are_named(argument, words):
    with pytest.raises(gc.DTypeError, match=rf"x.*{words}"):
        gc.trace(lambda x: x, argument)


def test_big_endian_arrays_work():
    x = np.arange(3.0).astype(">f8")
    np.testing.assert_array_equal(gc.grad(lambda x: (x * x).sum())(x), 2 * np.arange(3.0))


def test_shape_errors_show_both_operands_and_the_line():
    with pytest.raises(gc.ShapeError, match=rf"{__file__}:\d+: add: shapes \(3,\) and \(4,\)"):
        gc.trace(lambda x, y: x + y, np.ones(3), np.ones(4))


def test_widening_by_a_float64_constant_warns():
    with pytest.warns(gc.PromotionWarning, match="stay in float32"):
        gc.trace(lambda x: x / np.sqrt(64), np.ones(3, np.float32))


def test_python_numbers_are_weak():
    assert gc.trace(lambda x: x * 2.5 + 1, np.ones(3, np.float32)).outputs[0].dtype == np.float32
    assert gc.trace(lambda x, k: x * k, np.ones(3, np.float32), 2.0).outputs[0].dtype == np.float32


def test_graph_prints_and_draws():
    graph = gc.trace(lambda x: np.sin(x) * x, gc.spec((3,)))
    assert "sin(x)" in str(graph) and graph.dot().startswith("digraph")
    assert graph.nx.number_of_edges() == 3


def test_where_of_python_numbers_is_an_array_as_in_numpy():
    x = np.ones(2, np.float32)
    f = lambda x: x * np.where(x > 0, 1.0, 0.0)
    assert gc.trace(f, x).outputs[0].dtype == f(x).dtype == np.float64


def _written_out(lines: int) -> Callable[..., Any]:
    """A function of many lines, each with a variable of its own, around one that is bound again in a loop and below."""
    body = [f"    v{k} = np.sin({'x' if k == 0 else f'v{k - 1}'})" for k in range(lines)]
    body += ["    for _ in range(3):", f"        v{lines} = y = np.cos(v{lines - 1})", f"        v{lines - 1} = y * 2"]
    body += ["    y = y + v0", "    y = y * y", "    return y"]
    scope: dict[str, Any] = {"np": np}
    exec(compile("\n".join(["def written_out(x):", *body]), "written_out.py", "exec"), scope)
    return scope["written_out"]  # type: ignore[no-any-return]


def test_every_value_of_a_variable_has_its_name_however_many_variables_there_are(monkeypatch):
    few = list(gc.trace(_written_out(5), 1.0).names.values())
    assert few == ["x", "v0", "v1", "v2", "v3", "v4_1", "v4_2", "v4_3", "v5_1", "v5_2", "v5_3", "y_1", "y_2"]
    many = list(gc.trace(_written_out(80), 1.0).names.values())
    monkeypatch.setattr(witnesses, "MANY_VARIABLES", 1000)
    assert many == list(gc.trace(_written_out(80), 1.0).names.values())


def test_a_variable_of_its_own_for_each_line_costs_no_look_at_all_others(monkeypatch):
    looks = []
    observe = Witnesses._observe
    monkeypatch.setattr(Witnesses, "_observe", lambda self, frame: looks.append(frame) or observe(self, frame))
    gc.trace(_written_out(80), 1.0)
    assert len(looks) < 40


@pytest.mark.parametrize(
    ("draw", "source"), [(lambda: np.random.normal(), r"np\.random"), (lambda: random.random(), "random")]
)
def test_numbers_drawn_while_tracing_are_told_once(draw, source, monkeypatch):
    monkeypatch.setattr(draws, "_told", set())

    def noisy(x):
        return x * draw()

    words = rf"noisy \(.*test_trace\.py:\d+\) draws from {source} (.|\n)*arguments"
    with pytest.warns(gc.FrozenWarning, match=words) as told:
        first = gc.grad(noisy)(1.0)
    assert told[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gc.grad(noisy)(1.0) != first
        gc.grad(lambda x: x * np.random.default_rng(0).normal())(1.0)
        gc.jit(lambda x: x * 2)(1.0)


def test_draws_of_an_inner_function_are_its_callers(monkeypatch):
    monkeypatch.setattr(draws, "_told", set())

    def outer(x):
        return gc.jit(lambda y: y * np.random.normal())(x)

    with pytest.warns(gc.FrozenWarning) as told:
        gc.jit(outer)(1.0)
    assert len(told) == 1 and "outer" in str(told[0].message)


def _two_normals_are_made_at_once():
    np.random.seed(1)
    np.random.normal()


#: what came before tracing, what happens there, and whether that draws
DRAWS: dict[str, tuple[Callable[[], Any], Callable[[], Any], bool]] = {
    "a whole block of a word's seed": (lambda: np.random.seed(3), lambda: np.random.rand(312), True),
    "a whole block of an array's": (lambda: np.random.seed([3, 4]), lambda: np.random.rand(312), True),
    "two blocks later": (lambda: np.random.rand(312), lambda: np.random.rand(624), True),
    "the second of two normals": (_two_normals_are_made_at_once, lambda: np.random.normal(), True),
    "a block of Python's": (lambda: random.seed(3), lambda: [random.random() for _ in range(312)], True),
    "a seed and a draw": (lambda: np.random.rand(7), lambda: np.random.seed(3) or np.random.rand(), True),
    "a seed alone": (lambda: np.random.rand(7), lambda: np.random.seed(3), False),
    "one word of the system's seed": (lambda: np.random.seed(), lambda: np.random.bytes(4), True),
    "Python's seed alone": (lambda: random.random(), lambda: random.seed(3), False),
    "nothing": (lambda: np.random.rand(312), lambda: None, False),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_noticed_wherever_the_generator_stands(name, monkeypatch):
    monkeypatch.setattr(draws, "_told", set())
    begin, act, draw = DRAWS[name]
    kept = np.random.get_state(), random.getstate()
    try:
        begin()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            gc.trace(lambda x: (act(), x)[1], 1.0)
    finally:
        np.random.set_state(kept[0])
        random.setstate(kept[1])
    assert [w.category for w in told] == [gc.FrozenWarning] * draw


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("use", "draw"), [("", False), (".random()", True)])
@pytest.mark.parametrize("module", ["random", "numpy.random"])
def test_a_generator_that_is_loaded_while_tracing_is_fresh(module, use, draw):
    text = (
        "import sys, warnings, importlib, gradc as gc\n"
        f"sys.modules.pop({module!r}, None)\n"
        "warnings.simplefilter('error')\n"
        f"gc.trace(lambda x: (importlib.import_module({module!r}){use}, x)[1], 1.0)\n"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert ("FrozenWarning" in done.stderr) == draw, done.stderr
    assert draw or not done.returncode, done.stderr
