"""What torch.nn.functional of version 2.14 gives for the programs of `layer_cases.py`: values and two derivatives.

``python tests/torch_layers.py`` in an environment with PyTorch writes tests/torch_layers.json; the tests read it, and
need no PyTorch.  Computed in float64; of each result one weighted sum is stored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("torch_layers.json")


def _made(text: str, order: int) -> dict[str, Any]:
    """[sum, scale] of the value, of the gradient of that sum in each array, and of the gradients of their sum."""
    import torch
    from layer_cases import ARRAYS  # type: ignore[import-not-found]
    from nn_cases import differentiated, names_in, weights  # type: ignore[import-not-found]

    names = names_in(text, ARRAYS)
    arrays = {name: torch.tensor(ARRAYS[name]) for name in names}
    free = [arrays[name].requires_grad_() for name in differentiated(names)]

    def weighed(parts: Any, which: int) -> Any:
        return sum((torch.tensor(weights(tuple(t.shape), which + i)) * t).sum() for i, t in enumerate(parts))

    def told(parts: Any) -> list[list[float]]:
        sums = [weighed([t], 9).item() for t in parts]
        return [[s, t.abs().sum().item()] for s, t in zip(sums, parts, strict=True)]

    def of(total: Any) -> list[Any]:
        if not total.requires_grad:
            return [torch.zeros_like(x) for x in free]
        found = torch.autograd.grad(total, free, create_graph=order > 1, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(free, found, strict=True)]

    value = eval(text, {"F": torch.nn.functional, "T": torch, **arrays})
    parts = value if isinstance(value, tuple) else (value,)
    result: dict[str, Any] = {"shapes": [list(t.shape) for t in parts], "value": told(parts)}
    parts = [t for t in parts if t.is_floating_point()]
    gradient = of(weighed(parts, 0))
    result["gradient"] = told(gradient)
    if order > 1:
        result["second"] = told(of(weighed(gradient, 1)))
    return result


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(FILE.parent))
    import torch
    from layer_cases import CASES

    made = {}
    for text, order in CASES.items():
        try:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # it has second derivatives
                made[text] = _made(text, order)
        except RuntimeError as error:
            if "is not implemented" not in str(error):
                raise RuntimeError(f"PyTorch refuses {text}") from error
            made[text] = _made(text, 1)  # PyTorch has no second derivative of it
        except Exception as error:
            raise RuntimeError(f"PyTorch refuses {text}") from error
    lines = ",\n".join(f"{json.dumps(text)}: {json.dumps(row)}" for text, row in made.items())
    FILE.write_text(f"{{\n{lines}\n}}\n")


if __name__ == "__main__":
    main()
