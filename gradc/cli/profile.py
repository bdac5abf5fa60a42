"""``gradc profile``: the kernels of a compiled function by time, beside what this machine can reach."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from gradc.cli.loading import load_function
from gradc.cli.stages import compiled, with_gradient

if TYPE_CHECKING:
    from rich.table import Table

    from gradc.explorer.profile import KernelTime, Profile

#: A kernel below this part of what the machine can do, and above that part of the time, is worth a look.
SLOW, DEAR = 0.5, 0.1


def profile(place: str, given: Sequence[str], gradient: bool) -> int:
    """Measure and print the table."""
    from rich.console import Console

    loaded = load_function(place, given)
    function = with_gradient(loaded) if gradient else loaded.function
    executable = compiled(loaded, function, threads=1)  # the roofline is that of one core
    found = executable.profile(*loaded.values())
    console = Console(highlight=False)
    console.print(_table(found) if console.width >= 100 else str(found))
    console.print(_legend(found), style="dim")
    return 0


def _table(found: Profile) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=found.head, title_justify="left", title_style="bold", pad_edge=False)
    for name, right in (
        ("#", True), ("kernel", False), ("time", True), ("share", True), ("", False), ("flops", True), ("bytes", True),
        ("GF/s", True), ("GB/s", True), ("least", True), ("reached", True), ("lines", False),
    ):  # fmt: skip
        table.add_column(name, justify="right" if right else "left", no_wrap=name != "lines")
    for kernel in found.by_time:
        table.add_row(*_row(found, kernel))
    table.add_section()
    total = (f"{found.step_ns:,.0f} ns", "100%", "", f"{sum(k.flops for k in found.kernels):,}")
    moved = f"{sum(k.bytes for k in found.kernels):,}"
    table.add_row("", "all", *total, moved, "", "", f"{found.predicted_ns:,.0f} ns", "", "", style="bold")
    return table


def _row(found: Profile, k: KernelTime) -> list[str]:
    share = found.share(k)
    part = f"{share:.0%}" if share >= 0.005 else "<1%"
    reached = f"{k.reached:.0%}"
    if share >= DEAR and k.reached < SLOW:
        reached = f"[yellow]{reached}[/]"
    return [
        str(k.number), k.title, f"{k.measured_ns:,.0f} ns", part, "[cyan]" + "━" * round(10 * share) + "[/]",
        f"{k.flops:,}", f"{k.bytes:,}", f"{k.gflops:,.1f}", f"{k.gbytes:,.1f}", f"{k.predicted_ns:,.0f} ns", reached,
        k.lines.replace("[", "\\["),
    ]  # fmt: skip


def _legend(found: Profile) -> str:
    return (
        f"measured here: {found.roofline}\n"
        "least = max(flops / peak, bytes / copy bandwidth at that size); reached = least / time: above 100% a kernel "
        "only reads,\nand reading is faster than copying. A transcendental function counts as 16 flops."
    )
