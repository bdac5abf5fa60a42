"""What a machine says on the road from a graph to a call.

Enters: nothing; these are the types that `gradc.machines.stages` and the machines share.  Start reading at `Machine`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gradc.codegen.debug import Locations
from gradc.errors import CompileError
from gradc.graph import Graph
from gradc.machines.options import Options
from gradc.runtime.entry import Words
from gradc.schedule.lanes import Widths
from gradc.schedule.plan import Schedule

if TYPE_CHECKING:
    from gradc.machines.stages import Stages

#: the name of a compiled function in its module, unless somebody asks for another
SYMBOL = "gradc_step"
#: What LLVM takes for a question where a CPU or a feature should stand.
_QUESTIONS = ("help", "cpuhelp")


@dataclass(frozen=True)
class Code:
    """What is emitted for a schedule.

    ``text`` is a module of LLVM IR, or whatever the machine's assembler takes; ``symbol`` names its function;
    ``arena_bytes`` are the scratch of one running call.
    """

    text: str
    symbol: str
    arena_bytes: int


class Function(Protocol):
    """Loaded code, called with flat arrays in the memory of its machine."""

    @property
    def entry(self) -> Callable[..., Sequence[Any]]:
        """The callable to keep for the shortest way in; it takes the arrays alone."""
        return self.__call__

    @property
    def words(self) -> Words | None:
        """The record by which compiled code takes calls from Python (`gradc.runtime.dispatch`), if there is one."""
        return None

    def __call__(self, *leaves: Any, out: Sequence[Any] | None = None) -> Sequence[Any]:
        """Run; ``out`` has for each output an array to fill, or None."""

    def bind(
        self, *leaves: Any, out: Sequence[Any] | None = None, nest: Callable[[Sequence[Any]], Any] = tuple
    ) -> Callable[[], Any]:
        """Fix the arrays once: a callable that runs on them and returns the results, each time those same ones, as
        ``nest`` nests them.
        """

    def put(self, x: Any) -> Any:
        """A copy of a host array in the memory of the machine."""


@dataclass(frozen=True)
class Compiled:
    """A graph compiled for a machine: its function, and what one call costs.

    ``runs`` says what a call consists of, "3 kernels"; ``seconds`` are those of the phases of the machine's own
    compiler; ``facts`` are what it says beside in `Executable.stats`.
    """

    function: Function
    kernels: int
    flops: int
    bytes: int
    arena_bytes: int
    notes: tuple[str, ...]
    runs: str
    cached: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, stages: Stages, function: Function, runs: str, **more: Any) -> Compiled:
        """What the schedule says of a call of ``function``."""
        plan, arena, notes = stages.schedule, stages.code.arena_bytes, stages.lowered.notes
        return cls(function, len(plan.kernels), plan.flops, plan.bytes, arena, notes, runs, **more)


@dataclass(frozen=True)
class Destination:
    """For whom a file is written: a target by LLVM's names (default: this machine), and the name that is exported.

    Raises CompileError for what can be no such name.  LLVM does not look: it reads up to a zero byte, fails an
    assertion of its own where a feature has no sign, and takes "help" for a question.
    """

    triple: str | None = None
    cpu: str = ""
    features: str = ""
    name: str = SYMBOL

    def __post_init__(self) -> None:
        for what in ("triple", "cpu", "features", "name"):
            text = getattr(self, what)
            if not isinstance(text, str) and not (what == "triple" and text is None):
                raise CompileError(f"{what}={text!r:.60}: expected a name, not {type(text).__name__}")
            if what != "name" and text and not (text.isascii() and text.isprintable() and " " not in text):
                raise CompileError(f"{what}={text!r:.60}: LLVM's names are printable ASCII without blanks")
        for feature in filter(None, self.features.split(",")):
            if feature[0] not in "+-" or feature[1:] in ("", *_QUESTIONS):
                raise CompileError(
                    f"features={self.features!r:.60}: {feature!r:.60} is no feature; each is + or - and LLVM's name of "
                    "one, as in '+avx2,-fma'"
                )
        if self.cpu in _QUESTIONS:
            raise CompileError(f"cpu={self.cpu!r} is no CPU, but a question to LLVM, which answers on standard error")

    @property
    def is_here(self) -> bool:
        """Whether no other target was named."""
        return self.triple is None and not self.cpu and not self.features


class Machine(Protocol):
    """A machine that graphs are compiled for.

    Each stage takes what earlier ones made, and the options.  Raises CompileError where the machine lacks something, as
    soon as that can be known: for options when it is made, for work when that is emitted (`NoCodeError`).
    """

    @property
    def name(self) -> str:
        """What a user calls it: "cpu", "sm_90"."""

    @property
    def widths(self) -> Widths:
        """What a scheduler must know of it: how wide vectors are, and what memory and short rows cost."""

    @property
    def has_algorithms(self) -> bool:
        """Whether there is code for the algorithms on whole matrices that ops name (`gradc.ops.algorithm`)."""

    @property
    def views(self) -> Mapping[str, Callable[[Stages], Any]]:
        """Stages that this machine alone has, and those that it prints in a way of its own, by name."""

    def schedule(self, graph: Graph, options: Options) -> Schedule:
        """Kernels and the memory plan of a lowered graph."""

    def emit(self, plan: Schedule, options: Options, locations: Locations | None) -> Code:
        """The code of a schedule; it fills ``locations``, if there are any."""

    def assemble(self, code: Code, options: Options) -> str:
        """The assembly of the code, in the machine's own language."""

    def load(self, stages: Stages) -> Compiled:
        """A function that can be called; a machine that is not here says so at the first call, at the latest."""

    def write(self, stages: Stages, path: Path, destination: Destination, overwrite: bool) -> list[Path]:
        """Write what the file's ending asks for, all of it or nothing; returns the files written."""


def refuse_captured(stages: Stages) -> None:
    """CompileError for arrays that the graph captures: a file cannot hold them, for they live in this process."""
    if arrays := stages.schedule.arrays:
        captured = ", ".join(f"{a.dtype}{list(a.shape)}" for a in arrays)
        raise CompileError(
            f"{stages.source.title} captures arrays ({captured}), which a standalone function cannot hold; "
            "pass them as arguments"
        )
