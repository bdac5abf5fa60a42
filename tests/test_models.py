"""The models of examples/models: PyTorch's values and gradients for equal weights, and what each promises to learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import gradc as gc
from examples.models import encoder, gpt, language, lenet, resnet, unet, vae
from tests import effort
from tests.peers import models

FOLDER = Path(models.__file__).parent.parent.parent / "examples" / "models"
STORED = np.load(models.FILE)
CASES = models.cases()


@pytest.fixture(autouse=True)
def usual_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs for thousands of steps costs more in code that is made quickly than is saved by making it so."""
    monkeypatch.setattr(effort, "USUAL_ONE_IN", 1)


def test_every_model_is_held_against_pytorch_and_stays_a_page_long():
    files = {p.stem: len(p.read_text(encoding="utf-8").splitlines()) for p in FOLDER.glob("*.py")}
    assert set(files) - {"__init__"} == {name.split(",")[0] for name in CASES} and set(CASES) == set(STORED.files)
    assert max(files.values()) < 120


@pytest.mark.parametrize("name", sorted(CASES))
def test_values_and_gradients_are_pytorchs(name):
    """In float64: what both round differs in the last digits, more where a network is deep."""
    p, batch, loss = CASES[name]
    value, gradient = gc.jit(gc.value_and_grad(loss))(p, *batch)
    found = models.summary(value, gc.tree.leaves(gradient))
    np.testing.assert_allclose(found, STORED[name], rtol=1e-9, atol=1e-10 * np.abs(STORED[name]).max())


def test_a_gpt_sorts_and_its_cache_changes_nothing():
    """Without chance (the likeliest token alone) the cached generation is that of whole passes."""
    params, history, share = gpt.main(steps=250)
    assert history[-1] < 0.05 and share >= 0.95
    prompt = np.array([4, 0, 3, 3, 1, 2])
    found = gc.jit(lambda p, key: gpt.generated(p, key, prompt, top_k=1))(params, gc.random.key(1))
    plain = prompt
    for _ in range(gpt.LENGTH):
        plain = np.append(plain, gpt.logits(params, plain[None])[0, -1].argmax())
    np.testing.assert_array_equal(found, plain)


@pytest.mark.parametrize(
    ("top_k", "top_p", "allowed"), [(5, 1.0, 5), (2, 1.0, 2), (5, 0.6, 2), (5, 0.4, 1), (3, 0.8, 2)]
)
def test_tokens_are_drawn_from_the_likeliest(top_k, top_p, allowed):
    z = np.log(np.array([0.15, 0.5, 0.05, 0.2, 0.1]))
    keys = gc.random.split(gc.random.key(3), 400)
    drawn = gc.jit(gc.vmap(lambda key: gpt.drawn(key, z, 1.0, top_k, top_p)))(keys)
    assert set(drawn) == set(np.argsort(-z)[:allowed])


@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_a_recurrent_network_spells_numbers(kind):
    flow, right = language.main(kind, steps=250)
    assert flow[-1] < 0.4 and right >= 0.7


@pytest.mark.parametrize(
    ("n", "words"), [(0, "zero"), (13, "thirteen"), (40, "forty"), (99, "ninety-nine"), (300, "three hundred"),
                     (817, "eight hundred and seventeen")],
)  # fmt: skip
def test_numbers_are_spelled(n, words):
    assert language.spelled(n) == words


def test_a_unet_cleans_digits():
    before, after = unet.main(epochs=6)
    assert abs(before / unet.NOISE**2 - 1) < 0.03 and after < before / 4


def test_lenet_reads_digits():
    assert lenet.main(epochs=12)[1] >= 0.92


def test_a_residual_network_reads_digits():
    assert resnet.main(epochs=8)[2] >= 0.98


def test_an_encoder_reads_digits():
    assert encoder.main(epochs=20)[1] >= 0.96


def test_an_autoencoder_learns_to_draw(capsys):
    """A code of eight numbers leaves less than a third of the pixels' variance, and the bound rises by a third."""
    history, missed = vae.main(epochs=15)
    assert history[-1] < 28.0 < 40.0 < history[0]
    assert missed < gc.data.digits().images.var() / 3
    said = capsys.readouterr().out
    assert "∂L/∂μ = μ" in said and "∂L/∂s = ½(exp(s) − 1)" in said
