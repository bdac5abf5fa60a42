"""Debug locations: carried through code generation, in what LLVM wrote, and the way back from there.

Each test reads the `.loc` lines of the assembly, as a debugger would, and asks which graph nodes and source lines an
instruction comes from.
"""

from __future__ import annotations

import inspect
import re
import shutil
import subprocess

import numpy as np
import pytest

import gradc as gc
from gradc.codegen.debug import without_marks
from gradc.ops.control import every_node
from gradc.schedule.origin import Piece

LOC = re.compile(r"\s+\.loc\s+(\d+) (\d+) \d+.*?(?:discriminator (\d+))?(?:\s*#.*)?$")
DIRECTIVE = re.compile(r"\s*(?:\.|#|\.L(?:tmp|func))")


def network(W1, b1, W2, b2, x, y):
    h = np.tanh(x @ W1 + b1)
    z = h @ W2 + b2
    return gc.nn.cross_entropy(z, y)


def rows(x):
    p = np.exp(x - np.max(x, axis=1, keepdims=True))
    s = np.sum(p, axis=1, keepdims=True)
    return np.sum(np.cumsum(p / s, axis=0) ** 2), x.max()


def deep(w, x):
    for _ in range(3):
        x = np.maximum(x @ w, 0.1)
    return x.sum()


def looked_up(table, i, v):
    moved = table.at[i].add(v)
    return np.sort(moved[i] * 2.0), np.concatenate([table, moved]), np.convolve(table, v)


def scanned(x):
    def body(c, row):
        mixed = c * 0.5 + row[::-1]
        return mixed, mixed * row

    c, ys = gc.scan(body, x[0] * 0, x)
    return ys, c.sum()


def nested(w, x):
    def inner(t, v):
        return np.tanh(w @ v) + t

    def outer(v, row):
        v = gc.fori_loop(0, 3, inner, v + row)
        v = gc.cond(v.sum() > 0, lambda v: np.sort(v) - 1.0, lambda v: np.cumsum(v), v)
        return gc.while_loop(lambda v: np.sum(v * v) > 1.0, lambda v: 0.5 * v[::-1], v, max_steps=90), v[0]

    return gc.scan(outer, x[0], x)[0].sum()


F32 = np.float32
NETWORK = (
    gc.spec((64, 32), F32), gc.spec(32, F32), gc.spec((32, 10), F32), gc.spec(10, F32), gc.spec((16, 64), F32),
    gc.spec(16, np.int64),
)  # fmt: skip
SHARED = (
    gc.spec((256, 256), F32), gc.spec(256, F32), gc.spec((256, 10), F32), gc.spec(10, F32), gc.spec((256, 256), F32),
    gc.spec(256, np.int64),
)  # fmt: skip
CASES = {
    "network": (gc.value_and_grad(network, (0, 1, 2, 3)), network, NETWORK),
    "rows": (rows, rows, (gc.spec((7, 33)),)),
    "shared": (gc.value_and_grad(network, (0, 1, 2, 3)), network, SHARED),
    "deep": (gc.value_and_grad(deep), deep, (gc.spec((16, 16)), gc.spec((8, 16)))),
    "scanned": (scanned, scanned, (gc.spec((1000, 100)),)),
    "nested": (gc.value_and_grad(nested), nested, (gc.spec((40, 40)), gc.spec((5, 40)))),
    "looked up": (looked_up, looked_up, (gc.spec(9), gc.spec(4, np.int64), gc.spec(4))),
}


@pytest.fixture(params=CASES, scope="module")
def case(request):
    function, source, specs = CASES[request.param]
    lines, start = inspect.getsourcelines(source)
    threads = 2 if request.param == "shared" else 1
    debug, plain = (gc.compile(function, *specs, debug=debug, threads=threads) for debug in (True, False))
    return debug, plain, range(start, start + len(lines))


def instructions(asm):
    """The lines of assembly that are code, without comments.

    An addition to a register has two forms on x86, one of which spares the flags; LLVM has been seen to take the other
    one where marks stand between.  Both count as the same instruction here.
    """
    lines = [re.sub(r"\s*#.*", "", line) for line in asm.splitlines() if line.strip() and not DIRECTIVE.match(line)]
    return [re.sub(r"leaq\t(-?\d+)\((%\w+)\), \2$", r"addq\t$\1, \2", line) for line in lines]


def located(asm):
    """(line, source line, discriminator) of each line of code below a `.loc`."""
    line, discriminator = 0, 0
    for text in asm.splitlines():
        if found := LOC.match(text):
            line, discriminator = int(found[2]), int(found[3] or 0)
        elif text.strip() and not DIRECTIVE.match(text) and not text.endswith(":"):
            yield text, line, discriminator


def test_locations_change_no_instruction(case):
    debug, plain, _ = case
    assert instructions(debug.asm) == instructions(plain.asm)


def test_without_its_marks_the_text_is_the_same(case):
    debug, plain, _ = case
    code = debug.llvm.split("!llvm.dbg.cu")[0]
    assert "\n".join(map(without_marks, code.splitlines())) + "\n" == plain.llvm


def test_the_results_are_the_same(case):
    debug, plain, _ = case
    rng = np.random.default_rng(0)
    args = [np.asarray(rng.standard_normal(n.shape) * 3, n.dtype) % 4 for n in plain.graph.inputs]
    for a, b in zip(debug.call_flat(args), plain.call_flat(args), strict=True):
        np.testing.assert_array_equal(a, b) if isinstance(a, np.ndarray) else None


def test_every_located_instruction_leads_to_its_source_line(case):
    """The line that LLVM wrote is the line of a node that the discriminator leads to."""
    debug, _, source = case
    node, seen = [*every_node(debug.lowered)], set()
    for text, line, discriminator in located(debug.asm):
        if not discriminator or not line or not debug.locations.pieces(discriminator):
            continue  # of no kernel: where the outer function begins and ends
        if debug.locations.found[discriminator - 1].piece is None:
            continue  # the call of a kernel
        nodes = debug.locations.nodes(discriminator)
        kernels = {kernel for kernel, _ in debug.locations.pieces(discriminator)}
        if all(node[n].op.name == "input" for n in nodes):
            nodes |= {n for kernel in kernels for n in debug.schedule.kernels[kernel].nodes}
        assert line in {node[n].where.line for n in nodes}, text
        assert line in source, text
        seen |= nodes
    computed = {n for kernel in debug.schedule.kernels for n in kernel.nodes}
    assert computed <= seen, "each stored node has instructions"


def test_equal_kernels_stay_one_function_and_stand_for_all(case):
    debug, plain, _ = case
    assert debug.llvm.count("define") == plain.llvm.count("define")
    runs = [kernels for kernels in debug.locations._runs.values() if len(kernels) > 1]
    for kernels in runs:
        name = next(f for f, k in debug.locations._runs.items() if k is kernels)
        for d, location in enumerate(debug.locations.found, 1):
            if location.function == name and location.piece.is_whole:
                assert {k for k, _ in debug.locations.pieces(d)} == {k for k, _ in kernels}


def test_a_shared_kernel_is_among_the_cases():
    debug = gc.compile(*(CASES["deep"][0], *CASES["deep"][2]), debug=True)
    assert any(len(kernels) > 1 for kernels in debug.locations._runs.values())


@pytest.mark.parametrize("part", [{"instruction": 0}, {"slot": 0}, {"instruction": 5}, {"slot": 3}])
def test_the_first_instruction_and_slot_are_parts_of_work_too(part):
    assert Piece().is_whole and Piece(2, inner=0, part=1).is_whole
    assert not Piece(**part).is_whole


def test_a_product_stands_for_the_transpose_that_became_a_stride():
    debug = gc.compile(lambda x, w: x.T @ w, gc.spec((5, 7)), gc.spec((5, 6)), debug=True)
    ops = {n: node.op.name for n, node in enumerate(debug.lowered.nodes)}
    found = set()
    for d, location in enumerate(debug.locations.found, 1):
        if location.function.startswith("product"):
            found |= {ops[n] for n in debug.locations.nodes(d)}
    assert "contract" in found
    assert found <= {"contract", "transpose"}


def test_names_that_need_quoting_do_not_break_the_module(tmp_path):
    folder = tmp_path / 'a "b" \\ ü'
    folder.mkdir()
    file = folder / 'mo"del.py'
    file.write_text("import numpy as np\ndef f(x):\n    return np.tanh(x) * 2\n", encoding="utf-8")
    names = {}
    exec(compile(file.read_text(encoding="utf-8"), str(file), "exec"), names)
    debug = gc.compile(names["f"], gc.spec(8), debug=True)
    assert "mo\\22del.py" in debug.llvm
    assert debug(np.ones(8))[0] == pytest.approx(2 * np.tanh(1))


@pytest.mark.parametrize("suffix", [".ll", ".s", ".o"])
def test_saved_code_carries_the_lines(tmp_path, suffix):
    debug = gc.compile(CASES["rows"][0], *CASES["rows"][2], debug=True)
    path = tmp_path / f"step{suffix}"
    debug.save(path)
    assert b"test_debug_locations.py" in path.read_bytes()


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump to read DWARF line tables")
def test_objdump_shows_the_python_file(tmp_path):
    debug = gc.compile(CASES["rows"][0], *CASES["rows"][2], debug=True)
    debug.save(tmp_path / "step.o")
    out = subprocess.run(["objdump", "-dl", tmp_path / "step.o"], capture_output=True, text=True, check=True).stdout
    _, start = inspect.getsourcelines(rows)
    assert f"test_debug_locations.py:{start + 1}" in out


@pytest.mark.sampled(3)
@pytest.mark.parametrize("triple", ["aarch64-unknown-linux-gnu", "wasm32-unknown-unknown", "x86_64-pc-windows-msvc"])
def test_other_targets_take_debug_locations(tmp_path, triple):
    debug = gc.compile(CASES["rows"][0], *CASES["rows"][2], debug=True)
    debug.save(tmp_path / "step.o", triple)
    assert (tmp_path / "step.o").stat().st_size


def test_a_function_without_kernels_compiles():
    assert gc.compile(lambda x: x * 2, gc.spec(0), debug=True)(np.zeros(0)).shape == (0,)


def test_work_that_threads_share_is_among_the_cases():
    debug = gc.compile(CASES["shared"][0], *SHARED, debug=True, threads=2)
    assert any(any(kernel.splits) for kernel in debug.schedule.kernels)
