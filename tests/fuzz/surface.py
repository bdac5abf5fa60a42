"""Which public names take part: read off the namespaces, so that a new function is fuzzed by being public.

Enters: gradc's namespaces and the methods of a traced value.  Leaves: `ENTRIES`, each with how it is written and what
its parameters are called.
Invariant: a public name is an entry, a form of `forms` or `control`, or is named in `LEFT_OUT` with the reason;
`tests/test_fuzz.py` fails with the name of any that is none of these, and with any for which no call could be made.
Start reading at `ENTRIES`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

import gradc as gc
import gradc.numpy as gnp
from gradc import nn, special
from gradc.node import OPS, Node
from gradc.numpy.indexing import Update
from gradc.ops.record import Kind
from tests.op_cases import operand_count

NOTHING_TRACED = "its result is a fact about shapes or dtypes, or a constant made of Python numbers"
COMPUTED_AT_ONCE = "the shape of its result is read off values, so it is refused in a trace"
REFUSED = "refused on a traced value, in words"
#: public names that no program calls, with the reason
LEFT_OUT: dict[str, str] = {
    **dict.fromkeys(
        ("gnp.broadcast_shapes", "gnp.can_cast", "gnp.einsum_path", "gnp.finfo", "gnp.isdtype", "gnp.ndim", "gnp.shape",
         "gnp.promote_types", "gnp.result_type", "gnp.size", "gnp.indices", "gnp.tril_indices",
         "gnp.triu_indices", "gnp.arange", "gnp.empty", "gnp.empty_like", "gnp.eye", "gnp.identity", "gnp.ones",
         "gnp.tri", "gnp.zeros", "gnp.common_type", "gnp.min_scalar_type",
         "gnp.diag_indices", "gnp.mask_indices", "gnp.diag_indices_from", "gnp.tril_indices_from",
         "gnp.triu_indices_from"),
        NOTHING_TRACED,
    ),
    **dict.fromkeys(("Node.compress", "Node.nonzero"), COMPUTED_AT_ONCE),
    "gnp.from_dlpack": "the array itself",
    "gnp.polyfit": "least squares by singular values have no symbolic derivative",
    "Node.to_device": "the array itself",
    **dict.fromkeys(("Node.item", "Node.sort", "Node.tolist", "gnp.linalg.eig", "gnp.linalg.eigvals"), REFUSED),
    **dict.fromkeys(("nn.init.calculate_gain", "nn.init.deepnorm_scales", "nn.init.fans"), NOTHING_TRACED),
    **dict.fromkeys(
        ("nn.alibi_slopes", "nn.batch_norm_state", "nn.key_value_cache"), NOTHING_TRACED),
    "nn.spectral_norm_state": "a draw that begins a search; tests/test_nn_states.py",
    "Node.rebuilt": "the compiler's, not the user's",
}  # fmt: skip
#: names of the package that are tools around programs, not parts of one
AROUND = {
    "compile": "`check` compiles every program", "explain": "`check` explains programs", "trace": "every program is",
    "check_gradients": "`check` calls it", "spec": "describes arguments", "train_step": "a step of `gc.optim`",
    "assume": "facts for formulas", "optim": "tests/test_optim_peers.py compares steps with optax and PyTorch",
    "numpy": "by its names", "nn": "by its names",
    "random": "by its names", "linalg": "by its names",
    "special": "by its names", "jit": "a form of `control`", "tree": "containers of arrays",
    **dict.fromkeys(("gauss_newton", "fisher", "kfac_factors"), "operators; tests/test_curvature.py"),
    "data": "arrays that never change", "mixed_precision": "changes dtypes on purpose; tests/test_mixed_precision.py",
    "scipy": "works on values, not in programs",
    **dict.fromkeys(("fit", "training"), "trains models; tests/test_fit.py"),
    "landscape": "facts about a loss; tests/test_landscape.py",
    **dict.fromkeys(("diagnose", "forecast", "health"), "facts about a run, a step, a model; tests named like them"),
    "error_bound": "how far rounding moves a program; tests/test_error_bound.py",
    **dict.fromkeys(("load", "load_metadata", "save"), "files of trees; tests/test_storage.py"),
    "trace_nans": "finds a NaN; tests/test_health_faults.py",
    **dict.fromkeys(("sparse", "sparse_hessian", "sparse_jacobian"), "give SciPy's matrices; tests/test_sparse.py"),
    **dict.fromkeys(
        ("custom_linear_solve", "custom_root", "fixed_point", "linear_solve", "minimize", "odeint", "root"),
        "a search ends within a tolerance; its tests compare with SciPy",
    ),
}  # fmt: skip


#: the namespaces whose names programs call, as they are written
SPACES: dict[str, Any] = {
    "gnp": gnp, "gnp.linalg": gnp.linalg, "nn": nn, "nn.init": nn.init, "special": special, "gc.random": gc.random,
}  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One public function: ``path`` as it is written, and its parameters in order."""

    path: str
    parameters: Mapping[str, inspect.Parameter]
    operands: int = 0  #: how many operands an elementwise function takes; 0: `parameters` tells
    domain: tuple[tuple[float, float], ...] = ()  #: where the record of an elementwise function is sampled
    method: bool = False

    @property
    def name(self) -> str:
        return self.path.rsplit(".", 1)[-1]


def _ufunc(name: str) -> tuple[int, tuple[tuple[float, float], ...]]:
    """How many operands the elementwise function ``name`` takes, and the domain of its record."""
    numpy = getattr(np, name, None) or getattr(scipy.special, name, None)
    renamed = {"psi": "digamma", "gammaln": "lgamma", "expit": "sigmoid"}.get(name, name)
    op = OPS.get(getattr(numpy, "__name__", renamed)) or OPS.get(renamed)
    if op is not None and op.kind is Kind.ELEMENTWISE:
        return operand_count(op), op.domain
    return (numpy.nin if isinstance(numpy, np.ufunc) else 1), ((-2.0, 2.0),)


def _entry(path: str, f: Callable[..., Any], method: bool = False) -> Entry:
    parameters = dict(inspect.signature(f).parameters)
    if method:
        parameters.pop("self")
        parameters.pop("out", None)
    if "operands" in parameters and set(parameters) <= {"operands", "dtype", "casting", "kwargs"}:
        count, domain = _ufunc(path.rsplit(".", 1)[-1])
        return Entry(path, {}, count, domain, method)
    parameters = {name: p for name, p in parameters.items() if p.kind is not p.VAR_KEYWORD}
    return Entry(path, parameters, method=method)


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public callable of the namespaces that is not a type, as it is written in a program."""
    own = [name for name in gc.linalg.__all__ if name not in gnp.linalg.__all__]
    for prefix, space, names in [*((p, s, s.__all__) for p, s in SPACES.items()), ("gc.linalg", gc.linalg, own)]:
        for name in names:
            value = getattr(space, name)
            if callable(value) and not isinstance(value, type):
                yield f"{prefix}.{name}", value


def methods() -> Iterator[tuple[str, Callable[..., Any]]]:
    """Every public method of a traced value."""
    for name, value in inspect.getmembers(Node, callable):
        if not name.startswith("_") and not isinstance(value, type):
            yield f"Node.{name}", value


def _entries() -> Iterator[Entry]:
    for path, f in public_functions():
        if path not in LEFT_OUT:
            yield _entry(path, f)
    for path, f in methods():
        if path not in LEFT_OUT:
            yield _entry(path, f, method=True)


ENTRIES: dict[str, Entry] = {e.path: e for e in _entries()}

#: the arithmetic operators of a traced value: special method -> how it is written
OPERATORS: dict[str, str] = {
    "__add__": "{0} + {1}", "__radd__": "{2} + {0}", "__sub__": "{0} - {1}", "__rsub__": "{2} - {0}",
    "__mul__": "{0} * {1}", "__rmul__": "{2} * {0}", "__truediv__": "{0} / {1}", "__rtruediv__": "{2} / {0}",
    "__floordiv__": "{0} // {1}", "__rfloordiv__": "{2} // {0}", "__mod__": "{0} % {1}", "__rmod__": "{2} % {0}",
    "__divmod__": "divmod({0}, {1})[1]", "__rdivmod__": "divmod({2}, {0})[1]",
    "__pow__": "{0} ** {1}", "__rpow__": "{2} ** {0}",
    "__matmul__": "{0} @ {1}", "__rmatmul__": "np.ones({0}.shape[::-1], {0}.dtype) @ {0}", "__neg__": "-{0}",
    "__pos__": "+{0}", "__abs__": "abs({0})", "__invert__": "~({0} > 0)", "__and__": "({0} > 0) & ({1} < 1)",
    "__rand__": "True & ({0} > 0)", "__or__": "({0} > 0) | ({1} < 1)", "__ror__": "True | ({0} > 0)",
    "__xor__": "({0} > 0) ^ ({1} < 1)", "__rxor__": "True ^ ({0} > 0)", "__lshift__": "gnp.astype({0}, int) << 2",
    "__rlshift__": "3 << gnp.clip(gnp.astype({0}, int), 0, 3)", "__rshift__": "gnp.astype({0}, int) >> 1",
    "__rrshift__": "37 >> gnp.clip(gnp.astype({0}, int), 0, 3)", "__eq__": "{0} == {1}", "__ne__": "{0} != {1}",
    "__lt__": "{0} < {1}", "__le__": "{0} <= {1}", "__gt__": "{0} > {1}", "__ge__": "{0} >= {1}",
    "__round__": "round({0}, 1)",
}  # fmt: skip
#: what Python itself asks of an object, and what a traced value refuses
_PROTOCOL = {
    "__len__", "__iter__", "__repr__", "__array_namespace__", "__setitem__", "__delitem__", "__contains__",
    "__array_ufunc__", "__array_function__", "__array__", "__bool__", "__float__", "__int__", "__complex__",
    "__index__", "__format__", "__copy__", "__deepcopy__", "__reduce__", "__getattr__", "__init__", "__hash__",
    "__getitem__", "__setattr__", "__delattr__", "__str__", "__new__",
}  # fmt: skip


def operators_without_a_form() -> list[str]:
    """Special methods that `Node` defines and that no program uses."""
    own = {n for n, v in vars(Node).items() if n.startswith("__") and callable(v)}
    return sorted(own - set(OPERATORS) - _PROTOCOL)


def updates() -> list[str]:
    """The methods of ``x.at[…]``."""
    return [n for n, v in vars(Update).items() if callable(v) and not n.startswith("_")]


def package_names_without_a_form(forms: set[str]) -> list[str]:
    """Public functions of the package that are neither a form nor named in `AROUND`."""
    names = {n for n in gc.__all__ if not isinstance(getattr(gc, n), (type, str))}
    return sorted(names - forms - set(AROUND))
