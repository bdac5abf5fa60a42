"""Results to Markdown tables and JSON lines.

Enters: `Result`s.  Leaves: text.  A ratio is a peer's time over gradc's: above 1, gradc is faster.
Start reading at `page`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tests.bench.race import Result
from tests.bench.workload import Workload

Limits = dict[str, float]


def seconds_text(seconds: float) -> str:
    """A time with three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-9:.3g} ns"


def bytes_text(size: float) -> str:
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}"
    return f"{size:.0f} B"


def against(result: Result) -> str | None:
    """The peer that the goal is measured against."""
    wanted = result.workload.against
    if wanted is not None:
        return wanted if wanted in result.median else None
    return result.best_peer()


def verdict(result: Result, limits: Limits | None = None) -> str:
    """Whether all goals are reached, ratios by medians: "yes", "no", "—" without a goal, "?" without a figure."""
    if not result.workload.goal:
        return "—"
    if against(result) is None or "gradc" not in result.median:
        return "?"
    return "yes" if min(shares(result, limits or {})) >= 1 else "no"


def shares(result: Result, limits: Limits) -> list[float]:
    """How far each goal is reached: 1 is just."""
    work, peer = result.workload, against(result)
    found = [result.ratio(peer) / work.goal] if peer is not None else []
    found += [result.ratio(label) / times for label, times in work.also.items() if label in result.median]
    if work.of_peak and limits:
        found.append(peak_share(result, limits) / work.of_peak)
    return found


def peak_share(result: Result, limits: Limits) -> float:
    """Which share of the FMA peak gradc's shortest time is."""
    work = result.workload
    return work.flops / result.minimum["gradc"] / limits[work.dtype] / result.threads


def goal_text(work: Workload) -> str:
    """All goals of a row."""
    ratios = [f"≥ {work.goal:g}×"] if work.goal else []
    ratios += [f"≥ {times:g}× {label}" for label, times in work.also.items()]
    peak = [f"≥ {work.of_peak:.0%} of FMA peak"] if work.of_peak else []
    return ", ".join([*ratios, *peak, *([work.limit] if work.limit else [])])


def rate_text(result: Result, limits: Limits) -> str:
    """FLOP/s or bytes/s of gradc's shortest time, and its share of what the machine can do."""
    work, best = result.workload, result.minimum.get("gradc")
    if not best or work.measure != "time":
        return ""
    if work.flops:
        share = peak_share(result, limits) if limits else 0.0
        return f"{work.flops / best / 1e9:.0f} GF" + (f", {share:.0%}" if share else "")
    if work.moved > 4_000_000:
        share = work.moved / best / limits["bandwidth"] if limits else 0.0
        return f"{work.moved / best / 1e9:.0f} GB/s" + (f", {share:.0%}" if share else "")
    return ""


def peer_text(result: Result, label: str, show: Callable[[float], str]) -> str:
    if label in result.failures:
        return result.failures[label].split(":")[0]
    if label not in result.median:
        return ""
    ratio = f" ({result.ratio(label):.2f}×)" if "gradc" in result.median else ""
    ulp = f", {result.ulp[label]:.1f} ULP" if label in result.ulp else ""
    return f"{show(result.median[label])}{ratio}{ulp}"


def own_text(result: Result, show: Callable[[float], str]) -> str:
    if "gradc" not in result.median:
        return result.failures.get("gradc", "—")
    text = show(result.median["gradc"])
    if result.workload.measure == "time":
        text += f" ({show(result.minimum['gradc'])})"
    if "gradc" in result.ulp:
        text += f", {result.ulp['gradc']:.1f} ULP"
    if result.workload.measure == "memory" and result.planned.get("gradc"):
        text += f" (arena {show(result.planned['gradc'])})"
    if "gradc" in result.warm:
        text += f", from disk {show(result.warm['gradc'])}, with nothing ready {show(result.empty['gradc'])}"
    return text


def table(results: Sequence[Result], limits: Limits) -> str:
    """One family: gradc's median and minimum, then each peer's median and its ratio."""
    labels = list(dict.fromkeys(n for r in results for n in r.workload.contenders if n != "gradc"))
    show = bytes_text if results[0].workload.measure == "memory" else seconds_text
    rates = [rate_text(r, limits) for r in results]
    head = ["workload", "gradc", *(["rate, of limit"] if any(rates) else []), "best ×", "goal", "reached", *labels]
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for result, rate in zip(results, rates, strict=True):
        peer = against(result)
        ratio = f"{result.ratio(peer):.2f}" if peer and "gradc" in result.median else ""
        rated = [rate] if any(rates) else []
        judged = [ratio, goal_text(result.workload), verdict(result, limits)]
        peers = [peer_text(result, label, show) for label in labels]
        cells = [result.workload.title, own_text(result, show), *rated, *judged, *peers]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def summary(results: Sequence[Result], titles: dict[str, str], limits: Limits) -> str:
    """How many goals are reached, family by family."""
    lines = ["| | threads | goals reached | furthest from its goal |", "| --- | --- | --- | --- |"]
    for (family, threads), group in grouped(results).items():
        with_goal = [r for r in group if verdict(r) in ("yes", "no")]
        reached = sum(verdict(r, limits) == "yes" for r in with_goal)
        furthest = sorted((min(shares(r, limits)), r.workload.title) for r in with_goal)
        worst = "{:.2f} at {}".format(*furthest[0]) if furthest else "—"
        lines.append(f"| {titles[family]} | {threads} | {reached} of {len(with_goal)} | {worst} |")
    return "\n".join(lines)


def grouped(results: Sequence[Result]) -> dict[tuple[str, int], list[Result]]:
    groups: dict[tuple[str, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.family, result.threads), []).append(result)
    return groups


def page(results: Sequence[Result], titles: dict[str, str], limits: Limits, head: str) -> str:
    """The whole page."""
    parts = [head]
    if limits:
        peaks = f"{limits['float32'] / 1e9:.0f} GF f32, {limits['float64'] / 1e9:.0f} GF f64"
        update = f"in-place update of a large array {limits['bandwidth'] / 1e9:.0f} GB/s"
        load = f"; load average of the machine before the run {limits['load']:.1f}" if limits.get("load") else ""
        parts.append(f"Limits of one core, measured in the same run: FMA peak {peaks}; {update}{load}.")
    parts += ["## Summary", summary(results, titles, limits)]
    for (family, threads), group in grouped(results).items():
        many = "" if threads == 1 else f", {threads} threads"
        parts.append(f"## {titles[family]}{many}")
        for counted in dict.fromkeys(r.workload.counted for r in group):
            parts.append(counted[0].upper() + counted[1:] + ".")
        parts.append(table(group, limits))
        failures = {f"- {label}: {why}" for r in group for label, why in r.failures.items()}
        remarks = notes(group, limits) + sorted(failures)
        parts += ["\n".join(remarks)] if remarks else []
    return "\n\n".join(parts) + "\n"


def notes(group: Sequence[Result], limits: Limits) -> list[str]:
    """What limits the rows that missed their goal, each remark once."""
    titles: dict[str, list[str]] = {}
    for result in group:
        if result.workload.note and verdict(result, limits) != "yes":
            titles.setdefault(result.workload.note, []).append(result.workload.title)
    return [f"- {'; '.join(names)}: {note}." for note, names in titles.items()]


def json_lines(results: Sequence[Result], limits: Limits) -> str:
    """One JSON object per row."""
    return "".join(json.dumps(record(r, limits), ensure_ascii=False) + "\n" for r in results)


def record(result: Result, limits: Limits) -> dict[str, Any]:
    work = result.workload
    return {
        "name": work.name, "title": work.title, "family": result.family, "threads": result.threads,
        "measure": work.measure, "counted": work.counted, "flops": work.flops, "bytes": work.moved, "dtype": work.dtype,
        "goal": work.goal, "against": against(result), "verdict": verdict(result, limits), "goals": goal_text(work),
        "median": result.median, "minimum": result.minimum, "first": result.first, "warm": result.warm,
        "empty": result.empty,
        "error": result.error, "ulp": result.ulp, "planned": result.planned, "stages": result.stages,
        "failures": result.failures, "machine": limits,
    }  # fmt: skip


def restored(record: dict[str, Any], workload: Workload) -> Result:
    """The result that `record` was made of."""
    result = Result(workload, record["family"], record["threads"])
    for name in ("median", "minimum", "first", "warm", "empty", "error", "ulp", "planned", "stages", "failures"):
        setattr(result, name, record[name])
    return result


def selected(name: str, wanted: Sequence[str]) -> bool:
    """Whether a row's name contains one of the wanted words, at a word's start."""
    return not wanted or any(re.search(rf"(^|/){re.escape(word)}", name) for word in wanted)
