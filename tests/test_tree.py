"""Trees: what is a container, what is static, and that objects are rebuilt as they are."""

from __future__ import annotations

import collections
import dataclasses
import enum
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp

T = TypeVar("T")
X = np.array([1.0, 2.0, 3.0])


# -- objects are rebuilt from what they hold ---------------------------------------------------------------------------


@dataclasses.dataclass
class Pose:
    angle: Any  #: given in degrees, kept in radians

    def __post_init__(self) -> None:
        self.angle = np.deg2rad(self.angle)


@dataclasses.dataclass(slots=True, kw_only=True)
class Slotted:
    w: Any = dataclasses.field(default_factory=lambda: np.ones(2))
    scale: Any = dataclasses.field(init=False, default=1.0)

    def __post_init__(self) -> None:
        self.w = self.w + 1


@dataclasses.dataclass
class Powered(Generic[T]):
    """What the constructor is told and does not keep as a field."""

    w: Any
    power: dataclasses.InitVar[int] = 2
    history: list[Any] = dataclasses.field(default_factory=list, repr=False)

    def __post_init__(self, power: int) -> None:
        self.exponent = power
        self.norm = np.linalg.norm(self.w)
        self.w = self.w / self.norm

    @property
    def value(self) -> Any:
        return np.sum(self.w**self.exponent) * self.norm


@dataclasses.dataclass
class Guarded:
    w: Any

    def __setattr__(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value * 2)


def slotted() -> Slotted:
    made = Slotted()
    made.scale = 10.0
    return made


OBJECTS: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "post init": (Pose(90.0), lambda p: np.sin(p.angle)),
    "slots": (slotted(), lambda s: np.sum(s.w) * s.scale),
    "init variables": (Powered(X, power=3), lambda p: p.value),
    "setattr": (Guarded(X), lambda g: np.sum(g.w)),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_is_rebuilt_from_what_it_holds(name: str) -> None:
    thing, f = OBJECTS[name]
    wanted = f(thing)
    jitted, same = gc.jit(f), gc.jit(lambda t: t)
    for _ in range(3):
        np.testing.assert_allclose(jitted(thing), wanted, rtol=1e-15)
        again = same(thing)
        assert type(again) is type(thing)
        np.testing.assert_allclose(f(again), wanted, rtol=1e-15)
    np.testing.assert_allclose(gc.vmap(lambda k: f(thing) * k)(X), wanted * X)
    np.testing.assert_allclose(f(gc.fori_loop(0, 2, lambda i, t: t, thing)), wanted)
    np.testing.assert_allclose(f(gc.tree.map(lambda a: a, thing)), wanted)


def test_gradients_are_objects_that_no_constructor_made() -> None:
    gradient = gc.grad(lambda p: np.sin(p.angle))(Pose(60.0))
    assert type(gradient) is Pose and gradient.angle == pytest.approx(0.5)
    pushed = gc.jvp(lambda p: p, (Pose(60.0),), (gc.tree.map(lambda _: 2.0, Pose(1.0)),))[1]
    assert pushed.angle == 2.0


def test_a_frozen_dataclass_keeps_what_it_worked_out() -> None:
    @dataclasses.dataclass(frozen=True)
    class Half:
        angle: Any
        half: Any = dataclasses.field(init=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "half", self.angle / 2)

    thing = Half(3.0)
    object.__setattr__(thing, "half", 7.0)
    assert gc.jit(lambda h: h.half)(thing) == 7.0 and gc.jit(lambda h: h)(thing).half == 7.0
    gradient = gc.grad(lambda h: h.angle * h.half)(thing)
    assert (gradient.angle, gradient.half) == (7.0, 3.0)


class Params(dict[str, Any]):
    """A dict with attribute access, as configuration libraries have them."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.made = len(self)

    __getattr__ = dict.__getitem__


class Counter(list[Any]):
    def __init__(self, items: Any, unit: str):
        super().__init__(items)
        self.unit = unit


class Triple(tuple[Any, ...]):
    def __new__(cls, *parts: Any) -> Triple:
        return super().__new__(cls, [p * 1.0 for p in parts])


SUBCLASSES: dict[str, Any] = {
    "dict": Params(b=X, a=2.0),
    "list": Counter([X, 2.0], "m"),
    "tuple": Triple(X, 2.0),
    "OrderedDict": collections.OrderedDict(b=X, a=2.0),
    "its subclass": type("Mine", (collections.OrderedDict,), {})(b=X, a=2.0),
    "defaultdict": collections.defaultdict(list, b=X, a=2.0),
    "its subclass too": type("Yours", (collections.defaultdict,), {})(list, b=X, a=2.0),
}


@pytest.mark.parametrize("name", SUBCLASSES)
def test_subclasses_of_builtin_containers(name: str) -> None:
    tree = SUBCLASSES[name]
    second = lambda t: t["a"] if isinstance(t, dict) else t[1]
    first = lambda t: t["b"] if isinstance(t, dict) else t[0]
    gradient = gc.jit(gc.grad(lambda t: np.sum(first(t) ** 2) * second(t)))(tree)
    assert type(gradient) is type(tree) and getattr(gradient, "__dict__", None) == getattr(tree, "__dict__", None)
    np.testing.assert_allclose(first(gradient), 4 * X)
    assert second(gradient) == 14.0
    if isinstance(tree, dict):
        assert list(gradient) == list(tree)
    if isinstance(tree, collections.defaultdict):
        assert gradient["new"] == []


# -- static parts ------------------------------------------------------------------------------------------------------


class Degrees(collections.namedtuple("Degrees", "angle name")):
    """A named tuple whose constructor converts."""

    def __new__(cls, angle: Any, name: str = "angle") -> Degrees:
        return super().__new__(cls, np.deg2rad(angle), name)


def test_a_named_tuple_with_a_constructor_is_not_constructed_again() -> None:
    thing = {"d": [Degrees(90.0)]}
    f = lambda t: np.sin(t["d"][0].angle)
    for _ in range(2):
        assert gc.jit(f)(thing) == f(thing) == 1.0
        assert gc.jit(lambda t: t)(thing)["d"][0].angle == np.pi / 2
    gradient = gc.grad(lambda t: t["d"][0].angle ** 2)(thing)["d"][0]
    assert type(gradient) is Degrees and (gradient.angle, gradient.name) == (np.pi, None)
    assert gc.tree.paths(thing) == ["d[0].angle"]


class Mode(enum.Enum):
    SUM = 1


@dataclasses.dataclass
class Layer:
    w: Any
    heads: int = gc.tree.static(default=4)
    mode: Any = Mode.SUM
    act: Any = np.tanh
    note: str | None = None


def test_static_fields_are_values_and_tell_versions_apart() -> None:
    calls: list[int] = []

    @gc.jit
    def f(layer: Layer) -> Any:
        calls.append(layer.heads)
        return np.sum(layer.act(layer.w).reshape(layer.heads, -1), axis=1)

    w = np.arange(8.0)
    for heads in (4, 2, 4, 2):
        assert f(Layer(w, heads)).shape == (heads,)
    assert calls == [4, 2]
    gradient = gc.grad(lambda layer: np.sum(layer.act(layer.w)) * layer.heads)(Layer(w, 2))
    assert (gradient.heads, gradient.mode, gradient.act) == (2, None, None)
    with pytest.raises(TypeError, match=r"Layer\.heads, which is static, must be hashable, got ndarray"):
        f(Layer(w, X))  # type: ignore[arg-type]


def test_results_may_hold_static_values() -> None:
    f = gc.jit(lambda x: {"x": x * 2, "unit": "m", "none": None, "kind": Mode.SUM, "f": np.sin})
    for _ in range(3):
        result = f(X)
        assert (result["unit"], result["none"], result["kind"], result["f"]) == ("m", None, Mode.SUM, np.sin)
    assert gc.vmap(lambda x: (x, "m"))(X)[1] == "m"
    assert gc.jvp(lambda x: (x, "m"), (2.0,), (1.0,)) == ((2.0, "m"), (1.0, None))
    with pytest.raises(gc.TraceError, match="must return the same nesting"):
        gc.cond(True, lambda x: (x, "a"), lambda x: (x, "b"), 1.0)
    with pytest.raises(gc.TraceError, match=r"returns 'a', which is not an array"):
        gc.scan(lambda c, x: (c, (x, "a")), 0.0, X)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw", "clipped"])
def test_static_leaves_in_parameters(optimizer: str) -> None:
    make: dict[str, Callable[[], gc.optim.Optimizer]] = {
        "sgd": lambda: gc.optim.sgd(0.1),
        "momentum": lambda: gc.optim.sgd(0.1, 0.9, nesterov=True),
        "adam": lambda: gc.optim.adam(lambda step: 0.1),
        "adamw": lambda: gc.optim.adamw(0.1, mask=lambda p: gc.tree.map(lambda x: np.ndim(x) > 0, p)),
        "clipped": lambda: gc.optim.chain(gc.optim.clip_by_global_norm(1.0), gc.optim.adam(0.1)),
    }
    chosen = make[optimizer]()
    loss = lambda m, x: np.sum(m["layer"].act(x @ m["layer"].w) ** 2)
    trees: list[Any] = [
        {"layer": Layer(np.ones((3, 2)))}, {"layer": Layer(np.ones((3, 2))), "name": "net", "none": None, "f": np.sin},
    ]  # fmt: skip
    found = []
    for params in trees:
        state = chosen.init(params)
        step = gc.train_step(loss, chosen)
        for _ in range(2):
            params, state, _ = step(params, state, np.ones((4, 3)))
        found.append(params)
    plain, full = found
    np.testing.assert_array_equal(plain["layer"].w, full["layer"].w)
    assert np.all(full["layer"].w < 1)
    assert (full["name"], full["none"], full["f"], full["layer"].act) == ("net", None, np.sin, np.tanh)


def test_an_integer_leaf_in_parameters_is_named() -> None:
    params = {"w": X, "n": 3}
    step = gc.train_step(lambda p: np.sum(p["w"] ** 2), gc.optim.adam(0.1))
    for run in (lambda: step(params, gc.optim.adam(0.1).init(params)), lambda: gc.grad(lambda p: p["w"].sum())(params)):
        with pytest.raises(gc.DTypeError, match=r"test_tree.py:\d+: cannot differentiate with respect to 'n'"):
            run()


# -- gc.tree -----------------------------------------------------------------------------------------------------------

TREE = {"layers": [Layer(np.ones((2, 2), np.float32)), Layer(np.arange(2))], "scale": 2.0, "name": "net"}


def test_leaves_paths_structure_and_back() -> None:
    leaves, structure = gc.tree.flatten(TREE)
    assert gc.tree.paths(TREE) == ["layers[0].w", "layers[1].w", "scale"] and len(leaves) == 3
    assert structure == gc.tree.structure(TREE) == gc.tree.structure(gc.tree.map(lambda x: x * 2, TREE))
    assert hash(structure) == hash(gc.tree.structure(TREE)) and structure != gc.tree.structure([TREE])
    again = gc.tree.unflatten(structure, leaves)
    assert again["name"] == "net" and again["layers"][0].act is np.tanh
    assert "Layer(w=*, " in str(structure) and "'name': 'net'" in str(structure)
    with pytest.raises(TypeError, match="has 3 leaves, got 2"):
        gc.tree.unflatten(structure, leaves[:2])
    with pytest.raises(gc.TraceError, match=r"test_tree.py:\d+: trees nest differently"):
        gc.tree.map(lambda a, b: a, TREE, [TREE])
    assert gc.tree.paths(1.0) == [""]


def test_ravel_and_back_keep_dtypes_plain_and_traced() -> None:
    vector, unravel = gc.tree.ravel(TREE)
    assert vector.shape == (7,) and vector.dtype == np.float64
    again = unravel(vector)
    assert again["layers"][0].w.dtype == np.float32 and again["layers"][1].w.dtype == np.int64
    assert again["name"] == "net" and type(again["scale"]) is np.float64
    assert unravel(vector.astype(np.float32))["layers"][0].w.dtype == np.float32
    params = {"b": np.ones(2), "w": np.arange(6.0).reshape(2, 3)}
    x0, back = gc.tree.ravel(params)
    loss = lambda p: np.sum(np.tanh(p["w"].T @ p["b"]) ** 2)
    flat = gc.jit(gc.grad(lambda x: loss(back(x))))(x0)
    np.testing.assert_allclose(flat, gc.tree.ravel(gc.grad(loss)(params))[0], rtol=1e-14)
    traced = gc.jit(lambda p: gc.tree.ravel(p)[0] * 2)(params)
    np.testing.assert_array_equal(traced, x0 * 2)
    assert gc.hessian(lambda x: loss(back(x)))(x0).shape == (8, 8)
    moved = pickle.loads(pickle.dumps(back))
    assert moved == back and hash(moved) == hash(back)
    np.testing.assert_array_equal(moved(x0)["w"], params["w"])
    with pytest.raises(gc.ShapeError, match=r"test_tree.py:\d+: unravel takes a vector of 8 elements, got"):
        back(x0[:7])
    assert gc.tree.ravel({})[0].shape == (0,) and gc.tree.ravel(())[1](np.zeros(0)) == ()


class Affine:
    def __init__(self, w: Any, b: Any):
        assert not isinstance(w, str)
        self.w, self.b = w, b

    def at(self, x: Any) -> Any:
        return self.w * x + self.b


@gc.tree.register
class Scaled:
    def __init__(self, w: Any, unit: Any):
        self.w, self.unit = w, unit

    def tree_flatten(self) -> Any:
        return (self.w,), self.unit, ("w",)

    @classmethod
    def tree_unflatten(cls, unit: Any, children: Any) -> Scaled:
        return cls(*children, unit)


def test_classes_of_the_users() -> None:
    class Mine(Affine):
        pass

    with pytest.raises(gc.DTypeError):
        gc.jit(lambda m: m.at(2.0))(Mine(X, 1.0))
    assert gc.tree.register(Mine, lambda m: ((m.w, m.b), None), lambda _, c: Mine(*c)) is Mine
    gradient = gc.jit(gc.grad(lambda m: np.sum(m.at(2.0))))(Mine(X, 1.0))
    assert type(gradient) is Mine and gradient.b == 3.0
    gc.tree.register(Mine, lambda m: ((m.b, m.w), None), lambda _, c: Mine(*reversed(list(c))))  # once more: replaced
    assert gc.tree.leaves(Mine(X, 1.0))[0] == 1.0
    calls: list[Any] = []
    f = gc.jit(lambda s: (calls.append(s.unit), s.w * 2)[1])
    for unit in (1, 1.0, 1, True):
        f(Scaled(X, unit))
    assert len(calls) == 3 and gc.tree.paths([Scaled(X, 1)]) == ["[0].w"]
    with pytest.raises(TypeError, match="the static part of Scaled must be hashable, got list"):
        f(Scaled(X, []))
    for bad in (lambda: gc.tree.register(3), lambda: gc.tree.register(Affine)):  # type: ignore[type-var]
        with pytest.raises(TypeError, match=r"test_tree.py:\d+: tree.register"):
            bad()


def test_what_optree_knows_is_known() -> None:
    import optree

    class Theirs(Affine):
        pass

    optree.register_pytree_node(Theirs, lambda m: ((m.w, m.b), None, None), lambda _, c: Theirs(*c), namespace="gradc")
    assert gc.grad(lambda m: np.sum(m.at(2.0)))(Theirs(X, 1.0)).b == 3.0
    assert gnp.shape(gc.tree.leaves(Theirs(X, 1.0))[0]) == (3,)


def test_what_was_compiled_for_objects_travels_to_a_process_that_has_not_met_them(tmp_path: Path) -> None:
    source = "import dataclasses\n@dataclasses.dataclass\nclass Pair:\n    w: object\n    unit: str = 'm'\n"
    source += "class Params(dict): pass\n"
    (tmp_path / "travelling_module.py").write_text(source)
    script = """
        import pickle, sys, numpy as np, gradc as gc
        import travelling_module as t
        pair = t.Pair(np.ones(2)), t.Params(k=2.0)
        if sys.argv[1] == "send":
            exe = gc.compile(lambda p, k: t.Pair(p.w * k["k"], p.unit), *pair)
            sys.stdout.buffer.write(pickle.dumps(exe))
        else:
            exe = pickle.load(sys.stdin.buffer)
            print(exe(*pair))
    """
    run = [sys.executable, "-c", textwrap.dedent(script)]
    path = os.pathsep.join([str(tmp_path), str(Path(gc.__file__).parent.parent)])
    env = {**os.environ, "PYTHONPATH": path}
    sent = subprocess.run([*run, "send"], capture_output=True, check=True, env=env)
    got = subprocess.run([*run, "receive"], input=sent.stdout, capture_output=True, check=True, env=env)
    assert got.stdout == b"Pair(w=array([2., 2.]), unit='m')\n"
