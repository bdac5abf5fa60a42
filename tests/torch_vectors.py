"""What torch.nn.functional of version 2.14 gives for the programs of `nn_cases.py`: values and derivatives.

``python tests/torch_vectors.py`` in an environment with PyTorch writes tests/torch_nn.json; the tests read it, and need
no PyTorch.  Computed in float64.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("torch_nn.json")


def _made(text: str, order: int) -> dict[str, Any]:
    """The value, the gradient of a weighted sum of it, and the gradient of a weighted sum of that gradient."""
    import torch
    from nn_cases import ARRAYS, differentiated, names_in, program, weights  # type: ignore[import-not-found]

    names = names_in(text)
    arrays = {name: torch.tensor(ARRAYS[name]) for name in names}
    free = [arrays[name].requires_grad_() for name in differentiated(names)]
    value = program(text, torch.nn.functional)(*arrays.values())

    def told(tensors: Any) -> list[Any]:
        return [t.detach().numpy(force=True).tolist() for t in tensors]

    def of(total: Any) -> list[Any]:
        found = torch.autograd.grad(total, free, create_graph=order > 1, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(free, found, strict=True)]

    def weighed(parts: Any, which: int) -> Any:
        return sum((torch.tensor(weights(tuple(t.shape), which + i)) * t).sum() for i, t in enumerate(parts))

    result: dict[str, Any] = {"value": value.detach().numpy().tolist()}
    total = weighed([value], 0)
    gradient = of(total) if total.requires_grad else [torch.zeros_like(x) for x in free]
    result["gradient"] = told(gradient)
    if order > 1:
        total = weighed(gradient, 1)
        result["second"] = told(of(total) if total.requires_grad else [torch.zeros_like(x) for x in free])
    return result


def main() -> None:
    """Write the file."""
    sys.path.insert(0, str(FILE.parent))
    from nn_cases import CASES

    made = {}
    for text, order in CASES.items():
        try:
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
