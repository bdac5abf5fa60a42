"""One HTML page that needs no network: source, formulas, graph, kernels, LLVM IR and assembly, all linked.

Enters: a `Program`.  Leaves: the text of a page.
Every piece on the page carries the number of a set of graph nodes; pieces whose sets meet belong together.  Code is
data (JSON) that the page's script turns into lines; source, formulas and kernels are there without it.  Whatever a user
wrote is escaped: in HTML by `html.escape`, in JSON by writing ``<`` as an escape, so that nothing ends the script.
Start reading at `page`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from typing import Any

from gradc.explorer.film import Frame, node_bytes, node_flops, shown_nodes
from gradc.explorer.formulas import FormulaRows, located, places_of
from gradc.explorer.layering import draw
from gradc.explorer.listing import Block, assembly_blocks, ir_blocks
from gradc.explorer.profile import KernelTime
from gradc.explorer.program import Program
from gradc.explorer.source import excerpts
from gradc.graph import Graph
from gradc.machines.machine import SYMBOL
from gradc.node import Node
from gradc.ops.record import Kind
from gradc.process import cached_property
from gradc.schedule.kernel import Place
from gradc.schedule.origin import nodes_of
from gradc.tabular import duration
from gradc.version import __version__

Nodes = frozenset[int]
#: columns of the table of kernels that are words
LEFT = (1, 3, 4)
#: a function shared by more kernels than this says how many they are
MOST_NAMED = 6
#: how a picture writes the beginning of a dtype
SHORT = {"float": "f", "uint": "u", "int": "i", "bool": "bool"}


def page(program: Program) -> str:
    """The page of ``program``."""
    return _Page(program).text()


def palette() -> str:
    """The style sheet that all pages begin with: colours and typefaces, in light, in dark and on paper."""
    return _resource("palette.css")


def _resource(name: str) -> str:
    return files("gradc.explorer").joinpath(name).read_text(encoding="utf-8")


@dataclass
class _Page:
    program: Program
    sets: dict[Nodes, int] = field(default_factory=dict)

    def text(self) -> str:
        p = self.program
        pieces = {
            "title": escape(p.graph.title), "subtitle": self._subtitle(), "facts": self._facts(),
            "source": self._source(), "formulas": FormulaRows(p, self.numbered).html(), "kernels": self._kernels(),
            "hottest": f"{max((p.profile.share(k) for k in p.profile.kernels), default=0):.0%}",
            "machine": escape(f"gradc {__version__}, measured on {p.profile.roofline}"), "version": __version__,
            "style": palette() + _resource("page.css"), "script": _resource("page.js"), "data": self._data(),
        }  # fmt: skip
        return _resource("page.html").format(**pieces)

    def numbered(self, nodes: Nodes) -> int:
        """The number of a set of nodes; −1 for none."""
        return self.sets.setdefault(nodes, len(self.sets)) if nodes else -1

    # -- the head ----------------------------------------------------------------------------------------------------
    def _subtitle(self) -> str:
        graph = self.program.graph
        arguments = ", ".join(f"{graph.name(x)} {_short(x)}" for x in graph.inputs)
        names = (line.name for line in self.program.derivation.lines if line.kind == "gradient")
        wanted = ", ".join(dict.fromkeys(x for name in names for x in name.split(", ")))
        return escape(f"with its {self.program.sought} by {wanted}, for {arguments}")

    def _facts(self) -> str:
        profile, schedule = self.program.profile, self.program.schedule
        instructions = sum(d > 0 for block in self._asm for _, d in block.lines)
        facts = (
            ("one step", duration(profile.step_ns)),
            ("of the roofline", f"{profile.predicted_ns / max(profile.step_ns, 1e-9):.0%}"),
            ("arithmetic", f"{schedule.flops / max(profile.step_ns, 1e-9):.1f} GF/s"),
            ("kernels", f"{len(schedule.kernels):,}"),
            ("nodes", f"{len(shown_nodes(self.program.graph)):,}"),
            ("instructions", f"{instructions:,}"),
        )
        return "\n".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)

    # -- source ------------------------------------------------------------------------------------------------------
    def _source(self) -> str:
        by_line: dict[tuple[str, int], set[int]] = {}
        for n, where in located(self.program):
            by_line.setdefault((where.file, where.line), set()).add(n)
        parts = []
        for excerpt in excerpts(places_of(self.program)):
            parts.append(f'<div class="file">{escape(os.path.basename(excerpt.file))}</div>')
            for number, html in excerpt.lines:
                nodes = frozenset(by_line.get((excerpt.file, number), ()))
                parts.append(_source_line(number, html, self.numbered(nodes)))
        return "\n".join(parts)

    # -- kernels -----------------------------------------------------------------------------------------------------
    def _kernels(self) -> str:
        heads = ("#", "kernel", "time", "", "lines", "least", "GF/s", "GB/s", "flops", "bytes")
        head = "".join(f'<th scope="col"{" class=l" if c in LEFT else ""}>{h}</th>' for c, h in enumerate(heads))
        rows = "\n".join(self._kernel(k) for k in self.program.profile.kernels)
        return (
            f'<table role="presentation"><thead><tr>{head}</tr></thead><tbody>\n{rows}\n</tbody></table>'
            f'<p class="note">{escape(self.program.profile.head)}. Least: the arithmetic at its peak, or the bytes at '
            "the rate of a copy, whichever takes longer.</p>"
        )

    def _kernel(self, k: KernelTime) -> str:
        share = self.program.profile.share(k)
        part = f"{share:.0%}" if share >= 0.005 else "&lt;1%"
        bar = f'<span class="bar"><i style="width:{100 * share:.1f}%"></i></span> {part}'
        lines = " ".join(part.rpartition(":")[2] for part in k.lines.split())
        cells = (
            str(k.number), escape(k.title), duration(k.measured_ns), bar, escape(lines), duration(k.predicted_ns),
            f"{k.gflops:,.1f}", f"{k.gbytes:,.1f}", f"{k.flops:,}", f"{k.bytes:,}",
        )  # fmt: skip
        body = "".join(f"<td{' class=l' if c in LEFT else ''}>{cell}</td>" for c, cell in enumerate(cells))
        nodes, loaded = frozenset(k.nodes), self._loaded(k.number) - frozenset(k.nodes)
        reads = f' data-r="{self.numbered(loaded)}"' if loaded else ""
        return f'<tr data-s="{self.numbered(nodes)}"{reads} data-share="{share:.5f}">{body}</tr>'

    def _loaded(self, number: int) -> Nodes:
        kernel = self.program.schedule.kernels[number]
        held = (self.program.schedule.buffers[kernel.slots[s]].node for s in kernel.reads)
        return frozenset(n for n in held if n >= 0)

    # -- code --------------------------------------------------------------------------------------------------------
    @cached_property
    def _ir(self) -> list[Block]:
        return ir_blocks(self.program.llvm, self.program.locations)

    @cached_property
    def _asm(self) -> list[Block]:
        return assembly_blocks(self.program.asm, {block.name for block in self._ir})

    def _blocks(self, blocks: Sequence[Block]) -> list[dict[str, Any]]:
        shares = [self.program.profile.share(k) for k in self.program.profile.kernels]
        written = []
        for block in sorted(blocks, key=self._order):
            kernels = self._kernels_of(block)
            written.append(
                {
                    "name": block.name,
                    "step": block.name == SYMBOL,
                    "words": self._words(kernels),
                    "share": 0.0 if block.name == SYMBOL else max((shares[k] for k in kernels), default=0.0),
                    "lines": [self._line(text, d) for text, d in block.lines],
                }
            )
        return written

    def _order(self, block: Block) -> tuple[bool, int, bool]:
        """The whole step first, then each kernel in its turn, before what it calls."""
        kernels = self._kernels_of(block)
        return block.name != SYMBOL, min(kernels, default=len(self.program.schedule.kernels)), block.name[0] != "k"

    def _kernels_of(self, block: Block) -> list[int]:
        found = {d for _, d in block.lines if d}
        return sorted({k for d in found for k, _ in self.program.locations.pieces(d)})

    def _words(self, kernels: Sequence[int]) -> str:
        count = len(self.program.schedule.kernels)
        if len(kernels) == count > 1:
            return "all kernels"
        if len(kernels) > MOST_NAMED:
            return f"{len(kernels)} kernels"
        return f"kernel{'s' * (len(kernels) != 1)} {', '.join(map(str, kernels))}" if kernels else ""

    def _line(self, text: str, discriminator: int) -> list[Any]:
        if not discriminator:
            return [text, -1]
        every, loaded = self._linked[discriminator]
        own = every - loaded
        return [text, self.numbered(every), self.numbered(own), self.numbered(loaded)]

    @cached_property
    def _linked(self) -> dict[int, tuple[Nodes, Nodes]]:
        locations = self.program.locations
        return {d: (locations.nodes(d), locations.loaded(d)) for d in range(1, len(locations.found) + 1)}

    # -- data --------------------------------------------------------------------------------------------------------
    def _data(self) -> str:
        profile, program = self.program.profile, self.program
        kernels_of: list[list[int]] = [[] for _ in program.graph.nodes]
        for number in range(len(program.schedule.kernels)):
            for n in nodes_of(program.schedule, number):
                kernels_of[n].append(number)
        shares = [profile.share(k) for k in profile.kernels]
        heats = [max((shares[k] for k in found), default=0.0) for found in kernels_of]
        data: dict[str, Any] = {
            "ir": self._blocks(self._ir),
            "asm": self._blocks(self._asm),
            "frames": [self._frame(frame, heats) for frame in (*program.frames, self._scheduled())],
            "nodes": [self._node(n, kernels_of[n]) for n in range(len(program.graph.nodes))],
            "kernels": [{"title": k.title, "ns": round(k.measured_ns, 1)} for k in profile.kernels],
            "step": round(profile.step_ns, 1),
            "most": max(shares, default=0.0),
        }
        data["sets"] = [sorted(nodes) for nodes in self.sets]
        return json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")

    def _node(self, number: int, kernels: list[int]) -> dict[str, Any]:
        graph = self.program.graph
        node = graph.nodes[number]
        name = graph.names.get(node, "")
        return {
            "op": node.op.name,
            "text": f"{name + ' = ' if name else ''}{node.op.name}: {node.aval}",
            "flops": node_flops(node),
            "bytes": 0 if node.op.kind in (Kind.INPUT, Kind.CONSTANT) else node_bytes(node),
            "kernels": kernels,
            "where": str(node.where) if node.where is not None and node.op.kind is not Kind.INPUT else "",
        }

    def _scheduled(self) -> Frame:
        """The last graph once more, each node with the kernels that compute it."""
        last, schedule = self.program.frames[-1], self.program.schedule
        stored = sum(b.place is Place.ARENA and b.node >= 0 for b in schedule.buffers)
        doing = f"nodes become {len(schedule.kernels)} kernels, numbered here; {stored} values are kept in between"
        return Frame("schedule", last.graph, last.keys, doing=doing)

    def _frame(self, frame: Frame, heats: Sequence[float]) -> dict[str, Any]:
        told: dict[str, Any] = {
            "name": frame.name, "words": frame.words, "changes": frame.changes, "same": frame.same,
            "schedule": frame.name == "schedule",
        }  # fmt: skip
        if frame.same:
            return told  # the picture is that of the frame before
        graph = frame.graph
        nodes = shown_nodes(graph)
        at = {node: k for k, node in enumerate(nodes)}
        edges = [(at[a], k) for k, node in enumerate(nodes) for a in dict.fromkeys(node.args) if a in at]
        texts = [(_name(graph, n), _op_text(n), _short(n)) for n in nodes]
        widths = [_width(name, op, aval) for name, op, aval in texts]
        drawing = draw(widths, edges)
        outputs = set(graph.outputs)
        written = []
        for node, (name, op, aval), width, (x, y) in zip(nodes, texts, widths, drawing.places, strict=True):
            linked = self.program.became.get(node, frozenset())
            kind = "input" if node.op.kind is Kind.INPUT else "output" if node in outputs else "inner"
            share = round(max((heats[n] for n in linked), default=0.0), 5)
            written.append([f"n{frame.keys[node]}", kind, op, name, aval, self.numbered(linked), x, y, width, share])
        return told | {
            "nodes": written, "width": drawing.width, "height": drawing.height,
            "edges": [[a, b, path] for (a, b), path in zip(edges, drawing.paths, strict=True)],
        }  # fmt: skip


def _source_line(number: int, html: str, at: int) -> str:
    if not number:
        return f'<div class="gap">{html}</div>'
    linked = f' data-s="{at}"' if at >= 0 else ""
    return f'<div class="ln"{linked}><span class="no">{number}</span><span class="tx">{html}</span></div>'


def _name(graph: Graph, node: Node) -> str:
    """What the user calls a node, or the derivation calls a leaf of its own."""
    return graph.names.get(node, "") or (str(node.attrs["name"]) if node.op.kind is Kind.INPUT else "")


def _op_text(node: Node) -> str:
    """The op, and of a contraction what it contracts."""
    title = str(node.op.name)
    if node.op.kind is not Kind.CONTRACT:
        return title
    letters = "ijklmnopqrstuvwxyz"
    sides = [*node.attrs["left"], *node.attrs["right"], *node.attrs["out"]]
    if max(sides, default=0) >= len(letters):
        return title
    left, right, out = ("".join(letters[k] for k in node.attrs[side]) for side in ("left", "right", "out"))
    return f"{left},{right}→{out}"


def _short(node: Node) -> str:
    """Dtype and shape in few letters: f32[64,128]."""
    kind = str(node.dtype).rstrip("0123456789")
    return f"{SHORT.get(kind, kind)}{str(node.dtype)[len(kind) :]}[{','.join(map(str, node.shape))}]"


def _width(name: str, op: str, aval: str) -> int:
    """Pixels that a node's text takes, roughly: the page's font is the reader's."""
    top = f"{name} = {op}" if name and op != "input" else name or op
    return max(58, round(7.2 * len(top)) + 26, round(5.9 * len(aval)) + 24)
