"""The examples of training, each shortened, each keeping what it promises."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from examples.training import alice_language, descent_modes, digits_cnn, killed_and_resumed, vanishing_gradients
from gradc import data


def test_every_example_of_training_is_run_here():
    files = {p.stem for p in (Path(__file__).parent.parent / "examples" / "training").glob("*.py")} - {"__init__"}
    assert files == {
        "alice_language", "descent_modes", "digits_cnn", "killed_and_resumed", "vanishing_gradients"
    }  # fmt: skip


def test_digits_are_read_by_a_convolutional_net():
    run = digits_cnn.main(epochs=4, log=False)
    assert run.history["validation_accuracy"][-1] >= 0.985


def test_a_text_is_learnt_by_letters(capsys):
    """From the first chapters alone; who knows nothing needs log₂ 60 = 5.9 bits a letter."""
    run, bits = alice_language.main(epochs=4, text=data.alice()[:30_000], log=False)
    assert bits < 4.2 and run.step == 4 * 13
    before, after = capsys.readouterr().out.split("\n\nafter")
    assert before.startswith("before:\nAlice was beginning to get ver|") and len(after) > 240


def test_modes_of_descent_are_told_apart():
    ground, found = descent_modes.main(epochs=8)
    assert ground.kind == "slope" and 3.2 < ground.largest < 3.4
    for mode, (run, _) in found.items():
        assert run.history["validation_accuracy"][-1] >= 0.94, mode
    assert found["batch"][1].behaviour == "monotone" and found["sgd"][1].behaviour != "monotone"


CURES = [name for name in vanishing_gradients.NETS if name != "sigmoid"]


@pytest.mark.parametrize("cure", [CURES[0], *(pytest.param(c, marks=pytest.mark.nightly) for c in CURES[1:])])
def test_a_deep_sigmoid_net_is_diagnosed_and_cured(cure, capsys):
    found = vanishing_gradients.main(epochs=3, names=("sigmoid", cure))
    report, share = found["sigmoid"]
    assert share < 0.2 and [note.kind for note in report.notes] == ["vanishing"]
    printed = capsys.readouterr().out
    for advice in ("activation", "initialisation", "normalisation", "residual connections"):
        assert f"  - {advice}: " in printed
    report, share = found[cure]
    assert share > 0.6 and not any(note.kind == "vanishing" for note in report.notes)


def test_a_killed_run_goes_on_with_the_same_bits():
    step, same = killed_and_resumed.main()
    assert same and step >= killed_and_resumed.EVERY
    assert np.isfinite(step)
