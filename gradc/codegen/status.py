"""The status word of a call: nothing but what compiled code writes there and what Python reads.

The kind of the first failure stands in the low byte, the number of its node, kernel or result in four bytes above, and
above them, for what is done to each matrix of a batch, one more than the number of the matrix; 0: all went well.
Code for CPUs and for GPUs writes the same word.  Start reading at `kind_of`.
"""

from __future__ import annotations

#: Of a node: an index outside of its axis; an integer to a negative integer power.
OUT_OF_RANGE, NEGATIVE_POWER = 1, 2
#: Of a kernel: an access outside of its buffers, see `gradc.codegen.bounds`.
OUT_OF_BOUNDS = 3
#: Of a node, in one of its matrices: it is not positive definite; it is singular; iterations found no end.
NOT_POSITIVE, SINGULAR, NO_CONVERGENCE = 4, 5, 6
#: Of a result, by its number: it holds a NaN, an infinity, a subnormal number; see `gradc.codegen.results`.
IS_NAN, IS_INFINITE, IS_SUBNORMAL = 7, 8, 9
#: what ``check_nans=`` may ask for, in the order in which it is reported
WATCHED = {"nan": IS_NAN, "overflow": IS_INFINITE, "denormal": IS_SUBNORMAL}
#: Of no node: ended early before anything of a donated array was overwritten, or after; see `gradc.codegen.poll`.
INTERRUPTED, HALF_WRITTEN = 254, 255
#: Bits of the kind, and bits below the number of a matrix, which is told up to so many.
KIND_BITS, ELEMENT_BITS, MOST_ELEMENT = 8, 40, 2**23 - 1


def kind_of(status: int) -> int:
    """What happened."""
    return status & (1 << KIND_BITS) - 1


def number_of(status: int) -> int:
    """To which node or kernel."""
    return (status & (1 << ELEMENT_BITS) - 1) >> KIND_BITS


def element_of(status: int) -> int | None:
    """In which matrix of a batch, in row-major order; None if that is not said."""
    told = status >> ELEMENT_BITS
    return told - 1 if 0 < told < MOST_ELEMENT else None
