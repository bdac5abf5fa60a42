"""The status word of a call: nothing but what compiled code writes there and what Python reads.

The kind of the first failure stands in the low byte and the number of its node, or kernel, above; 0: all went well.
Code for CPUs and for GPUs writes the same word.  Start reading at `kind_of`.
"""

from __future__ import annotations

#: Of a node: an index outside of its axis; an integer to a negative integer power.
OUT_OF_RANGE, NEGATIVE_POWER = 1, 2
#: Of a kernel: an access outside of its buffers, see `gradc.codegen.bounds`.
OUT_OF_BOUNDS = 3
#: Of no node: ended early before anything of a donated array was overwritten, or after; see `gradc.codegen.poll`.
INTERRUPTED, HALF_WRITTEN = 254, 255
#: Bits of the kind.
KIND_BITS = 8


def kind_of(status: int) -> int:
    """What happened."""
    return status & (1 << KIND_BITS) - 1


def number_of(status: int) -> int:
    """To which node or kernel."""
    return status >> KIND_BITS
