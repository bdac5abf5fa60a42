"""optax's schedules, each in words that gradc and optax share.  Nothing of either is imported here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: the steps at which values are compared: corners of all of them, and some beyond
COUNTS = (0, 1, 2, 3, 4, 5, 9, 10, 11, 14, 15, 19, 20, 29, 30, 31, 49, 50, 60, 84, 85, 99, 100, 101, 250)

SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "constant": lambda o: o.constant_schedule(0.3),
    "linear": lambda o: o.linear_schedule(1.0, 0.1, 30, 5),
    "polynomial": lambda o: o.polynomial_schedule(1.0, 0.1, 2.5, 50),
    "polynomial, later": lambda o: o.polynomial_schedule(0.0, 2.0, 0.5, 20, 10),
    "exponential": lambda o: o.exponential_decay(1.0, 10, 0.7),
    "exponential, later": lambda o: o.exponential_decay(1.0, 10, 0.7, 15, end_value=0.2),
    "exponential, staircase": lambda o: o.exponential_decay(1.0, 10, 0.7, staircase=True),
    "exponential, growing": lambda o: o.exponential_decay(0.01, 10, 1.5, end_value=0.5),
    "cosine": lambda o: o.cosine_decay_schedule(1.0, 50, 0.1),
    "cosine, exponent": lambda o: o.cosine_decay_schedule(1.0, 50, 0.1, 2.0),
    "piecewise_constant": lambda o: o.piecewise_constant_schedule(1.0, {50: 0.1, 10: 0.5, 100: 2.0}),
    "piecewise_constant, none": lambda o: o.piecewise_constant_schedule(1.0),
    "interpolated, linear": lambda o: o.piecewise_interpolate_schedule("linear", 1.0, {50: 0.1, 10: 0.5, 100: 2.0}),
    "interpolated, cosine": lambda o: o.piecewise_interpolate_schedule("cosine", 1.0, {50: 0.1, 10: 0.5}),
    "onecycle, linear": lambda o: o.linear_onecycle_schedule(100, 1.0),
    "onecycle, cosine": lambda o: o.cosine_onecycle_schedule(100, 1.0),
    "warmup_constant": lambda o: o.warmup_constant_schedule(0.1, 1.0, 30),
    "warmup_cosine": lambda o: o.warmup_cosine_decay_schedule(0.0, 1.0, 10, 100, 0.05, 1.5),
    "warmup_exponential": lambda o: o.warmup_exponential_decay_schedule(0.0, 1.0, 10, 20, 0.5, 5, True, 0.01),
    "join": lambda o: o.join_schedules([o.constant_schedule(0.5), o.linear_schedule(1.0, 0.0, 20)], [30]),
    "sgdr": lambda o: o.sgdr_schedule(
        [{"init_value": 0.0, "peak_value": 1.0, "warmup_steps": 5, "decay_steps": 20},
         {"init_value": 0.1, "peak_value": 0.5, "warmup_steps": 10, "decay_steps": 40, "end_value": 0.01}]
    ),
}  # fmt: skip
