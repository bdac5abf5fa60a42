"""gradc.special against SciPy: values eager, traced and compiled, and SciPy's own ufuncs on traced values."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.special

import gradc as gc
from gradc import special

X = np.array([0.1, 0.5, 0.9, 0.99])
NAMES = [
    *("erf", "erfc", "digamma", "psi", "expit", "gammaln", "log1p", "expm1", "cbrt", "exp2"),
    *("log_expit", "logit", "entr"),
]


@pytest.mark.parametrize("name", NAMES)
def test_values_and_scipys_own_function(name):
    mine, theirs = getattr(gc.special, name), getattr(scipy.special, name)
    np.testing.assert_allclose(mine(X), theirs(X), rtol=1e-14)
    np.testing.assert_allclose(gc.trace(theirs, X).evaluate(X)[0], theirs(X), rtol=1e-14)
    np.testing.assert_allclose(gc.jit(mine)(X), mine(X), rtol=2e-15)


def test_xlogy_and_softmax():
    x = np.array([0.0, 0.0, 2.0])
    np.testing.assert_array_equal(gc.special.xlogy(x, np.array([0.0, 1.0, 1.0])), np.zeros(3))
    z = np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(gc.special.softmax(z), scipy.special.softmax(z), rtol=1e-14)
    np.testing.assert_allclose(gc.special.log_softmax(z, axis=1), scipy.special.log_softmax(z, axis=1), rtol=1e-14)
    np.testing.assert_allclose(gc.special.logsumexp(z), scipy.special.logsumexp(z), rtol=1e-14)


@pytest.mark.parametrize("axis", [None, 0, 1])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("b", [
    [[0.5, 2.0, 1.0]], [[0.71, -0.58, 0.1]], [[0.0, 1.0, 2.0]], [[-1.0, -2.0, -0.5]], [[0.0, 0.0, 0.0]], [2.0],
])  # fmt: skip
def test_weights_of_logsumexp_may_have_any_sign(b, axis, keepdims):
    b = np.array(b)
    infinite = (
        [np.array([[np.inf, 1.0, 2.0], [-np.inf, 1.0, 0.0]])] if np.all(b) else []
    )  # 0 times ∞: SciPy says NaN, now and then
    for x in (np.array([[0.3, -1.0, 2.0], [800.0, 799.0, -np.inf]]), *infinite):
        with np.errstate(all="ignore"):
            want = scipy.special.logsumexp(x, axis=axis, b=b, keepdims=keepdims)
        nothing = np.all(np.broadcast_to(b == 0, x.shape), axis=axis, keepdims=keepdims)
        want = np.where(nothing, -np.inf, want)  # log 0; SciPy: NaN, now and then
        got = gc.special.logsumexp(x, axis=axis, b=b, keepdims=keepdims)
        assert np.shape(got) == np.shape(want)
        np.testing.assert_allclose(got, want, rtol=1e-13)
        found = gc.jit(lambda x, b: gc.special.logsumexp(x, axis=axis, b=b, keepdims=keepdims))(x, b)
        np.testing.assert_allclose(found, want, rtol=1e-13)


def test_logsumexp_is_differentiated_by_weights_of_any_sign():
    """Also by one that is 0: its element counts for nothing, and would with any other weight."""
    x, b = np.array([0.3, -1.0, 2.0]), np.array([1.5, -0.4, 0.0])
    total = np.sum(b * np.exp(x))
    np.testing.assert_allclose(gc.grad(lambda b: gc.special.logsumexp(x, b=b))(b), np.exp(x) / total, rtol=1e-14)
    np.testing.assert_allclose(gc.grad(lambda x: gc.special.logsumexp(x, b=b))(x), b * np.exp(x) / total, rtol=1e-14)
    assert gc.check_gradients(lambda x, b: gc.special.logsumexp(x, b=b), x, b).ok


@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_polygamma_is_the_derivative_of_the_one_before(n):
    np.testing.assert_allclose(gc.special.polygamma(n, X), scipy.special.polygamma(n, X), rtol=1e-12)
    slope = gc.grad(lambda x: gc.special.polygamma(n, x).sum())(X)
    np.testing.assert_allclose(slope, scipy.special.polygamma(n + 1, X), rtol=1e-12)


def test_polygamma_needs_a_static_order():
    with pytest.raises(ValueError, match=">= 0"):
        gc.special.polygamma(-1, X)


def test_the_refusals_stand_whatever_arrays_scipy_takes(tmp_path):
    """With SCIPY_ARRAY_API=1 it computes in the namespace of its arguments, and writes into what they made."""
    program = tmp_path / "program.py"
    program.write_text("""
import numpy as np, gradc as gc, scipy.special as ss
for f in (
    lambda x: ss.softmax(x)[0],
    lambda x: ss.log_softmax(x)[0],
    lambda x: ss.logsumexp(x),
):
    try: print(gc.grad(f)(np.array([1.0, 2.0])).shape)
    except gc.TraceError as error: print(str(error).split("Write  ")[1])
""")
    found = {}
    for switch in ("", "1"):  # SciPy takes any text for yes
        environment = os.environ | {"SCIPY_ARRAY_API": switch}
        done = subprocess.run(
            [sys.executable, program], env=environment, capture_output=True, text=True, check=True
        )  # fmt: skip
        found[switch] = done.stdout.splitlines()
    refused = [f"gradc.special.{name}(…)." for name in ("softmax", "log_softmax", "logsumexp")]
    assert found == {"": refused, "1": ["(2,)", *refused[1:]]}


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: scipy.special.logsumexp(x), r"Write  gradc\.special\.logsumexp\(…\)"),
        (lambda x: scipy.special.softmax(x)[0], r"Write  gradc\.special\.softmax\(…\)"),
        (lambda x: scipy.special.log_softmax(x)[0], r"Write  gradc\.special\.log_softmax\(…\)"),
        (lambda x: scipy.special.polygamma(1, x).sum(), r"Write  gradc\.special\.polygamma\(…\)"),
        (lambda x: scipy.special.multigammaln(x[0], 2), r"Write  gradc\.special\.multigammaln\(…\)"),
    ],
)
def test_scipys_functions_that_are_no_ufuncs_name_the_one_to_call(call, words):
    with pytest.raises(gc.TraceError, match=rf"{__file__}:\d+: scipy\.special\.\w+(.|\n)*{words}"):
        gc.grad(call)(np.array([4.0, 2.0]))


@pytest.mark.parametrize("name", ["boxcox", "huber", "rel_entr", "binom", "xlogy"])
def test_truth_and_whole_numbers_beside_a_python_float_are_float64(name):
    """NumPy's promotion: a float is of another kind than they, and its dtype that of Python."""
    f = getattr(special, name)
    for dtype in (bool, np.int8):
        assert f(np.ones(2, dtype), 0.5).dtype == np.arctan2(np.ones(2, dtype), 0.5).dtype == np.float64
    assert f(np.ones(2, np.float16), 0.5).dtype == f(np.ones(2, bool), np.ones(2, bool)).dtype == np.float16


@pytest.mark.parametrize("name", ["rel_entr", "kl_div", "xlogy", "xlog1py", "huber", "pseudo_huber"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_function_of_narrow_floats_and_python_numbers_stays_narrow(name, dtype):
    """As NumPy's own functions do; SciPy's widen some beside a Python number."""
    f, x = getattr(special, name), np.array([0.0, 1.5, -1.0], dtype)
    assert {f(x, 0.0).dtype, f(2.0, x).dtype, f(x, x).dtype} == {np.dtype(dtype)}
    want = getattr(scipy.special, name)(x.astype(float), 2.0)
    np.testing.assert_allclose(f(x, 2.0).astype(float), want, rtol=4 * np.finfo(dtype).eps)


def test_zeta_is_not_blamed_for_what_sympy_has_no_word_for():
    report = gc.check_gradients(lambda x: gc.fori_loop(0, 2, lambda i, c: special.zeta(1.5 + abs(c)), x), 0.84)
    assert report.ok, report
