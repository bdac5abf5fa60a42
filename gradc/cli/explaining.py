"""``gradc explain``: formulas of derivatives, of an evaluation one operation at a time, of a training step.

Enters: FILE:FUNC and what is asked of it.  Leaves: text on standard output, or a page.  Start reading at `explain`.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from gradc.api.explain import explain as explain_function
from gradc.api.explanation import Explanation
from gradc.api.jacobian import jacobian
from gradc.cli.loading import Loaded, load_function
from gradc.cli.printing import can_print
from gradc.cli.stages import differentiable
from gradc.cli.usage import UsageError
from gradc.explain.traces import EvaluationTrace


@dataclass(frozen=True)
class Asked:
    """What ``gradc explain`` is asked for, beside the function: options of `gradc.explain` as they are typed."""

    wrt: str | None = None  #: names of arguments, with commas; else the first that holds floats
    order: int = 1
    operator: bool = False
    jacobian: bool = False
    trace: Literal["reverse", "forward"] | None = None
    update: str | None = None  #: an optimizer, lbfgs or 'adamw(1e-3, weight_decay=0.1)'

    def refuse_what_does_not_go_together(self) -> None:
        """Raise UsageError for options of which one says nothing beside another."""
        if self.operator and self.order != 2:
            raise UsageError("--operator is the product of a Hessian with a direction: add --order 2")
        chosen = {"--order 2": self.order == 2, "--jacobian": self.jacobian, "--trace": self.trace is not None}
        several = [name for name, given in {**chosen, "--update": self.update is not None}.items() if given]
        if len(several) > 1:
            raise UsageError(f"{' and '.join(several)} are explanations of their own: ask for one")

    def arguments(self, loaded: Loaded) -> tuple[int, ...]:
        """Positions of the arguments that the function is differentiated by."""
        floats = differentiable(loaded)
        if self.wrt is None:
            return floats[:1]
        names = list(loaded.arguments)
        for name in (chosen := [word.strip() for word in self.wrt.split(",")]):
            if name not in names:
                raise UsageError(f"--wrt {name!r}: the arguments are {', '.join(names)}")
            if names.index(name) not in floats:
                raise UsageError(f"--wrt {name}: it holds no floats, so nothing is differentiated by it")
        return tuple(names.index(name) for name in chosen)

    def explained(self, loaded: Loaded, arguments: Sequence[Any]) -> Explanation | EvaluationTrace:
        """What `gradc.explain` says of the function at ``arguments``."""
        self.refuse_what_does_not_go_together()
        chosen = self.arguments(loaded)
        if self.update is not None:
            return self._explained_step(loaded, chosen, arguments)
        if self.jacobian:
            return explain_function(jacobian(loaded.function, chosen), *arguments)
        if self.trace is not None:
            return explain_function(loaded.function, *arguments, argnums=chosen, trace=self.trace)
        return explain_function(loaded.function, *arguments, argnums=chosen, order=self.order, operator=self.operator)

    def _explained_step(self, loaded: Loaded, chosen: Sequence[int], arguments: Sequence[Any]) -> Explanation:
        """The training step of the optimizer, over the chosen arguments as one tree of parameters."""
        from gradc.api.compiled import train_step

        names = list(loaded.arguments)
        optimizer = _optimizer(self.update or "")
        if list(chosen) != list(range(len(chosen))):
            raise UsageError("--update trains the first arguments: name them in --wrt in their order")
        if len(chosen) == 1:
            step, params = train_step(loaded.function, optimizer), arguments[chosen[0]]
        else:
            keys = [names[i] for i in chosen]
            function = loaded.function

            def loss(params: dict[str, Any], *batch: Any) -> Any:
                return function(*(params[key] for key in keys), *batch)

            step, params = train_step(loss, optimizer), dict(zip(keys, arguments, strict=False))
        return explain_function(step, params, optimizer.init(params), *arguments[len(chosen) :])


def _optimizer(text: str) -> Any:
    """The optimizer that ``lbfgs`` or ``adamw(1e-3, weight_decay=0.1)`` names, its numbers literals."""
    from gradc import optim

    try:
        call = ast.parse(text if "(" in text else f"{text}()", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError
        values = [ast.literal_eval(x) for x in call.args]
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError):
        raise UsageError(f"--update {text!r}: expected an optimizer such as 'adam(1e-3)'") from None
    make = getattr(optim, call.func.id, None) if call.func.id in optim.__all__ else None
    if make is None:
        raise UsageError(f"--update {text!r}: gradc.optim has no {call.func.id}{_nearest(call.func.id)}")
    try:
        made = make(*values, **options)
    except (TypeError, ValueError) as error:
        remedy = "" if "(" in text else f"; give it its numbers, --update '{text}(1e-3)'"
        raise UsageError(f"--update {text!r}: {error}{remedy}") from error
    if not isinstance(made, optim.Optimizer):
        raise UsageError(f"--update {text!r}: that is no optimizer; expected one such as 'adam(1e-3)'")
    return made


def _nearest(name: str) -> str:
    from gradc import optim

    near = difflib.get_close_matches(name, optim.__all__)
    return f"; nearest: {', '.join(near)}" if near else ""


def explain(place: str, given: Sequence[str], asked: Asked, form: str, fold: bool, rules: bool) -> int:
    """Print what ``asked`` is about, as text, ascii, latex or mathml.

    Repeated layers are one rule if ``fold``; ``rules``: under each formula of a text the identities that it was
    simplified by.  Where standard output lacks the signs of a text, it is printed in ASCII.
    """
    loaded = load_function(place, given)
    found = asked.explained(loaded, loaded.values() if asked.update else loaded.specs())
    if isinstance(found, EvaluationTrace):
        traced: EvaluationTrace = found
        written = {
            "text": traced.text,
            "ascii": lambda: traced.text(ascii=True),
            "latex": traced.latex,
            "mathml": traced.mathml,
        }
    else:
        whole: Explanation = found
        written = {
            "text": lambda: whole.text(fold=fold, rules=rules),
            "ascii": lambda: whole.text(ascii=True, fold=fold, rules=rules),
            "latex": lambda: whole.latex(fold=fold),
            "mathml": lambda: whole.mathml(fold=fold),
        }
    print(written["ascii" if form == "text" and not can_print(written["text"]()) else form]())
    first, *others = (list(loaded.arguments)[i] for i in differentiable(loaded))
    if asked.wrt is None and others and form in ("text", "ascii"):
        print(f"\nby {first} alone; --wrt {','.join(others)} is by others")
    return 0


def explore(place: str, given: Sequence[str], output: str, asked: Asked) -> int:
    """Write the explorer's page, with kernels timed on the example arguments."""
    loaded = load_function(place, given)
    explanation = asked.explained(loaded, loaded.values())
    if isinstance(explanation, EvaluationTrace):
        raise UsageError("--html is the page of a gradient: leave out --trace")
    path = explanation.html(output)
    print(f"wrote {path} ({path.stat().st_size:,} bytes)")
    return 0
