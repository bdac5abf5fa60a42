"""Which machines there are, by what a user calls them.

Enters: options.  Leaves: the `Machine` that they name.  Start reading at `MACHINES`.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from gradc.errors import CompileError
from gradc.machines.options import Options
from gradc.node import here
from gradc.process import load_module

if TYPE_CHECKING:
    from gradc.machines.machine import Machine

#: How a target's name begins -> the module of its machine.  That has ``machine``, which makes one from options and
#: raises CompileError for those that it cannot follow, and ``names``, all targets that it knows.
MACHINES = {
    "cpu": "gradc.machines.cpu",
    "sm_": "gradc.machines.ptx",
}


def is_target(name: str) -> bool:
    """Whether a name is one of a machine in the table, known or not, rather than one of LLVM's triples."""
    return any(map(name.startswith, MACHINES))


def known_targets() -> tuple[str, ...]:
    """The names of all targets of the table."""
    return tuple(name for m in MACHINES.values() for name in _module(m).names)


def machine_for(options: Options) -> Machine:
    """The machine that the options name.  Raises CompileError for an unknown one, or options that it cannot follow."""
    module = next((m for begin, m in MACHINES.items() if str(options.target).startswith(begin)), None)
    known = _module(module).names if module is not None else ()
    if module is None or options.target not in known:
        raise CompileError(f"{here()}: no target {options.target!r}; there are {', '.join(known_targets())}")
    try:
        made: Machine = _module(module).machine(options)
    except CompileError as error:
        raise CompileError(f"{here()}: {error}") from None
    return made


def _module(name: str) -> Any:
    load_module(name)  # and with it LLVM
    return sys.modules[name]
