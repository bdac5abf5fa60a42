"""What gradc raises and warns. Every message says: the user's line, what was given, what was expected, what to do."""

from __future__ import annotations

import numpy as np


class GradcError(Exception):
    """Base of every error that gradc raises on purpose."""


class ShapeError(GradcError, ValueError):
    """Shapes that do not fit together."""


class DTypeError(GradcError, TypeError):
    """A dtype that an operation cannot take."""


class TraceError(GradcError, TypeError):
    """A traced value used where a number is needed, a leaked traced value, an unsupported function."""


class LeakedValueError(TraceError):
    """A traced value that outlived its trace; ``what`` describes it."""

    def __init__(self, message: str, what: str = ""):
        super().__init__(message)
        self.what = what


class IndexingError(GradcError, IndexError):
    """An index out of range or of the wrong kind."""


class MissingNameError(GradcError, KeyError):
    """A name that a table does not have: a column, a parameter, a line.  It prints as it stands, not as a key."""

    def __str__(self) -> str:
        return str(self.args[0])


class ArgumentError(GradcError):
    """An argument that does not fit what was compiled; `jit` then compiles for it, an Executable reports it."""


class ArgumentShapeError(ArgumentError, ShapeError):
    """An argument of another shape."""


class ArgumentDTypeError(ArgumentError, DTypeError):
    """An argument of another dtype, or no array."""


class StorageError(GradcError, ValueError):
    """An array whose memory cannot be used as asked: a donated, bound or ``out`` array with the wrong storage."""


class CompileError(GradcError):
    """A graph that the chosen target cannot run, or compiled code that reported a failure."""


class LinAlgError(GradcError, np.linalg.LinAlgError):
    """A matrix that an algorithm fails of: not positive definite, singular, or without convergence."""


class MatrixShapeError(ShapeError, LinAlgError):
    """An array that is no matrix, or no square one, where one is needed."""


class NoCodeError(CompileError):
    """Work that a machine has no code for; ``node`` is the number of the node that it computes, or −1."""

    def __init__(self, what: str, machine: str, node: int):
        super().__init__(f"{what} has no code on {machine}")
        self.node = node


class ScheduleError(CompileError):
    """A schedule that would compute on other values than it means to: a defect of gradc, found before it runs."""


class VerificationError(GradcError):
    """Compiled code that was compared with the interpreter and computes something else: a defect of gradc."""


class NumericalError(GradcError, FloatingPointError):
    """A result that holds a NaN, an infinity or a subnormal number, where ``check_nans=`` asks for none.

    ``fault`` (a `gradc.diagnostics.Fault`) says where it began; None where that could not be found.
    """

    def __init__(self, message: str, fault: object = None):
        super().__init__(message)
        self.fault = fault


class DeviceError(GradcError):
    """A GPU that is missing, too old, out of memory, or reported a failure of its own."""


class CheckpointError(GradcError, ValueError):
    """A file whose tree cannot be read: torn, damaged, foreign, or of a newer version; the message says which."""


class CheckpointMismatchError(CheckpointError):
    """A tree in a file that does not fit the one that was asked for; ``problems`` has a line for each difference."""

    def __init__(self, message: str, problems: tuple[str, ...] = ()):
        super().__init__(message)
        self.problems = problems


class PromotionWarning(UserWarning):
    """A float64 constant silently widened a float32 computation."""


class VersionsWarning(UserWarning):
    """A function meets so many kinds of arguments that its compiled versions do not all stay."""


class CheckpointWarning(UserWarning):
    """A checkpoint that was passed over because it cannot be read, or an old one that cannot be removed."""


class CacheWarning(UserWarning):
    """The directory of the object cache cannot be trusted, so it is not used."""


class ArtefactWarning(UserWarning):
    """A file beside an artefact was kept, because gradc did not write it."""


class FrozenWarning(UserWarning):
    """Numbers were drawn at random while a function was traced: they are constants of the graph."""


class KeyReuseWarning(UserWarning):
    """A random key was used twice in one trace: both uses get the same numbers."""


class DivergedError(GradcError, ArithmeticError):
    """A training run whose parameters are no numbers any more; ``run`` is the run as it stands."""

    def __init__(self, message: str, run: object = None):
        super().__init__(message)
        self.run = run
