"""Small faults, planted one at a time: would the tests notice?

`make mutants N=150` plants N faults (a sign, swapped operands, an axis off by one, a dropped guard, `<` for `<=`, a
dropped term) into `ops`, `diff`, `passes`, `schedule` and `codegen`, each in the syntax tree as the module is imported,
and runs the tests that concern the file (`concerns`).  Start reading at `faults`.
"""

from __future__ import annotations
