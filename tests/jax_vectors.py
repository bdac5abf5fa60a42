"""What `jax.random` of version 0.10 gives for given keys: the vectors that tests/test_random*.py compare with.

``python tests/jax_vectors.py`` in an environment with JAX writes tests/jax_random.json; the tests read it, and need no
JAX.  64-bit types are enabled, the random number generator is as it is by default.  A case is source text, over a
namespace ``r`` of samplers and the key ``k``; long results are kept as their SHA-256.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).with_name("jax_random.json")
SEEDS = (0, 7, -1, 2**40 + 3)
#: Longer results are compared by their hash, which only works for those that are equal bit by bit.
LONG = 64
#: Equal bit by bit.
EXACT = (
    "k", "r.split(k)", "r.split(k, 5)", "r.split(k, (2, 3))", "r.fold_in(k, 0)", "r.fold_in(k, 4294967295)",
    "r.split(r.fold_in(r.split(k, 3)[1], 9))[0]", "r.bits(k)", "r.bits(k, (5,))", "r.bits(k, (2, 3), 'uint32')",
    "r.bits(k, (9,), 'uint8')", "r.bits(k, (7,), 'uint16')", "r.bits(k, (100003,), 'uint32')",
    "r.bits(k, (317, 211), 'uint64')", "r.bits(k, (0, 3))", "r.uniform(k)", "r.uniform(k, (6,))",
    "r.uniform(k, (3, 4), 'float32')", "r.uniform(k, (7,), 'float16')", "r.uniform(k, (7,), 'bfloat16')",
    "r.uniform(k, (70001,), 'float32')", "r.uniform(k, (50021,), 'float64')",
    "r.uniform(k, (40,), 'float32', -3.7, 11.3)", "r.uniform(k, (40,), 'float64', 0.1, 0.7)",
    "r.uniform(k, (40,), 'float32', 2.0, 1.0)", "r.uniform(k, (30011,), 'float32', -0.1, 3.3)",
    "r.uniform(k, (3, 4), 'float32', np.float32([0, 1, -2, .5]), np.float32([[1], [2], [3]]))",
    "r.randint(k, (6,), 0, 10)", "r.randint(k, (6,), -5, 7, 'int32')", "r.randint(k, (20,), 0, 256, 'uint8')",
    "r.randint(k, (20,), -128, 127, 'int8')", "r.randint(k, (9,), -40000, 40000, 'int16')",
    "r.randint(k, (5,), 3, 3)", "r.randint(k, (5,), 3, -3)", "r.randint(k, (9,), -2**63, 2**63 - 1)",
    "r.randint(k, (9,), -2**31, 2**31, 'int32')", "r.randint(k, (9,), 0, 2**32, 'uint32')",
    "r.randint(k, (9,), 0, 3 * 2**30, 'uint32')", "r.randint(k, (9,), 0, 3 * 2**60)",
    "r.randint(k, (60013,), -17, 1000, 'int32')", "r.randint(k, (60013,), 0, 6)",
    "r.randint(k, (3, 2), np.array([1, -9]), np.array([[5], [2], [70]]), 'int32')",
    "r.randint(k, (2, 3), np.int8(-3), np.uint8(200), 'int8')",
    "r.randint(k, (4,), np.int64(5), np.int64(2**40), 'int32')", "r.bernoulli(k)", "r.bernoulli(k, 0.3, (50,))",
    "r.bernoulli(k, np.float32(0.7), (5, 3))", "r.bernoulli(k, np.array([0.1, 0.9]))",
    "r.bernoulli(k, 1e-3, (60007,))", "r.bernoulli(k, np.float32(0.25), (40,), mode='high')",
    "r.rademacher(k, (20,))", "r.rademacher(k, (9,), 'float32')", "r.permutation(k, 30)",
    "r.permutation(k, np.arange(12.0).reshape(4, 3))", "r.permutation(k, 3000)",
    "r.permutation(k, np.arange(12).reshape(3, 4), axis=1)",
    "r.permutation(k, np.arange(12).reshape(3, 4), axis=1, independent=True)", "r.choice(k, 9, (4,))",
    "r.choice(k, np.arange(10.0) ** 2, (3, 2))", "r.choice(k, 20, (7,), replace=False)", "r.choice(k, 5, ())",
    "r.choice(k, np.arange(12).reshape(3, 4), (5,), axis=1)",
    "r.choice(k, 4, (9,), p=np.array([0.1, 0.2, 0.3, 0.4]))",
    "r.choice(k, 4, (3,), replace=False, p=np.array([0.1, 0.2, 0.3, 0.4]))", "r.choice(k, 3, (0,))",
    "r.categorical(k, np.log(np.array([0.1, 0.2, 0.7])), shape=(40,))",
    "r.categorical(k, np.arange(12.0).reshape(4, 3) / 4, axis=0)",
    "r.categorical(k, np.float32(np.arange(12.0).reshape(4, 3) / 4), shape=(2, 4))",
    "r.categorical(k, np.arange(12.0).reshape(3, 4) / 4, shape=(2, 3), replace=False).astype('int32')",
)  # fmt: skip
#: Equal to a few units in the last place.
NORMAL = (
    "r.normal(k)", "r.normal(k, (64,), 'float32')", "r.normal(k, (60,), 'float64')",
    "r.normal(k, (3, 5), 'float32')", "r.normal(k, (40,), 'float16')", "r.normal(k, (40,), 'bfloat16')",
)  # fmt: skip
#: Equal to a few units of the last place of 1, or of the number if that is larger.
CLOSE = (
    "r.exponential(k, (40,), 'float32')", "r.exponential(k, (40,))", "r.laplace(k, (40,), 'float32')",
    "r.laplace(k, (40,))", "r.logistic(k, (40,), 'float32')", "r.logistic(k, (40,))",
    "r.gumbel(k, (40,), 'float32')", "r.gumbel(k, (40,))", "r.gumbel(k, (40,), 'float32', mode='high')",
    "r.cauchy(k, (40,), 'float32')", "r.cauchy(k, (40,))", "r.truncated_normal(k, -1.0, 2.0, (40,), 'float32')",
    "r.truncated_normal(k, -1.0, 2.0, (9,))", "r.truncated_normal(k, np.array([-2.0, 0.5]), 1.5)",
    "r.orthogonal(k, 4)", "r.orthogonal(k, 2, (2,), m=3)",
    "r.multivariate_normal(k, np.array([1.0, -2.0]), np.array([[2.0, 0.5], [0.5, 1.0]]), (3,))",
    "r.multivariate_normal(k, np.zeros((2, 3), 'f4'), np.diag(np.float32([1.0, 2.0, 0.5])), dtype='float32')",
)  # fmt: skip


def digest(array: Any) -> str:
    """What stands for a long array."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def numbers(array: Any) -> list[int]:
    """The elements' bits, as integers."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return [int(bits) for bits in flat.view(f"uint{8 * flat.dtype.itemsize}")]


def described(array: Any) -> dict[str, Any]:
    """An array as JSON."""
    array = np.asarray(array)
    kept = {"sha256": digest(array)} if array.size > LONG else {"bits": numbers(array)}
    return {"dtype": str(array.dtype), "shape": list(array.shape), **kept}


def main() -> None:
    """Write the vectors."""
    import jax

    jax.config.update("jax_enable_x64", True)
    found = {"jax": jax.__version__}
    for seed in SEEDS:
        names = {"r": jax.random, "k": jax.random.PRNGKey(seed), "np": np}
        for text in (*EXACT, *NORMAL, *CLOSE):
            found[f"{seed}: {text}"] = described(eval(text, names))
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in found.items()]
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
