"""Calls that reach native code without running Python: which they are, that they mean the same, and what they hold."""

from __future__ import annotations

import collections
import copy
import dataclasses
import functools
import gc as collector
import pickle
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import gradc as gc
import gradc.numpy as gnp
from gradc.runtime import dispatch
from gradc.runtime.dispatch import rehearse
from gradc.runtime.dispatch_code import STACK_WORDS

pytestmark = pytest.mark.skipif(not rehearse(), reason="no compiled entry on this interpreter")

X = np.arange(4.0)


class Pair(NamedTuple):
    left: Any
    right: Any


class Checked(collections.namedtuple("Checked", "value")):
    """A named tuple with a constructor of its own."""

    def __new__(cls, value: Any) -> Checked:
        return super().__new__(cls, value)


@dataclasses.dataclass
class Layer:
    weight: Any
    bias: Any


@dataclasses.dataclass(frozen=True)
class Counted:
    value: Any
    twice: Any = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "twice", (self.value, self.value))


@dataclasses.dataclass(slots=True)
class Slotted:
    value: Any
    mode: str


@dataclasses.dataclass
class Holding:
    """What it is given and what it works out are not the same."""

    value: Any
    power: dataclasses.InitVar[int] = 2
    scale = 1.0  # of the class

    def __post_init__(self, power: int) -> None:
        self.power, self.value = power, self.value**power


def python_calls(run: Callable[[], Any]) -> int:
    """How many Python functions ``run`` calls."""
    seen = []

    def watch(frame: Any, event: str, _: Any) -> None:
        if event == "call":
            seen.append(frame.f_code)

    sys.setprofile(watch)
    try:
        run()
    finally:
        sys.setprofile(None)
    return len(seen) - 1  # ``run`` itself


def same(got: Any, wanted: Any) -> None:
    """Equal trees: classes, keys in order, values and dtypes."""
    assert type(got) is type(wanted)
    if isinstance(wanted, dict):
        assert list(got) == list(wanted)
        for key in wanted:
            same(got[key], wanted[key])
    elif isinstance(wanted, (list, tuple)):
        assert len(got) == len(wanted)
        for g, w in zip(got, wanted, strict=True):
            same(g, w)
    elif dataclasses.is_dataclass(wanted):
        names = [f.name for f in dataclasses.fields(wanted)]
        for get in (lambda x: [getattr(x, n) for n in names], lambda x: sorted(getattr(x, "__dict__", {}).items())):
            same(get(got), get(wanted))
    elif isinstance(wanted, str):
        assert got == wanted
    else:
        np.testing.assert_array_equal(got, wanted)


NESTINGS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]] = {
    "one array": (lambda x: x + 1, (X,), {}),
    "nothing": (lambda: gnp.ones(3), (), {}),
    "two results": (lambda x: (x, x * 2), (X,), {}),
    "one result in a list": (lambda x: [x * 2], (X,), {}),
    "an argument as it is": (lambda x, y: {"x": x, "s": x + y}, (X, X), {}),
    "dicts in their order": (lambda d: {"z": d["b"] - d["a"], "a": d["a"] * 2}, ({"b": X, "a": X + 1},), {}),
    "dicts of numbers": (lambda d: {2: d[1], 1: d[2] * 2}, ({2: X, 1: X + 1},), {}),
    "named tuples": (lambda p: Pair(p.right, Pair(p.left, ())), (Pair(X, X + 1),), {}),
    "dataclasses": (lambda m: Layer(m.weight * 2, [m.bias]), (Layer(X, X + 1),), {}),
    "a dataclass that computes": (lambda c: Counted(c.value + 1), (Counted(X),), {}),
    "a dataclass with slots": (lambda c: Slotted(c.value + 1, c.mode), (Slotted(X, "sum"),), {}),
    "a dataclass that holds more": (lambda c: (c.value * c.power, c), (Holding(X, 3),), {}),
    "None and strings": (lambda t: (t[0], None, {"k": None}), ([X, None, "mean", True],), {}),
    "empty containers": (lambda t: ((), [], {}, t[3]), (((), [], {}, X),), {}),
    "keywords": (lambda x, *, shift, scale: x * scale + shift, (X,), {"scale": X + 2, "shift": X}),
    "numbers": (lambda x, k, n: x * k + n, (X, 2.5, 3), {}),
    "NumPy scalars": (lambda x, k: x * k, (X, np.float64(2.5)), {}),
    "zero-dimensional arrays": (lambda x, k: (x * k, k), (X, np.array(2.5)), {}),
    "large results": (lambda x: [gnp.broadcast_to(x[0], (1 << 15,)) + 1, x], (X,), {}),
    "deep": (lambda t: t[0][0][0][0]["a"][0] + 1, ([[[[{"a": (X,)}]]]],), {}),
    "the same array twice": (lambda t: (t[0] - t[1], t[0]), ([X, X],), {}),
}


@pytest.mark.parametrize("name", NESTINGS)
def test_the_second_call_runs_no_python_and_gives_the_same(name: str) -> None:
    f, args, kwargs = NESTINGS[name]
    jitted = gc.jit(f)
    first = jitted(*args, **kwargs)
    jitted(*args, **kwargs)  # now what calls share is there
    results: list[Any] = []
    assert python_calls(lambda: results.append(jitted(*args, **kwargs))) == 0
    same(results[0], first)
    same(results[0], gc.compile(f, *args, **kwargs)(*args, **kwargs))


def test_static_arguments_are_the_same_objects_or_go_through_python() -> None:
    f = gc.jit(lambda x, mode, power: x**power if mode == "power" else x, static=("mode", "power"))
    assert f(X, "power", 2).tolist() == (X**2).tolist()
    f(X, "power", 2)
    assert python_calls(lambda: f(X, "power", 2)) == 0
    assert f(X, "power", 3).tolist() == (X**3).tolist()
    assert f(X, "none", 2).tolist() == X.tolist()
    assert f(X, "".join(["po", "wer"]), 2).tolist() == (X**2).tolist()


def test_a_static_value_that_could_change_is_compared_each_time() -> None:
    @dataclasses.dataclass(unsafe_hash=True)
    class Config:
        power: int

    config = Config(2)
    f = gc.jit(lambda x, c: x**c.power, static=1)
    assert f(X, config).tolist() == (X**2).tolist()
    assert f(X, config).tolist() == (X**2).tolist()


def test_calls_that_do_not_fit_find_their_own_version() -> None:
    f = gc.jit(lambda t: t["a"] * 2)
    for value in (X, X[:2], X.astype(np.float32), X[::2], 3.0, 3, True, [1.0, 2.0], np.float32(2), X.reshape(2, 2), X):
        got, wanted = f({"a": np.array(value) if isinstance(value, list) else value}), np.multiply(value, 2)
        np.testing.assert_array_equal(got, wanted)
    g = gc.jit(lambda t: sum(t.values()))
    for t in ({"a": X}, {"a": X, "b": X}, {"b": X}, collections.OrderedDict(a=X), {"a": X}):
        np.testing.assert_array_equal(g(t), sum(t.values()))


def test_a_container_of_another_class_is_another_version() -> None:
    f = gc.jit(lambda t: type(t)(2 * x for x in t) if type(t) in (list, tuple) else Pair(*t))
    for t in ([X, X], (X, X), Pair(X, X), [X, X], (X, X, X), [X]):
        assert type(f(t)) is type(t)


def test_a_named_tuple_with_a_constructor_of_its_own_is_made_by_it() -> None:
    f = gc.jit(lambda c: Checked(c.value + 1))
    for _ in range(3):
        got = f(Checked(X))
        assert type(got) is Checked and got.value.tolist() == (X + 1).tolist()


def test_keywords_in_any_order() -> None:
    f = gc.jit(lambda a, b, c=0.0: a - 2 * b + c)
    for _ in range(2):
        assert f(a=X, b=X + 1).tolist() == f(b=X + 1, a=X).tolist() == f(X, b=X + 1).tolist() == f(X, X + 1).tolist()
        assert f(X, X + 1, c=X).tolist() == (X - 2 * (X + 1) + X).tolist()
    with pytest.raises(TypeError, match="unexpected keyword"):
        f(X, X, d=X)


def test_inside_a_trace_a_compiled_function_is_traced_again() -> None:
    scale: list[Any] = [2.0]
    inner = gc.jit(lambda x: x * scale[0])
    inner(X)
    inner(X)

    def outer(s: Any) -> Any:
        scale[0] = s
        return inner(X).sum()

    assert gc.grad(outer)(3.0) == X.sum()


def test_another_threads_trace_is_none_of_our_business() -> None:
    f = gc.jit(lambda x: x + 1)
    f(X)
    f(X)
    entered, leave = threading.Event(), threading.Event()

    def traced(x: Any) -> Any:
        entered.set()
        leave.wait(30)
        return x

    other = threading.Thread(target=lambda: gc.trace(traced, X))
    other.start()
    entered.wait(30)
    assert python_calls(lambda: f(X)) == 0
    leave.set()
    other.join()


def test_an_object_taken_from_a_container_lives_through_the_call() -> None:
    """Another thread empties the list while the step runs without the GIL."""
    n = 1 << 12
    f = gc.jit(lambda t: [gnp.sin(x).sum() for x in t])
    wanted = [float(v) for v in f([np.ones((64, n)), np.full((64, n), 2.0)])]
    stop = threading.Event()
    box: list[Any] = []

    def empty() -> None:
        while not stop.is_set():
            box.clear()

    thief = threading.Thread(target=empty)
    thief.start()
    try:
        for _ in range(40):
            box[:] = [np.ones((64, n)), np.full((64, n), 2.0)]
            try:
                got = f(box)
            except (TypeError, ValueError, IndexError):  # it was emptied before the call could read it
                continue
            assert [float(v) for v in got] in (wanted, [])
    finally:
        stop.set()
        thief.join()


def test_a_key_whose_comparison_changes_the_container() -> None:
    box: dict[Any, Any] = {}

    class Sly(str):
        def __eq__(self, other: object) -> bool:
            box.clear()
            return False

        __hash__ = str.__hash__

    f = gc.jit(lambda t: t["a"] + 1)
    f({"a": X})
    f({"a": X})
    box[Sly("a")] = X
    with pytest.raises((KeyError, gc.GradcError, TypeError)):
        f(box)
    assert f({"a": X}).tolist() == (X + 1).tolist()


def test_errors_are_those_of_the_long_way() -> None:
    f = gc.jit(lambda t, i: t["a"][i])
    f({"a": X}, np.array(1))
    f({"a": X}, np.array(1))
    with pytest.raises(gc.GradcError, match="out of range"):
        f({"a": X}, np.array(9))
    assert f({"a": X}, np.array(1)) == 1.0
    assert python_calls(lambda: f({"a": X}, np.array(1))) == 0


def test_no_constructor_runs_on_results() -> None:
    @dataclasses.dataclass
    class Fussy:
        value: Any

        def __post_init__(self) -> None:
            if isinstance(self.value, np.ndarray):
                raise ValueError("rebuilt by its constructor")

    f = gc.jit(lambda x: Fussy(x * 2))
    for _ in range(3):
        np.testing.assert_array_equal(f(X).value, X * 2)


def test_an_attribute_that_is_no_field_tells_versions_apart() -> None:
    f = gc.jit(lambda h: h.value * h.scale)
    plain, scaled = Holding(X), Holding(X)
    for _ in range(3):
        np.testing.assert_array_equal(f(plain), X**2)
    scaled.scale = 10.0
    np.testing.assert_array_equal(f(scaled), X**2 * 10)
    np.testing.assert_array_equal(f(plain), X**2)


def test_references_are_balanced() -> None:
    f = gc.jit(lambda t, *, k: (Pair(t[0]["a"] * k, None), {"s": t[1].sum()}, [t[0]["a"]]))
    t, k = ([{"a": X.copy()}, np.ones(3)]), np.float64(2)
    f(t, k=k)
    f(t, k=k)
    watched = [t, t[0], t[0]["a"], t[1], k, Pair, f, f.func]
    longer = [t[0], np.ones(5)]  # fits until its last array
    f(longer, k=k)

    def changes(run: Callable[[], Any]) -> list[int]:
        """By how much the counts change in fifty runs."""
        run()
        collector.collect()  # what compiling left behind
        before = [sys.getrefcount(w) for w in watched]
        for _ in range(50):
            run()
        collector.collect()
        after = [sys.getrefcount(w) for w in watched]
        return [a - b for a, b in zip(after, before, strict=True) if abs(a - b) > 3]

    assert changes(lambda: f(t, k=k)) == []
    assert changes(lambda: (f(longer, k=k), f(t, k=k))) == []


def test_a_call_takes_no_more_of_the_stack_for_more_objects() -> None:
    """With 64 KiB of it and room for none of the objects' words there."""
    count = 64 * 1024 // 8
    assert count > STACK_WORDS
    many = [np.array(float(i)) for i in range(count)]
    f = gc.jit(lambda t: [t[0] + t[-1]] * 300)
    assert f.lower(many).dispatched is not None
    answers = []
    before = threading.stack_size(64 * 1024)
    try:
        thread = threading.Thread(target=lambda: answers.extend(f(many) for _ in range(3)))
        thread.start()
        thread.join()
    finally:
        threading.stack_size(before)
    assert answers == [[count - 1.0] * 300] * 3


def test_training_in_place_returns_the_same_arrays() -> None:
    def loss(p: Any, x: Any) -> Any:
        return ((x @ p["w"] + p["b"]) ** 2).mean()

    step = gc.train_step(loss, gc.optim.adam(1e-2))
    params = {"w": np.ones((4, 3)), "b": np.zeros(3)}
    state = gc.optim.adam(1e-2)[0](params)
    params, state, value = step(params, state, np.ones((5, 4)))
    losses = [value]
    w = params["w"]
    for _ in range(4):
        params, state, value = step(params, state, np.ones((5, 4)))
        losses.append(value)
        assert params["w"] is w
    assert losses == sorted(losses, reverse=True)
    assert python_calls(lambda: step(params, state, np.ones((5, 4)))) <= 2  # np.ones is Python


def test_a_step_that_waits_for_memory_still_answers() -> None:
    """Large results come from a pool; a caller who keeps them all empties it."""
    f = gc.jit(lambda t: [t[0] + 1])
    x = np.zeros(1 << 16)
    kept = [f([x]) for _ in range(8)]
    assert all(k[0][0] == 1 for k in kept) and len({k[0].ctypes.data for k in kept}) == 8


def test_a_compiled_function_goes_with_its_cycle() -> None:
    f = gc.jit(lambda t: [t[0] + 1])
    f([X])
    gone = weakref.ref(f)
    del f
    collector.collect()
    assert gone() is None


def test_threads_that_meet_at_the_first_call_share_one_dispatcher() -> None:
    f, ready = gc.jit(lambda t: [t[0] + 1]), threading.Barrier(8)
    results: list[Any] = []

    def call(n: int) -> None:
        ready.wait()
        results.extend(f([np.zeros(n)])[0].size == n for _ in range(20))

    threads = [threading.Thread(target=call, args=(n,)) for n in range(1, 9)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 160 and all(results)
    assert f.func is f._dispatcher.call
    f.clear()
    assert f([X])[0].tolist() == (X + 1).tolist() and len(f._versions) == 1


def test_part_of_a_call_fixed_beforehand() -> None:
    f = gc.jit(lambda x, y: x - y)
    part = functools.partial(f, X)
    assert part(X).tolist() == [0.0] * 4
    del f
    collector.collect()
    assert part(X[:1].repeat(4)).tolist() == X.tolist()


@gc.jit
def shifted(x: Any) -> Any:
    """A module's function."""
    return x + 1


class Model:
    scale = 3.0

    @gc.jit
    def __call__(self, x: Any) -> Any:
        return x * 2

    @functools.partial(gc.jit, static=0)
    def scaled(self, x: Any) -> Any:
        return x * self.scale


def test_it_still_is_a_function_to_everybody() -> None:
    import inspect

    assert shifted.__name__ == "shifted" and shifted.__doc__ == "A module's function."
    assert list(inspect.signature(shifted).parameters) == ["x"]
    assert "jit of shifted" in repr(shifted)
    assert pickle.loads(pickle.dumps(shifted)) is shifted
    assert copy.deepcopy(shifted) is shifted
    assert Model().scaled(X).tolist() == (X * 3).tolist()
    part = pickle.loads(pickle.dumps(gc.jit(functools.partial(np.add, 2.0))))  # it has no name to travel by
    assert part(X).tolist() == (X + 2).tolist()
    fresh = pickle.loads(pickle.dumps(gc.jit(np.sin, donate=0)))
    assert fresh.donate == gc.jit(np.sin, donate=0).donate and fresh(X.copy()).tolist() == np.sin(X).tolist()


def test_a_bound_step_returns_what_the_function_returns() -> None:
    exe = gc.compile(lambda t: {"y": t[0] * 2, "s": t[0].sum()}, [X])
    x = X.copy()
    bound = exe.bind([x])
    first = bound()
    assert list(first) == ["y", "s"] and first is bound()
    x += 1
    assert python_calls(bound) == -1 or bound()["s"] == x.sum()
    assert bound()["s"] == x.sum()


def test_without_compiled_entry_everything_still_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "rehearse", lambda: False)
    f = gc.jit(lambda t: {"y": t[0] * 2})
    for _ in range(3):
        assert f([X])["y"].tolist() == (X * 2).tolist()
    assert python_calls(lambda: f([X])) > 0
