"""What a compilation depends on besides the graph: light, so that declaring a `jit` loads no compiler."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gradc.machines.budget import Budget
from gradc.node import here
from gradc.passes import Observe
from gradc.runtime.arena import memory_class
from gradc.runtime.threads import MOST_THREADS, default_threads, is_thread_count

#: what ``show=`` and GRADC_SHOW can print while a function compiles
STAGES = ("graph", "optimised", "lowered", "schedule", "llvm", "asm")

#: what only `gc.trace_nans` finds: a result does not show it
ALSO_TRACED = ("underflow",)


def watched(given: bool | str | Iterable[str]) -> tuple[str, ...]:
    """The kinds of numbers that ``check_nans=`` asks for."""
    if isinstance(given, bool):
        return ("nan",) if given else ()
    return (given,) if isinstance(given, str) else tuple(given)


class OwnMemory:
    """Memory in which a function knows its own results again, those of all its versions."""

    def __init__(self) -> None:
        self.kind = memory_class()

    def __reduce__(self) -> tuple[Any, ...]:
        """Where it arrives, there are no such results yet."""
        return OwnMemory, ()


@dataclass(frozen=True)
class Options:
    """What a compilation depends on besides the graph."""

    fp: str = "ieee"
    target: str = "cpu"  #: or the architecture of a GPU, "sm_90"
    cpu: str | None = None  #: a level of CPUs, "x86-64-v3", whose code has the same bits on all of them; None: this CPU
    precision: str = "ieee"  #: of float32 products; "tf32": operands rounded for tensor cores
    threads: int = field(default_factory=default_threads)  #: how many may share the work, the caller's among them
    donate: Mapping[int, int] = field(default_factory=dict)  #: flat input -> flat output that takes its storage
    budget: Budget | None = None  #: most scratch: parts of the forward pass are computed again to keep it
    memory: OwnMemory | None = None  #: of all results; donated arrays that lie elsewhere are copied first
    observe: Observe | None = None
    versions: int = 128  #: how many versions of a function stay compiled
    recall: bool = True  #: take what the disk knows of the whole graph, without running a stage
    check: bool = field(default_factory=lambda: os.environ.get("GRADC_CHECK") == "1")  #: verify between passes
    watch: tuple[str, ...] = ()  #: kinds of numbers that no result may hold, names of `WATCHED`
    verify: str = ""  #: "first": the first call is compared with the interpreter
    debug: bool | str = False  #: carry the user's source lines into the generated code; "bounds": and check accesses
    show: tuple[str, ...] = field(default_factory=lambda: _stages(os.environ.get("GRADC_SHOW", "")))  #: printed stages

    def __post_init__(self) -> None:
        if self.fp not in ("ieee", "contract", "fast"):
            raise ValueError(f"{here()}: fp={self.fp!r}: expected 'ieee', 'contract' or 'fast'")
        if self.precision not in ("ieee", "tf32"):
            raise ValueError(f"{here()}: precision={self.precision!r}: expected 'ieee' or 'tf32'")
        if self.verify not in ("", "first"):
            raise ValueError(f"{here()}: verify={self.verify!r}: expected 'first', or nothing")
        if self.verify and (self.fp == "fast" or self.target != "cpu"):
            raise ValueError(f"{here()}: verify='first' needs error bounds, which fp='fast' and GPUs do not state")
        if self.debug not in (False, True, "bounds"):
            raise ValueError(f"{here()}: debug={self.debug!r}: expected False, True or 'bounds'")
        if self.debug == "bounds" and self.target != "cpu":
            raise ValueError(f"{here()}: debug='bounds' is for CPUs; on GPUs compute-sanitizer checks accesses")
        self._check_watch()
        if not is_thread_count(self.threads):
            raise ValueError(
                f"{here()}: threads={self.threads!r}: expected a whole number from 1 to {MOST_THREADS}, or None"
            )
        if type(self.versions) is not int or self.versions < 1:
            raise ValueError(f"{here()}: versions={self.versions!r}: expected a whole number from 1 on")
        for stage in self.show:
            if stage not in STAGES:
                raise ValueError(f"{here()}: show: unknown stage {stage!r}; expected some of {', '.join(STAGES)}")

    def _check_watch(self) -> None:
        if not self.watch:
            return
        from gradc.codegen.status import WATCHED  # and with it the compiler: only where it is asked for

        for kind in self.watch:
            if kind not in WATCHED:
                known = ", ".join(map(repr, WATCHED))
                hint = f"; gc.trace_nans(f, *args, kinds={kind!r}) finds it" if kind in ALSO_TRACED else ""
                raise ValueError(f"{here()}: check_nans={kind!r}: expected True, or some of {known}{hint}")
        if self.target != "cpu":
            raise ValueError(
                f"{here()}: check_nans is for CPUs; of what a GPU computes gc.trace_nans(f, *args) tells here"
            )
        if self.fp == "fast":
            raise ValueError(f"{here()}: fp='fast' assumes that there is no NaN and no infinity; check_nans asks")

    @property
    def relaxed(self) -> str:
        """What they allow beyond IEEE arithmetic, in words."""
        allowed = {"fp": self.fp, "precision": self.precision}
        return "".join(f", {name}={value}" for name, value in allowed.items() if value != "ieee")


def _stages(text: str) -> tuple[str, ...]:
    return tuple(s.strip() for s in text.split(",") if s.strip())
