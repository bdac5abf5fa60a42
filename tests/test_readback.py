"""What is printed is true: `tests.readback` reads it as a person would, and gets the numbers of the graphs.

Of the gallery, the textbook, the models and random programs every line is read and compared with the value that the
program or its derivative has, and each δ with the derivative that the legend calls it.  By day some, by night all.
"""

from __future__ import annotations

import numpy as np
import pytest

from tests.readback.cases import held
from tests.readback.gathered import PROGRAMS
from tests.readback.programs import program
from tests.readback.reading import Reading
from tests.readback.signs import UnreadError
from tests.readback.values import dropped, value

#: what does not say what is meant yet, and why
UNREAD = {
    "gallery singular_values_sum": "U, V and σ are not said to be of the singular value decomposition",
    "gallery spectral_norm": "neither are u₁ and v₁",
    "gallery condition_number": "σ is the logistic function elsewhere",
    "textbook condition_number": "λ is a name and a function",
    "model embedding": "onehot does not say of how many classes",
    "model smallest_of_sorted": "onehot does not say of how many classes",
    "model stacked": "numbers joined to a vector are printed as concat of axis 0",
}


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_printed_is_read_as_what_is_computed(name: str) -> None:
    function, args, argnums, order, operator = PROGRAMS[name]
    found = held(name, function, args(), argnums, order, operator)
    if name in UNREAD:
        assert found.verdict != "true", f"{name} is read by now: take it off the list"
    else:
        assert found.verdict == "true", f"{found.why}\n\n{found.text}"


def test_the_list_of_what_is_unread_names_programs() -> None:
    assert not UNREAD.keys() - PROGRAMS.keys()


def _random_program_is_read(seed: int) -> None:
    function, args = program(seed)
    found = held(str(seed), function, args, (0, 1, 2, 3))
    assert found.verdict == "true", f"{found.why}\n\n{found.text}"


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_are_read(seed: int) -> None:
    _random_program_is_read(seed)


@pytest.mark.nightly
@pytest.mark.parametrize("hundred", range(20))
def test_thousands_of_random_programs_are_read(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        _random_program_is_read(seed)


# -- the reader itself -------------------------------------------------------------------------------------------------

X, W, x, v, b = (np.random.default_rng(3).normal(size=s) for s in ((7, 5), (5, 3), 7, 5, 3))
NAMES = {"X": X, "W": W, "x": x, "v": v, "b": b, "a": 2.0, "x₁": 3.0, "δ_z": x, "n": 7.0}
READ = {
    "XW + b": X @ W + b,
    "½‖Xv − x‖²": 0.5 * np.sum((X @ v - x) ** 2),
    "2Xᵀ(Xv − x)": 2 * X.T @ (X @ v - x),
    "xvᵀ ⊙ X": np.outer(x, v) * X,
    "x𝟏ᵀ − X": x[:, None] - X,
    "X ⊘ (Σⱼ X²)": X / np.sum(X**2, axis=1, keepdims=True),
    "Σᵢ (X ⊙ v)": np.sum(X * v, axis=0),
    "(X − meanᵢ(X)) ⊘ √(varᵢ(X) + 1e-05)": (X - X.mean(0)) / np.sqrt(X.var(0) + 1e-5),
    "aX/n": 2 * X / 7,
    "ax₁": 6.0,
    "x₁²a": 18.0,
    "exp(−a) + 1": np.exp(-2) + 1,
    "Xᵀ diag(x) X": X.T @ np.diag(x) @ X,
    "[Σₖ (X[i, k] − X[j, k])²]ᵢⱼ": np.sum((X[:, None] - X[None]) ** 2, axis=-1),
    "x[1:]ᵀ(1[x > 0])[:-1]": x[1:] @ (x > 0)[:-1],
    "(XᵀX)⁻¹v": np.linalg.solve(X.T @ X, v),
    "max(X, 0)": np.maximum(X, 0),
    "δ_zᵀx": x @ x,
    "XXᵀ − aI": X @ X.T - 2 * np.eye(7),
}
MISREAD = {
    "XW + x": "shapes that do not fit",
    "Xᵀv": "neither do these",
    "vx": "two columns side by side",
    "v − Σⱼ X": "a row of X and a column",
    "x[0][1]": "an element of a number",
    "x[i, j]": "a matrix index of a vector",
    "X/x₁v": "a denominator that goes on",
    "step(a, 1)": "a function that nobody knows",
    "constant[20]ᵀv": "an array that nobody knows",
    "a + y": "a name that nobody knows",
    "1/X": "a quotient by an array",
}


@pytest.mark.parametrize("text", READ)
def test_the_reader_knows_the_notation(text: str) -> None:
    found = Reading({name: value(x) for name, x in NAMES.items()})(text)
    array = dropped(found).array + (found.unit * np.eye(len(X)) if found.unit is not None else 0)
    np.testing.assert_allclose(array, READ[text], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("text", MISREAD)
def test_the_reader_makes_no_guess(text: str) -> None:
    with pytest.raises(UnreadError):
        Reading({name: value(x) for name, x in NAMES.items()})(text)


def test_a_wrong_letter_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gradient of ½‖Xw − y‖² with X for Xᵀ, 2 for 1, y − Xw for Xw − y."""
    from gradc.explain.derivation import Derivation

    printed = Derivation.__str__

    def model(w, X, y):
        r = X @ w - y
        return 0.5 * np.sum(r**2)

    def verdict(old: str, new: str) -> str:
        def changed(self: Derivation) -> str:
            text = printed(self)
            assert old in text
            return text.replace(old, new)

        monkeypatch.setattr(Derivation, "__str__", changed)
        return held("", model, (v, X, x), (0, 1)).verdict

    assert verdict("Xᵀr", "Xᵀr") == "true"
    assert verdict("Xᵀr", "Xr") == "unread"
    assert verdict("Xᵀr", "2Xᵀr") == "untrue"
    assert verdict("r = Xw − y", "r = y − Xw") == "untrue"
