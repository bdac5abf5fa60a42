"""What a training step is given and what its loss gives back, refused where it is something else.

Enters: the arguments of a step, or the state of a model before and after it.  Leaves: errors that name them.  Start
reading at `refuse_other_arguments`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from gradc.containers import flatten, path_text
from gradc.node import as_node, here
from gradc.trace import function_name

#: what `gradc.train_step` was told that makes the loss return a pair, and which, by has_state and has_aux
PAIRS = {
    (False, False): "", (False, True): "has_aux=True: (loss, aux)",
    (True, False): "has_state=True: (loss, model_state)",
    (True, True): "has_state=True, has_aux=True: (loss, (model_state, aux))",
}  # fmt: skip
#: an argument that was not given
ABSENT: Any = object()


def refuse_other_arguments(
    title: str, loss: Callable[..., Any], has_state: bool, params: Any, state: Any, batch: tuple[Any, ...]
) -> None:
    """TypeError unless the loss takes what a step of these arguments would give it."""
    given = sum(x is not ABSENT for x in (params, state)) + len(batch)
    reason = "the parameters and the state of the optimizer come first"
    if given >= 2:
        try:
            signature = inspect.signature(loss)
        except (TypeError, ValueError):
            return
        try:
            signature.bind(params, *batch)
            return
        except TypeError as why:
            reason = f"{function_name(loss)}{signature} is given the first and those from the third on: {why}"
    order = "params, state, model_state, *batch" if has_state else "params, state, *batch"
    raise TypeError(
        f"{here()}: {title} was given {given} argument{'s' * (given != 1)}; {reason}.\n"
        f"  Call step({order}), where state is optimizer.init(params) at first."
    )


def same_kind(title: str, before: Any, after: Any) -> Any:
    """``after``, a model's new state; TypeError unless it has the structure, shapes and dtypes of the one before."""
    (old, paths, first), (new, new_paths, second) = flatten(before), flatten(after)
    if first != second:
        lost = [f"model_state{path_text(p)}" for p in paths if p not in new_paths]
        added = [f"model_state{path_text(p)}" for p in new_paths if p not in paths]
        found = "; ".join(f"{what} {', '.join(names)}" for what, names in (("lacks", lost), ("adds", added)) if names)
        raise TypeError(
            f"{here()}: {title}: has_state: the model state that the loss returns must have the structure of the "
            f"one it was given{': it ' + found if found else ''}"
        )
    for x, y, path in zip(old, new, paths, strict=True):
        was, now = as_node(x).aval, as_node(y).aval
        if (was.shape, was.dtype) != (now.shape, now.dtype):
            raise TypeError(
                f"{here()}: {title}: has_state: model_state{path_text(path)} was {was} and becomes {now}; it must keep "
                "its shape and dtype"
            )
    return after


__all__ = ["ABSENT", "PAIRS", "refuse_other_arguments", "same_kind"]
