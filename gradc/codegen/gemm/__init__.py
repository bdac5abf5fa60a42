"""Generated matrix products: C = alpha * A·B (+ C), batched, any strides; float32, float64, integers and bool.

Enters: a `Gemm` and a `Target`.  Leaves: one function per product in a `Module`, and kernels that its products share.

The order of every sum is a function of shapes, strides and target, never of addresses, so equal calls give equal bits:

- tiles (nearly every shape): k is cut into blocks of `Plan.depth`; within a block one FMA chain adds k = 0, 1, 2, …
  starting from zero; the sums of the blocks are added to C in order, the first of them to C's old value if the product
  accumulates.  ``alpha`` multiplies the sum of a block (``fma(alpha, sum, C)``), not the elements;
- inner products (few rows, or long sums, of operands contiguous along k): lanes lie along k, in the order that
  `gemm.dot` states;
- the columns or rows behind the last whole vector may be a product of their own (`Plan.rest`), of either kind.

Error: |C - fl(C)| <= gamma(k + 2) * |A||B| elementwise, the bound of any order of summation (Higham, Accuracy and
Stability of Numerical Algorithms, 2nd ed., section 3.1 and 3.5).

Kernels take pointers, strides and masks and know no graph, yet each module has its own: LLVM needs 1 to 2.5 ms for a
tile or a copy and 6 ms for an inner product, about 10 of the 110 ms of a fully connected network's first call and 15 of
a transformer's 450. A library of them, cached for each CPU, could save no more than that.

`problem` says what is computed, `plan` decides how, `blocks` has the loops, `tile` and `dot` the kernels, `pack` the
copies, `output` the epilogue, `cut` what threads share.  Start reading at `emit.emit_gemm`.
"""

from __future__ import annotations

from gradc.codegen.gemm.cut import Cut
from gradc.codegen.gemm.emit import emit_gemm, gemm_cut, gemm_scratch_bytes
from gradc.codegen.gemm.output import Epilogue
from gradc.codegen.gemm.problem import Gemm, Half

__all__ = ["Cut", "Epilogue", "Gemm", "Half", "emit_gemm", "gemm_cut", "gemm_scratch_bytes"]
