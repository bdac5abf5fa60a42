"""NumPy's factorisations: Cholesky, QR, eigenvalues of symmetric matrices, singular values.

Enters: matrices in the last two axes.  Leaves: their factors, as NumPy's named tuples where NumPy has some.
Invariant: where NumPy reads one triangle, so do these, and the derivative lives in it.  ``check=False``, which NumPy
has not, gives NaN for a matrix that cannot be factorised, instead of a `gradc.LinAlgError`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from gradc.errors import TraceError
from gradc.node import OPS, Node, as_node, describe, here
from gradc.numpy.matrices import matrices, results, turned, wide
from gradc.numpy.public import Array, ArrayLike, function
from gradc.ops.factorisations.matrices import symmetric_from_below

__all__ = ["cholesky", "eig", "eigh", "eigvals", "eigvalsh", "qr", "svd", "svdvals"]


class EighResult(NamedTuple):
    """Eigenvalues, ascending, and eigenvectors in the columns of a matrix."""

    eigenvalues: Array
    eigenvectors: Array


class QRResult(NamedTuple):
    """An orthogonal and an upper triangular factor."""

    Q: Array
    R: Array


class SVDResult(NamedTuple):
    """Left singular vectors in columns, singular values, descending, and right singular vectors in rows."""

    U: Array
    S: Array
    Vh: Array


@function("linalg.cholesky")
def cholesky(a: ArrayLike, /, *, upper: bool = False, check: bool = True) -> Array:
    """The lower triangular L with LLᵀ = A, of the lower triangle of A; with ``upper`` the U with UᵀU = A, of the upper.

    Shape (…, n, n).  `gradc.LinAlgError` where A is not positive definite, NaN with ``check=False``.
    """
    return _cholesky(matrices(a, "cholesky", square=True), upper=bool(upper), check=bool(check))


@wide
def _cholesky(a: Node, *, upper: bool, check: bool) -> Node:
    if upper:
        return turned(OPS["cholesky"].make((turned(a),), check=check))
    return OPS["cholesky"].make((a,), check=check)


@function("linalg.qr")
def qr(a: ArrayLike, mode: str = "reduced", *, check: bool = True) -> Any:
    """Q with orthonormal columns and upper triangular R, QR = A.

    Shapes (…, m, n) → (…, m, k) and (…, k, n), k = min(m, n), or m with ``mode="complete"``; ``mode="r"``: R alone.
    The derivative is that of a matrix of full rank; the columns of Q beyond n have none.
    """
    node = matrices(a, "qr")
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(
            f"{here()}: qr: mode={mode!r}; expected 'reduced', 'complete' or 'r' ('raw' is LAPACK's own storage)"
        )
    q, r = _qr(node, complete=mode == "complete", check=bool(check))
    return r if mode == "r" else QRResult(q, r)


@wide
def _qr(a: Node, *, complete: bool, check: bool) -> tuple[Node, ...]:
    return tuple(results("qr", a, complete=complete, check=check))


@function("linalg.eigh")
def eigh(a: ArrayLike, UPLO: str = "L", *, check: bool = True) -> Any:
    """Eigenvalues (…, n), ascending, and eigenvectors (…, n, n), in columns, of the lower triangle ("U": the upper).

    The first element of nearly the largest size of each eigenvector is positive.  Where eigenvalues are equal (to
    rounding) the vectors have no derivative: NaN, but 0 where nothing asks for it.
    """
    return EighResult(*_eigh(_triangle(a, UPLO, "eigh"), check=bool(check)))


@wide
def _eigh(a: Node, *, check: bool) -> tuple[Node, ...]:
    return tuple(results("eigh", a, check=check))


def _triangle(a: Any, UPLO: Any, name: str) -> Node:
    """The matrices with what is to be read in the lower triangle."""
    node = matrices(a, name, square=True)
    if not isinstance(UPLO, str) or UPLO.upper() not in ("L", "U"):
        raise ValueError(f"{here()}: {name}: UPLO={UPLO!r}; expected 'L' or 'U', which triangle is read")
    return node if UPLO.upper() == "L" else turned(node)


@function("linalg.eigvalsh")
def eigvalsh(a: ArrayLike, UPLO: str = "L", *, check: bool = True) -> Array:
    """Eigenvalues (…, n), ascending, of the lower triangle ("U": the upper).

    The derivative of a symmetric function of them is right where some are equal, too.
    """
    return _eigvalsh(_triangle(a, UPLO, "eigvalsh"), check=bool(check))


@wide
def _eigvalsh(a: Node, *, check: bool) -> Node:
    return OPS["eigvalsh"].make((a,), check=check)


@function("linalg.svd")
def svd(
    a: ArrayLike, full_matrices: bool = True, compute_uv: bool = True, hermitian: bool = False, *, check: bool = True
) -> Any:
    """U, S and Vᵀ with U diag(S) Vᵀ = A, S descending; S alone with ``compute_uv=False``.

    Shapes (…, m, n) → (…, m, m), (…, k), (…, n, n), k = min(m, n); with ``full_matrices=False`` (…, m, k), (…, k, n).
    ``hermitian`` reads the lower triangle alone.  The vectors that only complete a basis have no derivative: take
    ``full_matrices=False``; those of equal singular values have none either: NaN, but 0 where nothing asks for it.
    """
    node = symmetric_if(a, hermitian, "svd")
    if not compute_uv:
        return _svdvals(node, check=bool(check))
    return SVDResult(*_svd(node, full=bool(full_matrices), check=bool(check)))


def symmetric_if(a: Any, hermitian: Any, name: str) -> Node:
    """Matrices, of which the lower triangle counts if they are said to be symmetric."""
    node = matrices(a, name, square=bool(hermitian))
    return symmetric_from_below(node) if hermitian else node


@wide
def _svd(a: Node, *, full: bool, check: bool) -> tuple[Node, ...]:
    return tuple(results("svd", a, full=full, check=check))


@function("linalg.svdvals")
def svdvals(x: ArrayLike, /, *, check: bool = True) -> Array:
    """Singular values (…, k), descending, of matrices (…, m, n), k = min(m, n).

    The derivative of a symmetric function of them is right where some are equal, too; of one that is 0 it is 0.
    """
    return _svdvals(matrices(x, "svdvals"), check=bool(check))


@wide
def _svdvals(a: Node, *, check: bool) -> Node:
    return OPS["svdvals"].make((a,), check=check)


def singular_values(a: Node) -> Node:
    """Of matrices in the last two axes, for norms: NaN where an element is."""
    return _svdvals(a, check=False)


def _complex(a: Any, name: str) -> Any:
    raise TraceError(
        f"{here()}: {name} of {describe(as_node(a))}: the eigenvalues of a matrix that is not symmetric are complex, "
        "and gradc computes with real numbers.\n  Of a symmetric matrix take eigh or eigvalsh; svdvals gives singular "
        "values."
    )


@function("linalg.eig")
def eig(a: ArrayLike) -> Any:
    """Refused: the eigenvalues of a matrix that is not symmetric are complex, and gradc computes with real numbers."""
    return _complex(a, "eig")


@function("linalg.eigvals")
def eigvals(a: ArrayLike) -> Any:
    """Refused: the eigenvalues of a matrix that is not symmetric are complex, and gradc computes with real numbers."""
    return _complex(a, "eigvals")
