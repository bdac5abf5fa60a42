"""What the emitters must know of an NVIDIA GPU.

Enters: a name such as "sm_90".  Leaves: a `Gpu`, a plain value.  Invariant: nothing here asks a driver.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradc.errors import CompileError

TRIPLE = "nvptx64-nvidia-cuda"
WARP = 32

#: Architecture -> the oldest PTX version that has it: the older the text, the more drivers take it.
PTX_VERSIONS = {
    "sm_75": (6, 5), "sm_80": (7, 0), "sm_86": (7, 1), "sm_89": (7, 8), "sm_90": (7, 8), "sm_100": (8, 6),
    "sm_120": (8, 7),
}  # fmt: skip

#: PTX version -> the CUDA version of the first driver that reads it (NVIDIA, PTX ISA, release history).
CUDA_VERSIONS = {(6, 5): (10, 2), (7, 0): (11, 0), (7, 1): (11, 1), (7, 8): (11, 8), (8, 6): (12, 7), (8, 7): (12, 8)}


@dataclass(frozen=True)
class Gpu:
    """One generation of GPUs: code for ``sm_80`` runs on it and on every later one of the same PTX."""

    arch: str

    def __post_init__(self) -> None:
        if self.arch not in PTX_VERSIONS:
            raise CompileError(f"no GPU {self.arch!r}; there are {', '.join(PTX_VERSIONS)}")

    @property
    def compute_capability(self) -> tuple[int, int]:
        """(major, minor)."""
        return divmod(int(self.arch.removeprefix("sm_")), 10)

    @property
    def ptx_version(self) -> tuple[int, int]:
        return PTX_VERSIONS[self.arch]

    @property
    def cuda_version(self) -> tuple[int, int]:
        """The CUDA version that a driver must know to load the code."""
        return CUDA_VERSIONS[self.ptx_version]

    @property
    def features(self) -> str:
        """LLVM's feature string."""
        major, minor = self.ptx_version
        return f"+ptx{major}{minor}"

    @property
    def copies_asynchronously(self) -> bool:
        """Whether cp.async moves global to shared memory past the registers."""
        return self.compute_capability >= (8, 0)

    @property
    def ahead_bytes(self) -> int:
        """Other warps run while one waits for memory."""
        return 0

    @property
    def has_tf32(self) -> bool:
        """Whether tensor cores multiply float32 rounded to tf32."""
        return self.compute_capability >= (8, 0)

    @property
    def shortest_row(self) -> int:
        """Any: a team takes as many threads as a row has elements, and each kernel more would read the rows once more
        and cost a launch, 2 µs or so, in which a device moves megabytes."""
        return 2

    @property
    def masks_cost(self) -> bool:
        """A thread past the end of a row skips its work."""
        return False

    @property
    def largest_square(self) -> int:
        """Shared memory turns tiles (`gradc.codegen.ptx.turn`)."""
        return 0

    def lanes(self, dtype: str) -> int:
        """A warp is the vector that the scheduler chooses axes for, whatever the dtype."""
        return WARP
