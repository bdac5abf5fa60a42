"""Small faults, planted one at a time: would the tests notice?

`make mutants N=300` plants N faults (a sign, swapped operands, an axis off by one, a dropped guard, `<` for `<=`, a
dropped term) into `ops`, `diff`, `passes`, `schedule` and `codegen`, each in the syntax tree as the module is imported,
and runs the tests that run the faulty place, the quickest and most specific first.

`faults` says which faults there are, `measure` which tests run which place, `choose` which of them are run for a fault.
Start reading at `__main__.judge`.
"""

from __future__ import annotations
