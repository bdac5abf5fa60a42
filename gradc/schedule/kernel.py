"""What a schedule is made of: buffers, and kernels of loops over scalar code.

Enters: nothing; these are plain immutable values.  Leaves: the same, to `gradc.codegen`.
Invariant: a kernel knows memory only as *slots* (slot k is the k-th pointer it is given) and elements as offsets in
loop variables, so two kernels of equal text are the same function.  ``origins`` say beside that, outside of what makes
two kernels equal, which graph nodes a piece stands for (`gradc.schedule.origin`).  Start reading at `Nest`.

A `Nest` is loops over ``outer``, with *stages* inside, one after another for each outer index:

    for every index of outer:                 # independent of each other, except in a `sequential` nest
        for every index of stages[0].inner:   # reduce, scan, or just store
            code …
        for every index of stages[1].inner: …

``code`` lists scalar instructions in an order in which each reads earlier ones; an instruction stands in the outermost
loop on which it depends.  ``Total(k, j)`` is the result of reduction j of stage k.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from gradc.aval import Shape
from gradc.ops.record import Op
from gradc.schedule.affine import Affine, Var
from gradc.schedule.bodies import Call, Choice, Repeat
from gradc.schedule.factor import Factor
from gradc.schedule.touch import Touch, Touching

# -- buffers -----------------------------------------------------------------------------------------------------------


class Place(enum.Enum):
    """Where a buffer's memory comes from."""

    INPUT = "input"  #: an argument, by position
    HIDDEN = "hidden"  #: a captured constant, by position behind the inputs
    OUTPUT = "output"  #: a result, by position
    ARENA = "arena"  #: scratch, by byte offset


@dataclass(frozen=True, slots=True)
class Buffer:
    """A contiguous row-major array.  ``at`` is a position among inputs, hidden arrays or outputs, or a byte offset.

    It holds the value of ``node`` (a position in `Graph.nodes`), or nothing that has a node (-1).
    """

    number: int
    place: Place
    dtype: str
    shape: Shape
    node: int
    at: int = 0

    @property
    def size(self) -> int:
        total = 1
        for n in self.shape:
            total *= n
        return total

    def __str__(self) -> str:
        return f"b{self.number}"


# -- scalar code -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """A scalar literal; ``bits`` tells −0 from 0 and one NaN from another."""

    value: bool | int | float
    dtype: str
    bits: bytes

    def __str__(self) -> str:
        return f"{self.value!r}"


@dataclass(frozen=True, slots=True)
class Index:
    """A form of loop variables, as a number."""

    value: Affine
    dtype: str

    def __str__(self) -> str:
        return f"{self.value}"


@dataclass(frozen=True, slots=True)
class Load:
    """The element of a slot at ``offset`` elements; the one ``ahead`` elements behind it will be read soon."""

    slot: int
    offset: Affine
    dtype: str
    ahead: int = 0

    def __str__(self) -> str:
        return f"s{self.slot}[{self.offset}]" + (f", {self.ahead} ahead" if self.ahead else "")


@dataclass(frozen=True, slots=True)
class Bounded:
    """Instruction ``value`` as an index into ``extent`` elements: negatives wrap, others out of range are 0.

    An index out of range is also reported, as a failure of ``node``.
    """

    value: int
    extent: int
    node: int

    @property
    def dtype(self) -> str:
        return "int64"

    def __str__(self) -> str:
        return f"index(%{self.value} of {self.extent})"


@dataclass(frozen=True, slots=True)
class Term:
    """A computed index: instruction ``value``, a `Bounded` one, moves ``stride`` elements."""

    value: int
    stride: int


@dataclass(frozen=True, slots=True)
class Lookup:
    """The element of a slot at ``offset`` plus computed indices; 0 if the slot is ``empty``."""

    slot: int
    offset: Affine
    terms: tuple[Term, ...]
    dtype: str
    empty: bool = False

    def __str__(self) -> str:
        return f"s{self.slot}[{self.offset}{_terms(self.terms)}]"


@dataclass(frozen=True, slots=True)
class Apply:
    """An elementwise op on earlier instructions; ``node`` is said only of an op that can fail."""

    op: Op
    args: tuple[int, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: str
    node: int

    def __str__(self) -> str:
        attrs = [f"{k}={v}" for k, v in self.attrs]
        return f"{self.op.name}({', '.join([*(f'%{a}' for a in self.args), *attrs])})"


@dataclass(frozen=True, slots=True)
class Total:
    """The result of a reduction: number ``which`` of those made in a stage."""

    stage: int
    which: int
    dtype: str

    def __str__(self) -> str:
        return f"total {self.which} of stage {self.stage}"


@dataclass(frozen=True, slots=True)
class Carry:
    """Value number ``which`` that a `Recur` hands from step to step."""

    which: int
    dtype: str

    def __str__(self) -> str:
        return f"carried {self.which}"


Instruction = Constant | Index | Load | Bounded | Lookup | Apply | Total | Carry


def _terms(terms: tuple[Term, ...]) -> str:
    return "".join(f" + {t.stride}*%{t.value}" for t in terms)


def operands(instruction: Instruction) -> tuple[int, ...]:
    """The earlier instructions that one reads."""
    if isinstance(instruction, Apply):
        return instruction.args
    if isinstance(instruction, Bounded):
        return (instruction.value,)
    if isinstance(instruction, Lookup):
        return tuple(t.value for t in instruction.terms)
    return ()


def form(instruction: Instruction) -> Affine | None:
    """The form of loop variables in an instruction, if it has one."""
    if isinstance(instruction, Load | Lookup):
        return instruction.offset
    return instruction.value if isinstance(instruction, Index) else None


@dataclass(frozen=True, slots=True)
class Store:
    """Write instruction ``value`` at ``offset`` (plus computed indices); ``how`` combines it with what is there."""

    slot: int
    offset: Affine
    value: int
    dtype: str
    how: str = "set"  #: set, add, max, min
    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        sign = {"set": "=", "add": "+="}.get(self.how, f"{self.how}=")
        return f"s{self.slot}[{self.offset}{_terms(self.terms)}] {sign} %{self.value}"


# -- loops -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reduce:
    """Combine instruction ``value`` over the stage's loops into one result of ``dtype``."""

    op: Op
    value: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Scan:
    """Store the running combination of instruction ``value``, one step after another, at ``store.offset``."""

    op: Op
    value: int
    store: Store


@dataclass(frozen=True, slots=True)
class Recur:
    """Values that stay in registers while a stage walks its one inner loop: `Carry` k starts as instruction
    ``starts[k]`` and goes on as ``nexts[k]``; ``ends`` store the last ones, each the `Carry` that is its value.

    The loop runs while instruction ``again`` holds, if there is one, and as long as it has steps.
    """

    starts: tuple[int, ...]
    nexts: tuple[int, ...]
    ends: tuple[Store, ...]
    again: int | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """Loops over ``inner`` with what is done in each step: reductions, a scan along the last variable, plain stores.

    The steps of a stage that is ``recur``rent are taken in order, each from the values of the one before.
    """

    inner: tuple[Var, ...] = ()
    reduces: tuple[Reduce, ...] = ()
    scan: Scan | None = None
    stores: tuple[Store, ...] = ()
    recur: Recur | None = None


@dataclass(frozen=True, slots=True)
class Nest(Touching):
    """Loops; see the file head.  ``lane`` is the variable that runs through the lanes of a vector, ``lanes`` at a time.

    It is one of ``outer``, and then the last of them; or the last of every stage's ``inner``; or None.
    ``origins`` are, for each instruction of ``code``, the positions of the graph nodes whose value it holds.
    """

    outer: tuple[Var, ...]
    code: tuple[Instruction, ...]
    stages: tuple[Stage, ...]
    lane: Var | None = None
    lanes: int = 1
    sequential: bool = False
    packs: tuple[tuple[int, ...], ...] = ()  #: instructions computed side by side, see `gradc.schedule.pack`
    origins: tuple[frozenset[int], ...] = field(default=(), compare=False, repr=False)

    @property
    def touch(self) -> Touch:
        return Touch(steps=self)

    @property
    def loaded(self) -> set[int]:
        """The slots that are read; what combines with what is there reads it."""
        combined = {s.slot for s in self.stores if s.how != "set"}
        return {x.slot for x in self.code if isinstance(x, Load | Lookup)} | combined

    @property
    def stored(self) -> set[int]:
        """The slots that are written."""
        return {s.slot for s in self.stores}

    @property
    def across(self) -> bool:
        """Whether the lanes run along an outer axis."""
        return self.lane is not None and any(self.lane == v for v in self.outer)

    @property
    def stores(self) -> Iterator[Store]:
        for stage in self.stages:
            yield from stage.stores
            if stage.scan is not None:
                yield stage.scan.store
            if stage.recur is not None:
                yield from stage.recur.ends

    def totals(self, stage: Stage) -> dict[int, int]:
        """The instructions that hold a result of ``stage``, each with the number of its reduction."""
        number = self.stages.index(stage)
        return {k: x.which for k, x in enumerate(self.code) if isinstance(x, Total) and x.stage == number}

    def needed(self, stage: Stage) -> list[int]:
        """The instructions on which a stage's results depend, in order."""
        pending = [s.value for s in stage.stores] + [r.value for r in stage.reduces]
        pending += [t.value for s in stage.stores for t in s.terms]
        if stage.scan is not None:
            pending.append(stage.scan.value)
        if stage.recur is not None:
            again = stage.recur.again
            pending += [*stage.recur.starts, *stage.recur.nexts, *([] if again is None else [again])]
        return self.behind(pending)

    def behind(self, instructions: Sequence[int]) -> list[int]:
        """``instructions`` and all that they are computed from, in order."""
        found = set(instructions)
        for k in range(len(self.code) - 1, -1, -1):  # operands stand before those that read them
            if k in found:
                found.update(operands(self.code[k]))
        return sorted(found)

    @property
    def variables(self) -> Iterator[Var]:
        yield from self.outer
        for stage in self.stages:
            yield from stage.inner


@dataclass(frozen=True, slots=True)
class View:
    """A strided operand of a product: slot, first element, element strides, and what an element is in memory."""

    slot: int
    offset: int
    strides: tuple[int, int]  #: rows, columns
    batch: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Epilogue:
    """What is done with each element of a product while it is near: ``nest`` without its loops.

    The product's element is ``Total(0, 0)``.  ``batch``, ``row`` and ``column`` are the variables of its place, None
    where there is only one; the lanes run along the columns.  Store number ``result`` of the nest is the product's own
    output; -1: the output is the product itself.
    """

    nest: Nest
    batch: Var | None
    row: Var | None
    column: Var
    result: int


@dataclass(frozen=True, slots=True)
class Product(Touching):
    """out[i, j] = Σₖ left[i, k] · right[k, j] for every batch index, or what the epilogue makes of it.

    Sums are of ``dtype``, as is the output; operands of a float32 product may lie in memory as narrow floats.  If
    ``half``, nobody reads what is below the diagonal, j < i, and it need not be computed; then there is no epilogue.
    ``origins`` are the graph positions of the contraction and of the views of its operands that became strides.
    """

    m: int
    n: int
    k: int
    batch: tuple[int, ...]
    dtype: str
    left: View
    right: View
    out: View
    epilogue: Epilogue | None = None
    half: bool = False
    origins: frozenset[int] = field(default=frozenset(), compare=False, repr=False)

    @property
    def touch(self) -> Touch:
        after = self.epilogue.nest if self.epilogue is not None else None
        return Touch(frozenset((self.left.slot, self.right.slot)), frozenset((self.out.slot,)), after)


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis of a correlation: how far one step along it goes in each array, in elements; 0: the array lacks it."""

    extent: int
    left: int
    right: int
    out: int


@dataclass(frozen=True, slots=True)
class Corner:
    """Where an array of a correlation begins: slot and first element; what its elements are in memory."""

    slot: int
    offset: int
    dtype: str


@dataclass(frozen=True, slots=True)
class Correlation(Touching):
    """out = Σ left · right over the ``summed`` axes, for every index of the ``kept`` ones, outermost first.

    What a product becomes where no single stride walks through the axes of an operand because it shows sliding windows
    of the array in memory.  ``origins`` are those of a `Product`.
    """

    kept: tuple[Axis, ...]
    summed: tuple[Axis, ...]
    dtype: str
    left: Corner
    right: Corner
    out: Corner
    origins: frozenset[int] = field(default=frozenset(), compare=False, repr=False)

    @property
    def touch(self) -> Touch:
        return Touch(frozenset((self.left.slot, self.right.slot)), frozenset((self.out.slot,)))

    @property
    def macs(self) -> int:
        """Multiplications, each with an addition."""
        return math.prod(x.extent for x in (*self.kept, *self.summed))


@dataclass(frozen=True, slots=True)
class Sort(Touching):
    """Stable argsort of every row of ``source``; row r starts at ``starts`` and steps by ``step`` elements."""

    source: int
    out: int
    scratch: int
    dtype: str
    rows: tuple[tuple[int, int], ...]  #: (extent, stride) of each axis that is not sorted
    length: int
    step: int

    @property
    def touch(self) -> Touch:
        return Touch(frozenset((self.source, self.scratch)), frozenset((self.out, self.scratch)))


@dataclass(frozen=True, slots=True)
class Search(Touching):
    """Where each value belongs in the sorted row of its batch index."""

    table: int
    values: int
    out: int
    dtype: str
    rows: int
    length: int
    per_row: int
    side: str

    @property
    def touch(self) -> Touch:
        return Touch(frozenset((self.table, self.values)), frozenset((self.out,)))


Work = Nest | Product | Correlation | Sort | Search | Factor | Repeat | Choice | Call


@dataclass(frozen=True, slots=True)
class Split:
    """Work cut into pieces that several threads do at once, in any order, and always with the same bits.

    ``axis`` is the loop that is cut into ``extent`` steps, ``steps`` of them in each piece (fewer in the last); where
    loops have no variables it is None: rows of sorts and searches, matrices.  Each thread has its own copy of the
    slots in ``private``: (slot, elements of a copy, dtype).  ``threads``: how many are worth calling.
    """

    axis: Var | None
    extent: int
    steps: int
    threads: int
    private: tuple[tuple[int, int, str], ...] = ()

    @property
    def pieces(self) -> int:
        return -(-self.extent // self.steps)

    def __str__(self) -> str:
        what = "rows" if self.axis is None else self.axis
        return f"{what} in {self.pieces} pieces of {self.steps} by {self.threads} threads"


@dataclass(frozen=True, slots=True)
class Staged:
    """The stages of a nest of few, long rows cut one after another: in each row, each stage has its own pieces.

    A reduction is cut at the ends of its blocks, into about as many pieces as its split has.
    """

    stages: tuple[Split | None, ...]

    def __str__(self) -> str:
        return "; ".join(f"stage {k}: {split}" for k, split in enumerate(self.stages) if split is not None)


@dataclass(frozen=True, slots=True)
class Tiled:
    """A product or correlation cut into about so many ``pieces``: matrices of a batch, or blocks of its result.

    Which, is up to the plan of the product, of which a schedule knows nothing.
    """

    pieces: int
    threads: int

    def __str__(self) -> str:
        return f"about {self.pieces} blocks by {self.threads} threads"


Share = Split | Staged | Tiled


@dataclass(frozen=True, slots=True)
class Kernel:
    """One function: pieces of ``work`` done in order.  Slot k is buffer ``slots[k]``.

    ``reads`` and ``writes`` are slots; a slot in neither is scratch of the kernel's own.  ``nodes`` are the graph
    positions whose values it stores.  ``splits`` says for each piece of work how threads share it; None, or nothing at
    all: they do not.
    """

    slots: tuple[int, ...]
    dtypes: tuple[str, ...]
    work: tuple[Work, ...]
    reads: tuple[int, ...]
    writes: tuple[int, ...]
    nodes: tuple[int, ...]
    flops: int = 0
    bytes: int = 0
    splits: tuple[Share | None, ...] = ()

    @property
    def parts(self) -> Iterator[tuple[Work, Share | None]]:
        """Each piece of work with the way it is shared."""
        return zip(self.work, self.splits or (None,) * len(self.work), strict=True)

    @property
    def title(self) -> str:
        """What kind of work it is, in a word; loops around a product are named with it if they come after."""
        heads = [_title(w) for w in self.work]
        main = max((k for k, w in enumerate(self.work) if not isinstance(w, Nest)), default=None)
        if main is None:
            return heads[-1] if heads else "nothing"
        return "+".join(dict.fromkeys((heads[main], *heads[main + 1 :])))


def _title(work: Work) -> str:
    if isinstance(work, Nest):
        actions = [r.op.name for s in work.stages for r in s.reduces]
        actions += [s.scan.op.name for s in work.stages if s.scan is not None]
        actions += ["loop" for s in work.stages if s.recur is not None]
        return "+".join(dict.fromkeys(actions)) if actions else "scatter" if work.sequential else "map"
    if isinstance(work, Product) and work.epilogue is not None:
        return "product+map"
    names: dict[type, str] = {Repeat: "loop", Choice: "branch", Call: "function"}
    return names.get(type(work), type(work).__name__.lower())
