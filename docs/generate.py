"""Write the generated pages of docs/: ``python docs/generate.py`` (or ``make docs``).

``names.md`` lists the public names, ``rooms.svg`` draws who imports whom.
``ops.md`` is the registry as tables, ``tour.md`` one function at every stage, ``gallery.md`` derivatives as they print,
``textbook.md`` 115 items of the textbook with programs.
`tests/test_docs.py` regenerates them and compares, so none can drift.  The tour compiles for one fixed CPU (x86-64-v3),
so that it reads the same everywhere.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from html import escape
from pathlib import Path

import numpy as np

import gradc as gc
from gradc.codegen.target import Target
from gradc.explain.page import Page
from gradc.explain.text import TextPrinter
from gradc.machines.foreign import ForeignCpu
from gradc.machines.machine import SYMBOL
from gradc.machines.options import Options
from gradc.machines.stages import Stages
from gradc.methods import WITHOUT_MEMORY
from gradc.node import FUNCTIONS, OPS
from gradc.numpy.public import CONVENTIONS
from gradc.ops import Kind, Op
from gradc.refusals import ON_PURPOSE

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))  # for examples.gallery, which is no part of the package

from docs.drawing import rooms_map  # noqa: E402
from docs.namespaces import NAMESPACES  # noqa: E402
from docs.textbook import textbook_page  # noqa: E402
from docs.updates import updates_page  # noqa: E402
from examples.gallery import GALLERY  # noqa: E402
from examples.gallery.row import Row  # noqa: E402

#: every name a NumPy user may expect of the first release, by family; `ops.md` says which are missing
EXPECTED = {
    "elementwise": """
        add subtract multiply divide floor_divide remainder negative positive absolute sign sqrt rsqrt cbrt square
        reciprocal power exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos arctan arctan2 sinh cosh tanh
        arcsinh arccosh arctanh sigmoid softplus relu erf erfc lgamma digamma maximum minimum where equal not_equal
        less less_equal greater greater_equal logical_and logical_or logical_xor logical_not bitwise_and bitwise_or
        bitwise_xor bitwise_invert bitwise_left_shift bitwise_right_shift floor ceil trunc round isnan isinf
        isfinite hypot logaddexp clip astype""",
    "views": """
        broadcast_to reshape transpose permute_dims moveaxis swapaxes expand_dims squeeze flip roll pad concatenate
        stack split tile repeat diagonal tril triu sliding_window_view""",
    "reductions": "sum mean prod max min var std argmax argmin any all logsumexp linalg.norm cumsum cumprod",
    "contraction": "einsum matmul dot vdot inner outer tensordot trace kron",
    "indexing": "getitem at take take_along_axis nn.one_hot sort argsort searchsorted",
    "creation": "zeros ones full arange linspace eye zeros_like ones_like full_like",
    "composites": "nn.softmax nn.log_softmax nn.gelu nn.silu nn.cross_entropy nn.binary_cross_entropy",
    "later": """
        complex linalg.solve""",
}


def missing() -> dict[str, list[str]]:
    """Expected names that do not exist, by family."""
    known = set(FUNCTIONS) | {name.rpartition(".")[2] for name in FUNCTIONS}
    gone = {family: [n for n in names.split() if n not in known] for family, names in EXPECTED.items()}
    return {family: names for family, names in gone.items() if names}


def rule_of(op: Op) -> str:
    """Which facet makes the op differentiable."""
    for facet in ("partials", "transpose", "jvp"):
        if getattr(op, facet) is not None:
            return facet
    return "by kind" if op.differentiable else "locally constant"


def code_of(op: Op) -> str:
    """How the op reaches machine code."""
    if op.expand is not None:
        return "as other ops"
    return "per element" if op.kind is Kind.ELEMENTWISE else "by kind"


#: what conversions and arithmetic mean where NumPy leaves it to the machine, or says it in a warning
NUMBERS = """\
## One meaning for every number

Interpreter, constant folding and compiled code, on CPUs and GPUs, give the same answers; `tests/test_conversions.py`
asks all of them at the ends of every range.

- **Float to integer** truncates towards zero. A number beyond the range becomes the nearest end of it, so +∞ becomes
  the largest integer and −1.0 becomes 0 as `uint8`; NaN becomes 0. (NumPy leaves these to the machine: it may wrap.)
- **Integer to integer** keeps the low bits, as in NumPy; **to bool** is `x != 0`, so NaN is True.
- **Float to a narrower float** rounds to nearest, ties to even, once.
- **Integer arithmetic** wraps. `x // 0` and `x % 0` are 0; a shift by the width or more leaves 0 (−1 of a negative
  number shifted right); an integer to a negative integer power is an error.
- **Python numbers** take the dtype of the array they meet (NEP 50). One that does not fit into it is a `DTypeError`, in
  `x + 300` as in `x.at[i].set(300)`; a Python integer may be written into unsigned arrays, any number into bool ones.
- **Indices** may be of any integer dtype; an unsigned one beyond 2⁶³ is out of range, never negative.
- **`np.errstate`, `np.seterr`** are not heeded: nothing here warns or raises of overflow, division by zero or invalid
  operations; results are IEEE's infinities and NaNs.
- **`x.at[i].add`, `.multiply`, `.power` …** with an index that names a position several times update it several times,
  one after another, as `np.add.at` does; `.set` keeps the last.

## The array API

`gradc.numpy` follows the array API's standard 2025.12 but for complex numbers. Of its test suite (data-apis'
array-api-tests at 55fcc60, outside a trace, complex dtypes left out) 1180 tests of 1384 pass and 36 skip themselves.
Of the 168 others 145 ask for complex numbers or for the optional extension `fft`; 20 get NumPy's own answer where the
standard wants another (`x // ±∞`, the parameter names of `clip`, the class of `finfo(float32).eps`); 3 write into a
result without axes, which is a NumPy scalar here.

## What a trace keeps

A function is run once on traced values, and what it did with them is the graph. Whatever else it computed on the way is
a constant of the graph, the same at every call:

- numbers from `np.random` and `random` (a `gc.FrozenWarning` says so once for a function; generators of one's own, such
  as `np.random.default_rng()`, are not watched), times from the clock, contents of files and of global arrays. What
  changes from call to call belongs into the arguments.
- A traced value has shape, dtype and NumPy's methods, but it is no `np.ndarray`: `isinstance(x, np.ndarray)` is False,
  as is any test of its class. Ask `isinstance(x, gc.Node)`, or for `x.shape`.
- What `gradc.numpy` computes inside a trace of known values alone (`gradc.numpy.zeros(3)`) is a NumPy array that has
  `.at` and takes traced indices; shapes, loops and branches may depend on it.
"""


def ops_page() -> str:
    for name in gc.__all__:  # namespaces register their functions when they are first asked for
        getattr(gc, name)
    parts = [
        "# Ops\n",
        "Generated from the registry by `make docs`; a test holds this page against it. Every op here traces,",
        "differentiates (unless it is locally constant), batches and compiles for the CPU. `gradc.numpy`,",
        f"`gradc.nn` and `gradc.special` write some {len(FUNCTIONS) - len(OPS)} more functions in these {len(OPS)}.\n",
        "## What is not there yet\n",
        *(f"- {family}: {', '.join(f'`{n}`' for n in names)}" for family, names in missing().items()),
        "",
        NUMBERS,
        *conventions(),
        "",
    ]
    for kind in Kind:
        members = [op for op in OPS.values() if op.kind is kind]
        if members:
            parts += [f"## {kind.value} ({len(members)})\n", *_table(members), ""]
    return "\n".join(parts)


def conventions() -> list[str]:
    """What the derivative is where mathematics gives none: one table, of ops and of what is composed of them."""
    words = {name: op.singular for name, op in OPS.items() if op.singular} | CONVENTIONS
    return [
        "## Derivatives at singular points\n",
        "Distances and norms have the derivative 0 where they are 0; a tie of `max`, `min`, `maximum`, `minimum` and",
        "`clip` is shared evenly; an activation has at a kink the slope of the side that is not the identity, as in",
        "PyTorch: 0 for `relu`, `relu6` and `hardtanh`, the negative slope for `leaky_relu`. Where the tangent is",
        "vertical it is ±∞, at a minus zero with the sign of the zero in some. Outside the domain the value is NaN,",
        "and the derivative is that of the formula. A NaN that is taken comes out of it. At an infinity it is the",
        "limit, where there is one. `explain` names what a derivation relies on; `tests/test_ops.py` and",
        "`tests/test_special_points.py` visit all of this table.\n",
        "| function | derivative at singular points |",
        "| --- | --- |",
        *(f"| `{name}` | {said} |" for name, said in sorted(words.items())),
    ]


def _table(ops: Iterable[Op]) -> list[str]:
    rows = ["| op | derivative | at singular points | SymPy meaning | code | what |", "|" + " --- |" * 6]
    for op in sorted(ops, key=lambda o: o.name):
        sympy = "yes" if op.sympy or op.source else "—"
        rows.append(
            f"| `{op.name}` | {rule_of(op)} | {op.singular or '—'} | {sympy} | {code_of(op)} | {op.doc or '—'} |"
        )
    return rows


# -- the tour --------------------------------------------------------------------------------------------------------


def bump(x):
    e = np.exp(-(x**2) / 2)
    return np.sum(x * e)


SOURCE = """\
def bump(x):
    e = np.exp(-(x**2) / 2)
    return np.sum(x * e)
"""


def block(text: str, language: str = "", most: int = 60) -> str:
    """A fenced block, cut after ``most`` lines with a count of what is left."""
    lines = text.rstrip().split("\n")
    rest = [f"… {len(lines) - most} more lines"] if len(lines) > most else []
    return "\n".join([f"```{language}", *lines[:most], *rest, "```"])


def tour_page() -> str:
    x = gc.spec((1000,))
    primal = gc.trace(bump, x)
    both = gc.trace(gc.value_and_grad(bump), x)
    cpu = ForeignCpu(Target.of("x86_64-unknown-linux-gnu", "x86-64-v3"), SYMBOL)
    stages = Stages(both, Options(), cpu)
    optimised = stages.optimised
    report = str(gc.check_gradients(bump, np.linspace(-2, 2, 9)))
    sections = (
        ("A function", "Ordinary NumPy.", block(SOURCE, "python")),
        ("trace: the graph", "`print(gc.trace(bump, x))`, where `x = gc.spec((1000,))`.", block(_clean(primal))),
        ("explain: the gradient as a formula", "`print(gc.explain(bump, x))`", block(_clean(gc.explain(bump, x)))),
        (
            "explain, one operation at a time",
            '`print(gc.explain(bump, x, trace="reverse"))`: the adjoint of each value, and its number where it is one; '
            '`trace="forward"` has tangents.  On the command line `gradc explain FILE:FUNC --trace reverse`.',
            block(_clean(gc.explain(bump, x, trace="reverse"))),
        ),
        ("differentiate: one graph", "`print(gc.trace(gc.value_and_grad(bump), x))`", block(_clean(both))),
        ("optimise", "Fold, simplify, merge equal work, stabilise, drop what is dead.", block(_clean(optimised))),
        ("prove", "`print(gc.check_gradients(bump, values))` ends with:", block(report.splitlines()[-1])),
        ("schedule: kernels and memory", "`.schedule` of the compiled function.", block(_clean(stages.schedule))),
        ("emit: LLVM IR", "`.llvm`; here for x86-64-v3.", block(stages.text("llvm"), "llvm")),
        ("load: assembly", "`.asm`: the loop.", block(_kernel(stages.asm), "asm")),
    )
    head = ["# One function at every stage\n", "Generated by `make docs`: every block below is output.\n"]
    return "\n".join(head + [f"## {title}\n\n{words}\n\n{body}\n" for title, words, body in sections])


def _clean(value: object) -> str:
    """Text without line numbers of this file, which mean nothing to a reader of the page."""
    import re

    return textwrap.dedent(re.sub(r" *# generate\.py:\d+", "", re.sub(r"generate\.py:\d+", "model.py", str(value))))


def _kernel(assembly: str) -> str:
    """The loop of the assembly: from the first label of a body on."""
    lines = [line for line in assembly.splitlines() if not line.lstrip().startswith((".cfi", "#", ".p2align"))]
    start = next((i for i, line in enumerate(lines) if line.startswith(".LBB")), 0)
    return "\n".join(lines[start:])


# -- the gallery -----------------------------------------------------------------------------------------------------


def gallery_page() -> str:
    parts = [
        "# Gallery\n",
        "Functions and their derivatives as `gc.explain` prints them. Generated by `make docs` from",
        "[examples/gallery](../examples/gallery); `tests/test_gallery.py` holds each derivative against the text",
        "beside its function, and against symbolic, forward, reverse, finite-difference and compiled derivatives.\n",
        "∂L/∂x is the gradient of a scalar L; of an array Z with cotangent G, ∂x is the cotangent of x. A vector is a",
        "column; a matrix times or plus a vector scales or shifts each row; Σᵢ and meanᵢ run over the rows of a",
        "matrix, Σⱼ, meanⱼ and varⱼ along each row, and lie where the rows were: in A ⊘ Σⱼ A each row has its sum;",
        "u𝟏ᵀ repeats a column, 𝟏vᵀ a row; 𝟏𝟏ᵀ is all ones; n is the number of averaged elements.",
        "corr(A, B) is Σₖ A[i + k]B[k], flip is backwards along each axis.",
        "∂p/∂z is a Jacobian, ∂²L/∂w² a Hessian (of two arguments each mixed block stands once), ∂²L/∂w²·v its product",
        "with a direction v; A ⊗ B has the element A[i, k]·B[j, l] at (i, j, k, l).\n",
    ]
    for title, rows in GALLERY.items():
        parts += [f"## {title}\n", *HEAD, *map(_gallery_row, rows), ""]
    return "\n".join(parts)


HEAD = ("| function | as a formula | derivative |", "| --- | --- | --- |")


def _gallery_row(row: Row) -> str:
    derivation = row.explained(*row.arrays(np.random.default_rng(0)))
    page = Page(TextPrinter())
    name = row.name.replace("_", " ") + (f" ({row.about})" if row.about else "")
    return f"| {name} | {_cell(page.forward(derivation))} | {_cell(page.derivative(derivation))} |"


#: what would end a cell of a table, begin a link, or be eaten
ESCAPES = {"|": "&#124;", "](": "&#93;(", "  ": "&nbsp; "}


def _cell(lines: list[str]) -> str:
    """Lines of code in one cell of a table."""
    shown = []
    for line in map(escape, lines):
        for sign, plain in ESCAPES.items():
            line = line.replace(sign, plain)
        shown.append(f"<code>{line}</code>")
    return "<br>".join(shown)


def names_page() -> str:
    """The public names of each module, with the first sentence of what `help` says of them."""
    text = [
        "# Names\n",
        "Generated by `make docs`: what each public module holds. `help(gc.jit)` says the rest: arguments,",
        "shapes, errors, sources. NumPy's functions are called as `np.` as always; [ops.md](ops.md) has their ops.\n",
    ]
    for title, module in NAMESPACES.items():
        title = title.replace("gradc", "gc", 1)
        text += [f"## {title}\n", "| name | what |", "| --- | --- |"]
        for name in sorted(module.__all__, key=lambda n: (n[0].isupper(), n)):
            if callable(value := getattr(module, name)):
                words = _in_cell((value.__doc__ or "").strip().partition("\n\n")[0])
                text.append(f"| `{name}` | {words} |")
        text.append("")
    return "\n".join([*text, *refusals()])


def refusals() -> list[str]:
    """What of NumPy is refused on purpose, with the reason and what to write instead."""
    rows = [f"| `np.{name}` | {why} | {_in_cell(remedy)} |" for name, (why, remedy) in sorted(ON_PURPOSE.items())]
    memory = sorted(WITHOUT_MEMORY.items())
    rows += [f"| `.{name}` | a traced array has no memory | {_in_cell(remedy)} |" for name, remedy in memory]
    return [
        "## Refused on purpose\n",
        "Every other public function of NumPy that takes arrays, and every method and attribute of an array, works",
        "on traced values; `tests/test_refusals.py` walks them. These do not, and their errors say what this table",
        "says. Where the length of a result depends on values, `gradc.numpy`'s function takes `size=`, the length to",
        "make, and `fill_value=`: `nonzero`, `flatnonzero`, `argwhere`, `where(mask)`, `compress`, `extract`,",
        "`unique` and `union1d` and their kin; `bincount` takes `length=`.\n",
        "Python's own `max`, `min`, `sorted`, `any`, `all`, `in`, `math.…`, `round(x)` and formats as in `f'{x:.3f}'`",
        "ask for numbers, which a traced value does not have: the error names NumPy's function. `f'{x}'` shows its",
        "dtype.\n",
        "| name | reason | instead |", "| --- | --- | --- |", *rows, "",
    ]  # fmt: skip


def _in_cell(text: str) -> str:
    return " ".join(text.split()).replace("``", "`").replace("|", "&#124;")


PAGES = {
    "names.md": names_page,
    "ops.md": ops_page,
    "tour.md": tour_page,
    "gallery.md": gallery_page,
    "textbook.md": textbook_page,
    "update-rules.md": updates_page,
    "rooms.svg": rooms_map,
}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")


if __name__ == "__main__":
    main()
