"""`gc.fit`: the loop is that of `gc.train_step`, a run that was cut off goes on bit-equal, and mistakes are named."""

from __future__ import annotations

import io
import itertools
import json
import math
import os
import signal
from types import SimpleNamespace

import numpy as np
import pytest

import gradc as gc
from gradc import data, optim
from gradc.training import Callback, EarlyStopping, TensorBoard

RNG = np.random.default_rng(0)
X = RNG.standard_normal((22, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3
START = {"w": np.zeros(3), "b": np.zeros(())}
KEY = gc.random.key(5)
SGD = optim.sgd(0.1)
QUIET = {"log": False}


def loss(p, x, y):
    return np.mean((x @ p["w"] + p["b"] - y) ** 2)


def fit(*args, **more):
    return gc.fit(*args, **{"batch_size": 4, "key": KEY, "log": False, "epochs": 3} | more)


def same(one, two):
    a, b = gc.tree.leaves(one), gc.tree.leaves(two)
    return len(a) == len(b) and all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in zip(a, b, strict=True)
    )


class Store:
    """Checkpoints in memory, by the protocol of `gc.Checkpoints`."""

    def __init__(self):
        self.kept = []

    def save(self, step, tree, *, metric=None, record=None):
        tree = gc.tree.map(np.array, tree)
        self.kept.append(SimpleNamespace(tree=tree, step=step, metric=metric, record=json.dumps(record), path="memory"))

    def latest(self, like):
        return self._of(self.kept[-1:], like)

    def best(self, like):
        return self._of(sorted((c for c in self.kept if c.metric is not None), key=lambda c: c.metric)[:1], like)

    def _of(self, found, like):
        for one in found:
            assert gc.tree.structure(one.tree) == gc.tree.structure(like)
            return SimpleNamespace(
                **vars(one) | {"record": json.loads(one.record), "tree": gc.tree.map(np.array, one.tree)}
            )
        return None


# -- the loop ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def by_hand():
    """What a loop of one's own gives."""
    optimizer = optim.adam(optim.linear_schedule(0.1, 0.01, 15))
    step, params, state, losses = gc.train_step(loss, optimizer), START, optimizer.init(START), []
    source = data.batches((X, Y), 4, KEY)
    for _ in range(3):
        for batch in source:
            params, state, value = step(params, state, *batch)
            losses.append(float(value))
    return optimizer, gc.tree.map(np.copy, params), losses


def test_it_is_the_loop_that_one_would_write(by_hand):
    optimizer, params, losses = by_hand
    run = fit(loss, START, (X, Y), optimizer=optimizer)
    assert same(run.params, params) and run.history["loss"].tolist() == losses
    assert (run.step, run.epoch, run.samples, run.stopped) == (18, 3, 66, "") and run.steps_left == 0
    rates = run.history["learning_rate"]
    assert rates[0] == 0.1 and np.allclose(rates[:16], 0.1 - 0.006 * np.arange(16)) and np.isclose(rates[-1], 0.01)
    assert np.isclose(run.history["gradient_norm"][0], _norm(gc.grad(loss)(START, *_first())))
    assert same(START, {"w": np.zeros(3), "b": np.zeros(())})
    assert "18 steps, 3 epochs" in str(run) and ">Loss<" in run.plot().svg


def _first():
    return next(iter(data.batches((X, Y), 4, KEY)))


def _norm(tree):
    return math.sqrt(sum(float((x**2).sum()) for x in gc.tree.leaves(tree)))


@pytest.mark.parametrize("several", [2, 5])
def test_several_steps_a_call_are_the_same_steps(by_hand, several):
    optimizer, params, losses = by_hand
    run = fit(loss, START, (X, Y), optimizer=optimizer, steps_per_call=several)
    assert np.allclose(run.history["loss"], losses, rtol=1e-12) and run.step == 18
    assert all(np.allclose(a, b, rtol=1e-12) for a, b in zip(*map(gc.tree.leaves, (run.params, params)), strict=True))


def test_any_step_and_any_data_will_do(by_hand):
    optimizer, params, losses = by_hand
    source = data.batches((X, Y), 4, KEY, epochs=3)
    batches = list(data.batches((X, Y), 4, KEY, epochs=3))
    step = gc.train_step(loss, optimizer)
    own = lambda p, s, *batch: gc.train_step(loss, optimizer)(p, s, *batch)
    runs = [
        gc.fit(step, START, source, **QUIET),
        gc.fit(step, START, batches, **QUIET),
        gc.fit(step, START, iter(batches), **QUIET),
        gc.fit(gc.jit(own), START, batches, state=optimizer.init(START), **QUIET),
        gc.fit(loss, START, itertools.cycle(batches), optimizer=optimizer, steps=18, **QUIET),
    ]
    for run in runs:
        assert same(run.params, params) and run.history["loss"].tolist() == losses and run.step == 18
    assert "gradient_norm" not in runs[0].history and "gradient_norm" in runs[4].history


def test_full_batch_optimizers_and_values_work():
    newton = gc.fit(loss, START, (X, Y), optimizer=optim.newton(), epochs=2, **QUIET)
    assert newton.loss < 1e-20 and newton.step == 2
    lbfgs = gc.fit(loss, START, (X, Y), optimizer=optim.lbfgs(linesearch="zoom"), epochs=12, **QUIET)
    assert lbfgs.loss < 1e-10 and "learning_rate" not in lbfgs.history
    plateau = optim.chain(optim.sgd(0.0), optim.reduce_on_plateau(0.5, 2))
    run = fit(loss, START, (X, Y), optimizer=plateau, batch_size=None, epochs=9)
    assert float(run.state[1].scale) < 1


def test_a_model_state_aux_and_mixed_precision():
    def normalised(p, seen, x, y):
        mean = x.mean(0)
        aux = {"middle": mean[0], "vector": mean}
        return loss(p, x - mean, y), ({"n": seen["n"] + 1.0, "mean": 0.9 * seen["mean"] + 0.1 * mean}, aux)

    seen = {"n": np.zeros(()), "mean": np.zeros(3)}
    more = {"optimizer": optim.sgd(0.1), "model_state": seen, "has_aux": True}
    one, two = (fit(normalised, START, (X, Y), steps_per_call=k, **more) for k in (1, 3))
    assert one.model_state["n"] == two.model_state["n"] == 18 and np.allclose(one.params["w"], two.params["w"])
    assert np.isclose(one.history["middle"][0], _first()[0].mean(0)[0]) and "vector" not in one.history
    evaluated = lambda p, s, x, y: loss(p, x - s["mean"], y)
    valid = fit(normalised, START, (X, Y), validate=(X, Y), metrics={"loss": evaluated}, **more)
    assert np.isclose(valid.history.last("validation_loss"), evaluated(valid.params, valid.model_state, X, Y))

    narrow = gc.tree.map(lambda v: v.astype("float32"), START)
    arrays = X.astype("float32"), Y.astype("float32")
    mixed = gc.mixed_precision("float16")(optim.adam(0.1))
    run = fit(loss, narrow, arrays, optimizer=mixed, epochs=10)
    assert run.loss < 0.5 and run.params["w"].dtype == np.float32


def test_validation_is_a_mean_over_examples_and_the_best_is_kept():
    errors = lambda p, x, y: abs(x @ p["w"] + p["b"] - y)
    run = fit(
        loss, START, (X, Y), optimizer=optim.sgd(0.3), validate=(X[:9], Y[:9]),
        metrics={"error": errors, "worst": lambda p, x, y: errors(p, x, y).max()}, epochs=6,
    )  # fmt: skip
    _, values = run.history.of("validation_loss")
    assert len(values) == 6 and np.isclose(values[-1], loss(run.params, X[:9], Y[:9]))
    assert np.isclose(run.history.last("validation_error"), errors(run.params, X[:9], Y[:9]).mean())
    assert run.best.value == values.min() and np.isclose(loss(run.best.params, X[:9], Y[:9]), values.min())
    assert {"error", "worst", "validation_worst", "seconds", "samples_per_second"} <= set(run.history.columns)
    by_function = fit(
        loss, START, (X, Y), optimizer=optim.sgd(0.3), validate=lambda p: {"loss": loss(p, X, Y), "w0": p["w"][0]}
    )
    assert by_function.history.last("validation_w0") == by_function.params["w"][0]
    stepped = fit(loss, START, (X, Y), optimizer=optim.sgd(0.3), validate=(X, Y), validate_every=4)
    assert stepped.history.of("validation_loss")[0].tolist() == [4, 8, 12, 16, 18]


def test_keys_of_steps():
    noisy = lambda p, x, y, key: loss(p, x + 0.1 * gc.random.normal(key, x.shape), y)
    run = fit(noisy, START, (X, Y), optimizer=optim.sgd(0.1), with_key=True)
    optimizer, params, state = optim.sgd(0.1), START, optim.sgd(0.1).init(START)
    step = gc.train_step(noisy, optimizer)
    for i, batch in enumerate(data.batches((X, Y), 4, KEY, epochs=3)):
        params, state, _ = step(params, state, *batch, gc.random.fold_in(KEY, i))
    assert same(run.params, params)


# -- stopped and resumed -----------------------------------------------------------------------------------------------


class Crash(Callback):
    """What a killed process is to a run: it ends within a step."""

    def __init__(self, at):
        self.at = at

    def on_step(self, run):
        if run.step >= self.at:
            raise MemoryError("killed")


def noisy(p, seen, x, y, key):
    return loss(p, x + 0.1 * gc.random.normal(key, x.shape), y), {"n": seen["n"] + 1}


HARD = optim.chain(
    optim.clip_by_global_norm(1.0), optim.reduce_on_plateau(0.5, 3),
    optim.inject_hyperparams(optim.adamw)(learning_rate=optim.linear_schedule(0.1, 0, 30)),
)  # fmt: skip


@pytest.mark.parametrize(("several", "every"), [(1, None), (1, 4), (1, 6), (4, 3)])
def test_a_run_that_was_killed_goes_on_bit_equal(several, every):
    step = gc.train_step(noisy, HARD, has_state=True, measure=("gradient_norm", "learning_rate"))

    def train(store=None, *callbacks):
        stopping = EarlyStopping(patience=3, min_delta=10.0)
        return fit(
            step, START, (X, Y), model_state={"n": np.zeros(())}, with_key=True, steps_per_call=several, epochs=8,
            validate=lambda p, s: loss(p, X, Y), callbacks=[stopping, *callbacks], checkpoint=store,
            checkpoint_every=every,
        )  # fmt: skip

    whole = train()
    assert whole.epoch == 4 and "has not got better" in whole.stopped
    store = Store()
    for at in (1, 7, 8, 13, 19):
        with pytest.raises(MemoryError):
            train(store, Crash(at))
    run = train(store)
    assert same(
        (run.params, run.state, run.model_state, run.key), (whole.params, whole.state, whole.model_state, whole.key)
    )
    assert same(run.best.params, whole.best.params) and run.best.step == whole.best.step
    assert (run.step, run.epoch, run.stopped, run.samples) == (whole.step, whole.epoch, whole.stopped, whole.samples)
    for name in set(whole.history.columns) - {"seconds", "samples_per_second"}:
        assert whole.history[name].tobytes() == run.history[name].tobytes(), name
    again = train(store)
    assert same(again.params, whole.params) and again.step == whole.step


def test_the_best_parameters_survive():
    """Validation gets worse after its second time, between checkpoints."""
    worse = iter([3.0, 1.0, 2.0, 4.0, 5.0, 6.0])

    def train(store, *callbacks):
        return fit(
            loss, START, (X, Y), optimizer=SGD, validate=lambda p: next(worse), validate_every=3, checkpoint=store,
            checkpoint_every=8, callbacks=callbacks,
        )  # fmt: skip

    store = Store()
    with pytest.raises(MemoryError):
        train(store, Crash(9))
    run = train(store)
    assert (run.best.value, run.best.step) == (1.0, 6)
    assert same(run.best.params, fit(loss, START, (X, Y), optimizer=SGD, steps=6).params)


@pytest.mark.parametrize("kind", ["arrays", "list", "buckets"])
def test_the_data_goes_on_where_it_was(kind):
    words = [RNG.standard_normal(n) for n in RNG.integers(1, 9, 17)]
    ragged = lambda p, v, mask: ((v * p - 1) ** 2 * mask).sum()
    make = {
        "arrays": lambda: (loss, START, (X, Y), {"batch_size": 5}),
        "list": lambda: (loss, START, list(data.batches((X, Y), 5, KEY)), {"batch_size": None}),
        "buckets": lambda: (ragged, np.zeros(()), data.bucket(words, 3, KEY, lengths=2), {"batch_size": None}),
    }[kind]

    def train(store=None, *callbacks):
        f, start, source, more = make()
        more |= {"checkpoint": store, "checkpoint_every": 2, "callbacks": callbacks}
        return fit(f, start, source, optimizer=optim.adam(0.1), **more)

    whole, store = train(), Store()
    for at in (3, 9):
        with pytest.raises(MemoryError):
            train(store, Crash(at))
    assert same(train(store).params, whole.params)


def test_ctrl_c_ends_after_the_step_and_saves():
    class Impatient(Callback):
        def on_step(self, run):
            if run.step == 5:
                os.kill(os.getpid(), signal.SIGINT)

    handler, store = signal.getsignal(signal.SIGINT), Store()
    run = fit(loss, START, (X, Y), optimizer=optim.adam(0.1), callbacks=[Impatient()], checkpoint=store)
    assert run.step in (5, 6) and "Ctrl-C" in run.stopped and signal.getsignal(signal.SIGINT) is handler
    assert store.kept[-1].step == run.step
    whole = fit(loss, START, (X, Y), optimizer=optim.adam(0.1))
    assert same(fit(loss, START, (X, Y), optimizer=optim.adam(0.1), checkpoint=store).params, whole.params)


def test_more_epochs_go_on_and_other_settings_are_refused():
    store = Store()
    adam = {"optimizer": optim.adam(0.1), "checkpoint": store}
    fit(loss, START, (X, Y), **adam)
    more = fit(loss, START, (X, Y), **adam | {"epochs": 5})
    assert same(more.params, fit(loss, START, (X, Y), optimizer=optim.adam(0.1), epochs=5).params)
    with pytest.raises(ValueError, match="batch_size was 4 and is 5"):
        fit(loss, START, (X, Y), **adam | {"batch_size": 5})
    with pytest.raises(ValueError, match="is a checkpoint of step 30 already"):
        fit(loss, START, (X, Y), **adam, resume=False)
    with pytest.raises(FileNotFoundError, match="no checkpoint to go on from"):
        fit(loss, START, (X, Y), **adam | {"checkpoint": Store()}, resume=True)


# -- shown -------------------------------------------------------------------------------------------------------------


def test_lines_a_bar_or_nothing(capsys):
    fit(loss, START, (X, Y), optimizer=optim.sgd(0.1), log=None)
    assert capsys.readouterr() == ("", "")
    fit(loss, START, (X, Y), optimizer=optim.sgd(0.1), log="auto", validate=(X, Y))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(
        w in lines[0] for w in ("epoch 1/3  step 6", "loss", "lr 0.1", "‖g‖", "val loss", "left")
    )

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    fit(loss, START, (X, Y), optimizer=optim.sgd(0.1), callbacks=[gc.training.Progress(file=screen)])
    assert "epoch 3/3" in screen.getvalue() and "samples/s" in screen.getvalue()


def test_throughput_is_that_of_the_steps_since_the_row_before_and_the_last_step_has_a_row(monkeypatch):
    """Each look at the clock is a second later: an epoch of six steps takes seven, with its validation eight."""
    ticks = itertools.count()
    monkeypatch.setattr("gradc.training.loop.perf_counter", lambda: float(next(ticks)))
    run = fit(loss, START, (X, Y), optimizer=SGD, validate=(X, Y), log_every=4)
    assert run.history["samples_per_second"][~np.isnan(run.history["samples_per_second"])].tolist() == [22 / 6] * 3
    assert run.history.of("loss")[0].tolist() == [4, 8, 12, 16, 18] and run.history.last("loss") == run.loss
    assert "3 epochs" in str(run) and repr(run.best).startswith("<best validation_loss (min): ")
    assert "1 step, 0 epochs" in repr(fit(loss, START, (X, Y), optimizer=SGD, steps=1))


def test_the_shown_rate_and_time_left_forget_what_compiled(monkeypatch):
    """The first call takes a thousand seconds, each step one, each validation two: nine epochs of ten steps."""
    now = 0.0
    monkeypatch.setattr("gradc.training.progress.perf_counter", lambda: now)
    screen, run = io.StringIO(), gc.training.Run(START, None, epochs_planned=9, steps_of_epoch=10)
    shown = gc.training.Progress("lines", screen)
    shown.on_begin(run)
    for step in range(1, 31):
        now += 1000 if step == 1 else 1
        run.step, run.samples = step, 8 * step
        shown.on_step(run)
        if step % 10 == 0:
            run.epoch += 1
            now += 500 if step == 10 else 2
            shown.on_epoch(run)
    lines = screen.getvalue().splitlines()
    assert all("  8 samples/s" in line for line in lines)
    assert lines[-1].endswith("1:12 left")  # six epochs of ten seconds and two


def test_tensorboard_has_every_row(tmp_path):
    pytest.importorskip("tensorboardX")
    written = []
    board = TensorBoard(tmp_path)
    board._make = lambda folder: SimpleNamespace(
        add_scalar=lambda *row: written.append(row), flush=lambda: None, close=lambda: None
    )
    run = fit(loss, START, (X, Y), optimizer=optim.sgd(0.1), callbacks=board, validate=(X, Y))
    assert [v for name, v, _ in written if name == "loss"] == run.history["loss"].tolist()
    assert [s for name, _, s in written if name == "validation_loss"] == [6, 12, 18]
    fit(loss, START, (X, Y), optimizer=optim.sgd(0.1), callbacks=TensorBoard(tmp_path), epochs=1)
    assert list(tmp_path.glob("events.out.tfevents*"))


# -- mistakes ----------------------------------------------------------------------------------------------------------


def go(source=(X, Y), **more):
    return fit(loss, START, source, optimizer=SGD, **more)


MISTAKES = {
    "no optimizer": (lambda: fit(loss, START, (X, Y)), TypeError, "is a loss: give optimizer="),
    "two optimizers": (lambda: fit(gc.train_step(loss, SGD), START, X, optimizer=SGD), TypeError, "has its optimizer"),
    "no function": (lambda: fit(3, START, (X, Y), optimizer=SGD), TypeError, "a function, got 3"),
    "epochs": (lambda: go(epochs="3"), TypeError, "epochs is a whole number, got '3'"),
    "no epochs": (lambda: go(epochs=0), ValueError, "epochs is at least 1, got 0"),
    "batch size": (lambda: go(batch_size=0), ValueError, "at least 1, got 0"),
    "lengths": (lambda: go(source=(X, Y[:5])), ValueError, "has 22, .* has 5"),
    "empty": (lambda: go(source=(X[:0], Y[:0])), ValueError, "there are no examples"),
    "no batches": (lambda: go(batch_size=None, source=[]), ValueError, "has no batches"),
    "a list": (lambda: go(source=[X, Y]), TypeError, "a list of arrays may mean batches or arrays"),
    "no data": (lambda: go(batch_size=None, source=None), TypeError, "data is arrays"),
    "generator": (lambda: go(batch_size=None, source=(b for b in [(X, Y)]), epochs=2), ValueError, "a generator"),
    "size of batches": (lambda: go(source=[(X, Y)]), TypeError, "batch_size= is for arrays"),
    "callbacks": (lambda: go(callbacks=[print]), TypeError, "instances of"),
    "log": (lambda: go(log="loud"), ValueError, "log is 'auto'"),
    "metrics": (lambda: go(metrics={"a": 1}), TypeError, "'a' has int"),
    "metric": (lambda: go(metrics={"p": lambda p, x, y: x.T}, epochs=1), TypeError,
               r"metric 'p' returns an array of shape \(3, 2\)"),
    "monitor": (lambda: go(callbacks=EarlyStopping()), ValueError, "no column"),
    "kind of progress": (lambda: gc.training.Progress("bars"), ValueError, "'bar', 'lines' or None"),
    "patience": (lambda: EarlyStopping(patience=0), ValueError, "patience is at least 1"),
    "kind of patience": (lambda: EarlyStopping(patience=2.5), TypeError, "patience is a whole number"),
    "own step": (lambda: fit(lambda p, s, x, y: p, START, (X, Y), state=()), TypeError, "must return"),
    "validate": (lambda: fit(lambda p, s, x, y: (p, s, 0.0), START, (X, Y), state=(), validate=(X, Y)), TypeError,
                 "which loss is validated"),
    "metrics list": (lambda: go(metrics=[loss]), TypeError, "metrics is a dict of functions by name"),
    "callback class": (lambda: go(callbacks=EarlyStopping), TypeError, "instances of"),
    "no params": (lambda: fit(lambda p, x: x.mean(), {}, X, optimizer=SGD), TypeError, "hold no arrays"),
    "best": (lambda: go(best=["loss"]), ValueError, "best is a column"),
    "checkpoint": (lambda: go(checkpoint=3), TypeError, "a folder or a gc.Checkpoints, got 3"),
    "a column of fit": (lambda: go(metrics={"seconds": loss}), ValueError, "'seconds', which is a column that fit"),
    "a step": (lambda: go(metrics={"step": loss}), ValueError, "'step', which is a column that fit"),
    "one column": (lambda: go(metrics={"a": loss, "validation_a": loss}), ValueError, "would share a column"),
    "metric tuple": (lambda: go(metrics={"a": lambda p, x, y: (y.mean(), y.mean())}, epochs=1), TypeError,
                     r"metric 'a' returns \("),
    "validate None": (lambda: go(validate=lambda p: None, epochs=1), TypeError, "metric 'loss' returns None"),
    "validate nothing": (lambda: fit(loss, START, (X, Y), optimizer=SGD, validate=[(X[:0], Y[:0])], epochs=1),
                         ValueError, "validate holds no example"),
    "masked": (lambda: go(source=(np.ma.masked_greater(X, 1), Y)), TypeError, "masked array with [0-9]+ values masked"),
    "resume": (lambda: go(checkpoint=Store(), resume="yes"), ValueError, "resume is 'auto', True or False, got 'yes'"),
    "resume number": (lambda: go(checkpoint=Store(), resume=0), ValueError, "resume is 'auto', True or False, got 0"),
    "model state": (lambda: fit(gc.train_step(noisy, SGD, has_state=True), START, (X, Y)), TypeError, "model_state="),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    call, kind, words = MISTAKES[name]
    with pytest.raises(kind, match=words):
        call()


def test_parameters_that_do_not_fit_the_loss_are_shown():
    with pytest.raises(Exception) as caught:
        fit(loss, {"w": np.zeros(4), "b": np.zeros(())}, (X, Y), optimizer=SGD)
    assert "w float64[4]" in "".join(caught.value.__notes__) and "float64[4, 3]" in "".join(caught.value.__notes__)


def test_validation_that_does_not_fit_is_found_before_the_training():
    began = []

    class Watch(Callback):
        def on_begin(self, run):
            began.append(run)

    with pytest.raises(gc.ShapeError) as caught:
        go(validate=(X[:, :2], Y), callbacks=Watch())
    assert not began and "first batch of validate, {[0] float64[4, 2]" in "".join(caught.value.__notes__)


def test_a_run_that_diverges_says_where_and_what_to_do():
    with np.errstate(all="ignore"), pytest.raises(gc.DivergedError) as caught:
        fit(loss, START, (X, Y), optimizer=optim.sgd(1e200))
    text, run = str(caught.value), caught.value.run
    for words in ("at step", "learning rate 1e+200", "last finite loss", "hold", "clip_by_global_norm"):
        assert words in text
    assert len(run.history) == run.step and len(run.batch) == 2
    bad = X.copy()
    bad[3, 1] = np.nan
    skipping = fit(loss, START, (bad, Y), optimizer=optim.apply_if_finite(optim.sgd(0.1), 5))
    assert np.isfinite(skipping.params["w"]).all() and np.isnan(skipping.history["loss"]).sum() == 3
    with pytest.raises(gc.DivergedError, match="no number for 10 steps"):
        fit(loss, START, (X * np.nan, Y), optimizer=optim.apply_if_finite(optim.sgd(0.1), 50))


def test_losses_that_are_no_numbers_are_counted_in_steps_not_in_rows():
    bad = X.copy()
    bad[15, 1] = np.nan
    skip = optim.apply_if_finite(optim.sgd(0.1), 50)
    more = {"validate": (X, Y), "validate_every": 1, "log_every": 1000, "batch_size": 1, "shuffle": False, "epochs": 1}
    assert fit(loss, START, (bad, Y), optimizer=skip, **more).step == 22
    seldom = {"log_every": 1000, "batch_size": 1, "shuffle": False, "epochs": 2, "steps_per_call": 2}
    with pytest.raises(gc.DivergedError, match="no number for 10 steps") as caught:
        fit(loss, START, (X * np.nan, Y), optimizer=skip, **seldom)
    assert caught.value.run.step == 10
    store = Store()
    fit(loss, START, (X * np.nan, Y), optimizer=skip, **seldom | {"steps": 6, "checkpoint": store})
    with pytest.raises(gc.DivergedError) as caught:
        fit(loss, START, (X * np.nan, Y), optimizer=skip, **seldom | {"checkpoint": store})
    assert caught.value.run.step == 10


def test_a_gradient_that_is_no_number_ends_the_run_at_its_step():
    """Its loss is finite: where it is the last step, no later loss would tell."""
    for more in ({}, {"log_every": 10}, {"steps_per_call": 2, "epochs": 2}):
        with pytest.raises(gc.DivergedError, match=r"the gradient is no number at step 1 .*; w holds no numbers"):
            fit(
                lambda p, x: np.sqrt(np.sum(p["w"])) + x.mean() * 0, {"w": np.zeros(3)}, X, optimizer=SGD,
                **{"batch_size": None, "epochs": 1} | more,
            )  # fmt: skip


def test_what_a_loss_returns_beside_does_not_write_over_what_fit_measures():
    def told(p, x, y):
        value = loss(p, x, y)
        return value, dict.fromkeys(("loss", "learning_rate", "seconds", "step", "own"), value * 0 - 1)

    plain = fit(loss, START, (X, Y), optimizer=SGD)
    for several in (1, 2):
        run = fit(told, START, (X, Y), optimizer=SGD, has_aux=True, steps_per_call=several)
        assert run.history["loss"].tolist() == plain.history["loss"].tolist() and run.loss == plain.loss
        assert set(run.history["learning_rate"]) == {0.1}
        for name in ("aux_loss", "aux_learning_rate", "aux_seconds", "aux_step", "own"):
            assert set(run.history[name]) == {-1.0}
    with pytest.raises(ValueError, match="give the column 'step' another name"):
        gc.History().add(1, step=2.0)


def test_empty_batches_of_validation_count_nothing():
    run = fit(loss, START, (X, Y), optimizer=SGD, epochs=1, validate=[(X[:0], Y[:0]), (X, Y)])
    assert run.history.last("validation_loss") == float(gc.jit(loss)(run.params, X, Y))


def test_checkpoints_of_something_else_are_not_gone_on_from():
    foreign, newer, arrays = Store(), Store(), Store()
    tree = {"params": START, "state": SGD.init(START), "key": KEY}
    foreign.save(3, tree, record={})
    newer.save(3, tree, record={"format": 99})
    fit(loss, START, (X, Y), optimizer=SGD, checkpoint=arrays, epochs=1)
    with pytest.raises(gc.CheckpointError, match="was written not by"):
        go(checkpoint=foreign)
    with pytest.raises(gc.CheckpointError, match="format 99"):
        go(checkpoint=newer)
    with pytest.raises(ValueError, match="a run on arrays or"):
        go(source=[(X, Y)], batch_size=None, checkpoint=arrays)
    with pytest.raises(ValueError, match=r"arrays was \['\[0\] float64\[3\]'"):
        go(source=(X[:, :2], Y), checkpoint=arrays)


def test_ctrl_c_that_is_ignored_stays_ignored():
    class Press(Callback):
        def on_step(self, run):
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert go(callbacks=Press()).stopped == "" and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
