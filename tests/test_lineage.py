"""Lineage: what became of each node through the passes, by the rewrites themselves."""

from __future__ import annotations

import numpy as np
import pytest

import gradc as gc
from gradc.passes import LOWERING, PIPELINE, cse, fold, run_passes, simplify, simplify_to_read
from gradc.passes.lineage import following


def followed(function, *specs, passes):
    """The traced graph, the graph after ``passes``, and what became of each node."""
    graph = gc.trace(function, *specs)
    with following() as lineage:
        last = run_passes(graph, passes)
    return graph, last, lineage.became(last)


def ops(nodes):
    return sorted(node.op.name for node in nodes)


def named(graph, name):
    return next(node for node, found in graph.names.items() if found == name)


def test_a_node_that_a_rule_swallows_lives_on_in_what_its_reader_became():
    def f(x, y):
        inverse = 1.0 / y
        product = x * inverse
        return product + 1.0

    graph, _, became = followed(f, gc.spec(3), gc.spec(3), passes=(fold, simplify_to_read))
    assert ops(became[named(graph, "inverse")]) == ["divide"]
    assert became[named(graph, "inverse")] == became[named(graph, "product")]


def test_nodes_that_are_merged_became_the_same():
    def f(x):
        a = np.sin(x)
        b = np.sin(x)
        return a * b

    graph, last, became = followed(f, gc.spec(3), passes=(cse,))
    (sine,) = (node for node in last.nodes if node.op.name == "sin")
    assert became[named(graph, "a")] == became[named(graph, "b")] == {sine}


def test_what_a_rewrite_makes_belongs_to_what_it_replaced():
    def f(x):
        n = np.linalg.norm(x)
        return n * 2.0

    graph, last, became = followed(f, gc.spec(3), passes=LOWERING)
    assert {"item", "sum"} <= {node.op.name for node in became[named(graph, "n")]}
    assert "multiply" not in ops(became[named(graph, "n")] - became[graph.outputs[0]])
    assert last.outputs[0] in became[graph.outputs[0]]


def test_what_no_result_needs_became_nothing():
    graph = gc.trace(lambda x: (np.exp(x), np.sin(x)), gc.spec(3))
    with following() as lineage:
        last = simplify(graph.replace(outputs=graph.outputs[:1]))
    assert not lineage.became(last).get(graph.outputs[1])


def test_nobody_follows_unasked_and_two_do_not_disturb_each_other():
    graph = gc.trace(lambda x: x * 1.0 + 0.0, gc.spec(3))
    with following() as outer:
        simplify(graph)
        with following() as inner:
            simplify(graph)
        count = len(outer.steps)
    simplify(graph)
    assert len(outer.steps) == count == len(inner.steps)


def loss(w, x, y):
    h = np.maximum(np.tanh(x @ w), 0.1)
    return gc.nn.cross_entropy(gc.nn.layer_norm(h, (5,)), y) + np.linalg.norm(w)


@pytest.mark.parametrize("function", [loss, gc.value_and_grad(loss)], ids=["loss", "gradient"])
def test_every_node_of_the_last_graph_is_an_heir(function):
    specs = gc.spec((4, 5)), gc.spec((7, 4)), gc.spec(7, np.int64)
    graph, last, became = followed(function, *specs, passes=(*PIPELINE, *LOWERING))
    heirs = frozenset().union(*(became[node] for node in graph.nodes))
    assert set(last.nodes) <= heirs
    assert all(became[a] == {a} for a in last.inputs)
    for before, after in zip(graph.outputs, last.outputs, strict=True):
        assert after in became[before]
