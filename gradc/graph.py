"""A static graph: some input leaves, some output nodes, everything between, and the user's names.

Enters: nodes from a trace or a transformation.  Leaves: an immutable, printable `Graph`.
Invariant: `Graph.nodes` is in topological order and every stage refers to a node by its position there; edges are
`Node.args` and nothing else.  `Graph.nx` is derived from them at most once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from gradc.aval import Aval, lost_meaning
from gradc.errors import DTypeError, ShapeError
from gradc.interpret import Observer, evaluator, interpret, topological
from gradc.node import OPS, Label, Node, here
from gradc.process import cached_property

if TYPE_CHECKING:
    import networkx as nx


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """``outputs`` as functions of ``inputs``; ``names`` maps nodes to the names they have in the user's source.

    ``in_tree`` and ``out_tree`` say how flat inputs and outputs nest in the user's containers (opaque here).
    """

    inputs: tuple[Node, ...]
    outputs: tuple[Node, ...]
    names: Mapping[Node, str] = field(default_factory=dict)
    in_tree: Any = None
    out_tree: Any = None
    title: str = "f"
    notes: tuple[str, ...] = ()  #: what passes report to the user
    aliases: Mapping[Node, str] = field(default_factory=dict)  #: what held inputs or constants

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node, operands before users; all inputs first, used or not."""
        return tuple(topological((*self.inputs, *self.outputs)))

    @cached_property
    def index(self) -> dict[Node, int]:
        """Position of each node in `nodes`."""
        return {node: i for i, node in enumerate(self.nodes)}

    @cached_property
    def users(self) -> dict[Node, tuple[Node, ...]]:
        """For each node the nodes that read it (once per operand position)."""
        users: dict[Node, list[Node]] = {node: [] for node in self.nodes}
        for node in self.nodes:
            for arg in node.args:
                users[arg].append(node)
        return {node: tuple(by) for node, by in users.items()}

    @cached_property
    def nx(self) -> nx.MultiDiGraph[int]:
        """The graph for networkx: nodes are positions in `nodes`, edges carry the operand position."""
        import networkx as nx

        graph: nx.MultiDiGraph[int] = nx.MultiDiGraph()
        graph.add_nodes_from(range(len(self.nodes)))
        graph.add_edges_from(
            (self.index[arg], i, k, {"operand": k})
            for i, node in enumerate(self.nodes)
            for k, arg in enumerate(node.args)
        )
        return graph

    @property
    def regions(self) -> dict[Node, Label]:
        """Nodes that are the value of a composite the user called (softmax, layer norm, …), with its operands."""
        return {node: node.label for node in self.nodes if node.label is not None}

    @property
    def free(self) -> tuple[Node, ...]:
        """Leaves of traces other than this graph's own inputs."""
        own = set(self.inputs)
        return tuple(n for n in self.nodes if n.op.name == "input" and n not in own)

    def replace(self, **changes: Any) -> Graph:
        """A copy with some fields changed; what is known of the nodes is kept where they stay."""
        new = Graph(**({name: getattr(self, name) for name in _FIELDS} | changes))
        if not changes.keys() & {"inputs", "outputs"}:
            new.__dict__.update((k, v) for k, v in self.__dict__.items() if k in _OF_NODES)
        return new

    def name(self, node: Node) -> str:
        """The user's name of ``node``, or ``%position``."""
        return self.names.get(node) or f"%{self.index[node]}"

    @cached_property
    def limits(self) -> tuple[tuple[int, np.dtype[Any]], ...]:
        """Inputs that are Python integers and take the dtype of an array: position and that dtype."""
        return tuple(
            (i, user.dtype)
            for i, x in enumerate(self.inputs)
            if x.aval.weak and x.dtype.kind == "i"
            for user in self.users[x]
            if user.op.name == "cast" and user.dtype.kind in "iu"
        )

    def refuse_overflow(self, values: Sequence[Any]) -> None:
        """DTypeError for a Python integer that does not fit into the dtype of the array it is combined with."""
        for i, dtype in self.limits:
            value, bounds = values[i], np.iinfo(dtype)
            if isinstance(value, int) and not bounds.min <= value <= bounds.max:
                raise DTypeError(
                    f"{here()}: {self.title}: {self.name(self.inputs[i])} = {value} is out of bounds for {dtype}, the "
                    "dtype of its partner; cast that array to a wider one"
                )

    # -- as a body ---------------------------------------------------------------------------------------------------
    @cached_property
    def call(self) -> Callable[[Sequence[Any]], list[Any]]:
        """NumPy outputs for NumPy inputs that fit: how the interpreter runs a body, many times."""
        return evaluator(self.inputs, self.outputs, self.names)

    def inlined(self, operands: Sequence[Node]) -> list[Node]:
        """The outputs as nodes over ``operands``."""
        return substitute(self.outputs, dict(zip(self.inputs, operands, strict=True)))

    def __reduce__(self) -> tuple[Any, ...]:
        """A graph travels as a list of its nodes: their ops by name, their operands by position."""
        at = self.index
        rows = [
            (n.op.name, [at[a] for a in n.args], {**n.attrs, "trace": None} if n.op.name == "input" else dict(n.attrs),
             n.aval, n.where, _packed_label(n.label, at), n.replica)
            for n in self.nodes
        ]  # fmt: skip
        names = {at[n]: name for n, name in self.names.items() if n in at}
        places = [at[n] for n in self.inputs], [at[n] for n in self.outputs]
        return _restored, (rows, *places, names, self.in_tree, self.out_tree, self.title, self.notes)

    # -- values ----------------------------------------------------------------------------------------------------
    def evaluate(self, *arrays: Any, observe: Observer | None = None) -> list[np.ndarray[Any, Any]]:
        """The flat outputs for flat inputs, by each op's NumPy meaning: the oracle that compiled code is held
        against.
        """
        if len(arrays) != len(self.inputs):
            raise TypeError(f"{here()}: {self.title} takes {len(self.inputs)} arrays, got {len(arrays)}")
        self.refuse_overflow(arrays)
        values = {
            node: fit_argument(a, node.aval, self.names.get(node, f"argument {i}"))
            for i, (node, a) in enumerate(zip(self.inputs, arrays, strict=True))
        }
        return interpret(self.outputs, dict(values), observe, self.names)

    # -- pictures ----------------------------------------------------------------------------------------------------
    def __str__(self) -> str:
        """The nodes; a body that several nodes hold is written once, at the first of them."""
        return "\n".join(self._lines({}))

    def __repr__(self) -> str:
        inputs = ", ".join(f"{self.name(x)}: {x.aval}" for x in self.inputs[:8]) + ", …" * (len(self.inputs) > 8)
        return f"<graph {self.title}({inputs}), {len(self.nodes)} nodes>"

    def _lines(self, written: dict[Graph, str]) -> list[str]:
        head = ", ".join(f"{self.name(n)}: {n.aval}" for n in self.inputs)
        lines = [f"graph {self.title}({head})"]
        body = [n for n in self.nodes if n.op.name != "input" and _everywhere(n) is None]
        shown = [(self._target(n), str(n.aval), self._call(n), str(n.where or "")) for n in body]
        widths = [min(max((len(row[k]) for row in shown), default=0), most) for k, most in enumerate((40, 40, 60))]
        for node, (target, aval, call, where) in zip(body, shown, strict=True):
            line = f"  {target:<{widths[0]}} : {aval:<{widths[1]}} = {call:<{widths[2]}}  # {where}"
            lines.append(line.rstrip(" #"))
            place = f"%{self.index[node]} of {self.title}"
            lines += [
                f"      {inner}" for name, held in _held(node) for inner in held._body_lines(name, written, place)
            ]
        lines.append(f"  return {', '.join(self._reference(n) for n in self.outputs)}")
        return lines

    def _body_lines(self, role: str, written: dict[Graph, str], place: str) -> list[str]:
        """The lines of a graph that a node at ``place`` holds; where to find them, if they were ``written`` before."""
        if self in written:
            return [f"{role} {self.title}: as at {written[self]}"]
        written[self] = place
        head, *rest = self._lines(written)
        return [f"{role} {head.removeprefix('graph ')}", *rest]

    def _target(self, node: Node) -> str:
        name = self.names.get(node)
        return f"%{self.index[node]}" + (f" {name}" if name else "")

    def _reference(self, node: Node) -> str:
        """A name; a scalar constant (also when broadcast) is written where it is used."""
        return _everywhere(node) or self.name(node)

    def _call(self, node: Node) -> str:
        if node.op.name == "constant":
            return f"constant {format_constant(node.attrs['value'])}"
        operands = [self._reference(a) for a in node.args]
        shown = {k: v for k, v in node.attrs.items() if v is not None and not isinstance(v, Graph)}
        operands += [f"{k}={format_attr(v)}" for k, v in shown.items()]
        return f"{node.op.name}({', '.join(operands)})"

    def dot(self) -> str:
        """Graphviz source of the graph."""
        style = '  rankdir=TB; node [shape=box, style="rounded,filled", fillcolor=white, fontname=monospace];'
        return "\n".join(["digraph {", style, *self._dot_lines("n", {}), "}"])

    def _dot_lines(self, prefix: str, drawn: dict[Graph, str]) -> list[str]:
        """Vertices and edges; the body of a loop is a cluster, tied by a dashed edge to each node that holds it."""
        lines = []
        outputs = set(self.outputs)
        for i, node in enumerate(self.nodes):
            color = "lightblue" if node.op.name == "input" else "lightgreen" if node in outputs else "white"
            text = "\\n".join(filter(None, (_dot_text(self.names.get(node, "")), node.op.name, str(node.aval))))
            lines.append(f'  {prefix}{i} [label="{text}", fillcolor={color}];')
            for name, held in _held(node):
                inner = drawn.get(held, f"{prefix}{i}{name}")
                if held not in drawn:
                    drawn[held] = inner
                    title = _dot_text(held.title)
                    lines += [f'  subgraph "cluster_{inner}" {{', f'  label="{name} {title}"; style=rounded;']
                    lines += [*held._dot_lines(inner, drawn), "  }"]
                lines.append(f"  {prefix}{i} -> {inner}{held.index[held.outputs[0]]} [style=dashed, dir=none];")
        edges = (f"  {prefix}{self.index[a]} -> {prefix}{i};" for i, node in enumerate(self.nodes) for a in node.args)
        return [*lines, *edges]

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(str(self))}</pre>"


def _dot_text(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


_FIELDS = tuple(f.name for f in fields(Graph))
#: what a graph works out of its inputs and outputs alone
_OF_NODES = frozenset(("nodes", "index", "users", "nx", "limits", "call"))


def fit_argument(value: Any, aval: Aval, name: str) -> np.ndarray[Any, Any]:
    """``value`` as the array that ``aval`` promises; Python scalars convert, arrays must match exactly."""
    if isinstance(value, (bool, int, float)) and aval.shape == ():
        return np.asarray(value, aval.dtype)
    if lost := lost_meaning(value):
        raise DTypeError(f"{here()}: {name} {lost}")
    array = np.asarray(value)
    if array.shape != aval.shape:
        raise ShapeError(
            f"{here()}: {name} has shape {array.shape}, expected {aval.shape}: call with that shape or trace again"
        )
    if array.dtype.newbyteorder("=") != aval.dtype:
        raise DTypeError(
            f"{here()}: {name} has dtype {array.dtype}, expected {aval.dtype}: use {name}.astype({str(aval.dtype)!r})"
        )
    return array.astype(aval.dtype, copy=False)


def _held(node: Node) -> list[tuple[str, Graph]]:
    """The graphs among a node's attributes, by name."""
    return [(name, value) for name, value in node.attrs.items() if isinstance(value, Graph)]


def format_constant(value: np.ndarray[Any, Any]) -> str:
    if value.size == 1:
        return repr(value.reshape(-1)[0].item())
    return f"array{list(value.shape)}"


def _everywhere(node: Node) -> str | None:
    """The text of the one number that a constant, or a broadcast constant, is."""
    while node.op.name == "broadcast":
        node = node.args[0]
    if node.op.name == "constant" and node.size == 1:
        return format_constant(node.attrs["value"])
    return None


def format_attr(value: Any) -> str:
    return str(value).replace(" ", "") if isinstance(value, tuple) else str(value)


#: replaces a node, given its new operands; None keeps it
Rewrite = Callable[[Node, tuple[Node, ...]], Node | None]


def substitute(outputs: Sequence[Node], mapping: Mapping[Node, Node]) -> list[Node]:
    """``outputs`` with leaves (or inner nodes) replaced; nodes that depend on none of them are shared, not copied."""
    return rewrite(outputs, lambda node, args: None, mapping)


def rewrite(
    outputs: Sequence[Node],
    rule: Rewrite,
    mapping: Mapping[Node, Node] | None = None,
    correspondence: dict[Node, Node] | None = None,
) -> list[Node]:
    """Rebuild bottom-up: ``rule(node, new_args)`` returns a replacement, or None to keep the node on its new operands.

    ``correspondence`` (old node -> new node) is filled if given.
    """
    order = topological(outputs, mapping)
    changed = {old: new for old, new in mapping.items() if new is not old} if mapping else {}
    rewrite_nodes(order if not mapping else [n for n in order if n not in mapping], rule, changed)
    if correspondence is not None:
        correspondence.update(mapping or {})
        correspondence.update((node, changed.get(node, node)) for node in order)
    return [changed.get(node, node) for node in outputs]


def rewrite_nodes(order: Iterable[Node], rule: Rewrite, changed: dict[Node, Node]) -> None:
    """`rewrite` for nodes whose ``order`` is known; ``changed`` gets the nodes that became others.

    A node whose operands stayed is shown to the rule with its own ``args``, the very tuple.
    """
    moved = changed.keys()
    relabelled: dict[Node, Node] = {}
    for node in order:
        args = node.args
        if not moved.isdisjoint(args):
            args = tuple([changed.get(a, a) for a in args])
        replacement = rule(node, args)
        if replacement is None:
            if args is node.args:
                continue
            replacement = node.rebuilt(args, _relabel(node.label, changed))
        elif replacement is node:
            continue
        elif replacement.label is not None and replacement.label is node.label:
            bare = replacement
            replacement = relabelled[bare] = bare.rebuilt(bare.args, _relabel(node.label, changed))
        else:
            replacement = relabelled.get(replacement, replacement)
        changed[node] = replacement


def _relabel(label: Label | None, new: Mapping[Node, Node]) -> Label | None:
    """A composite's label on rebuilt operands."""
    if label is None:
        return None
    args = tuple(new.get(a, a) for a in label.args)
    return Label(label.name, args, label.attrs)


# -- travelling --------------------------------------------------------------------------------------------------------

_PackedLabel = tuple[str, list[int], Mapping[str, Any]]


def _packed_label(label: Label | None, at: Mapping[Node, int]) -> _PackedLabel | None:
    """A label by positions; None if it speaks of nodes that are not in the graph."""
    if label is None or any(a not in at for a in label.args):
        return None
    return label.name, [at[a] for a in label.args], dict(label.attrs)


def _restored(
    rows: Sequence[Any], inputs: Sequence[int], outputs: Sequence[int], names: Mapping[int, str], *rest: Any
) -> Graph:
    """The graph of `Graph.__reduce__`."""
    nodes: list[Node] = []
    for op, args, attrs, aval, where, packed, replica in rows:
        label = Label(packed[0], tuple(nodes[k] for k in packed[1]), packed[2]) if packed is not None else None
        nodes.append(Node(OPS[op], tuple(nodes[k] for k in args), attrs, aval, where, label, replica))
    named = {nodes[k]: name for k, name in names.items()}
    return Graph(tuple(nodes[k] for k in inputs), tuple(nodes[k] for k in outputs), named, *rest)
