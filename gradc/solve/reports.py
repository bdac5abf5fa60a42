"""What solvers report of their search: numbers that can be traced, and words for them.

Leaves: subclasses of `Report`, whose ``status`` is 0 if the search has found what it was to find; ``message`` says what
any other status means.  A batch of searches has arrays of all of these.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from gradc.api.custom import custom_derivative
from gradc.errors import TraceError
from gradc.node import Node, dsl, here
from gradc.solve.statuses import Status


class Report:
    """The result of a search; subclasses are trees, which compiled functions can return and which can be batched."""

    STATUSES: ClassVar[type[Status]]

    status: Any  #: 0: found; what other numbers mean is in `message`

    @property
    def success(self) -> Any:
        """Whether the search found what it was to find."""
        return self.status == 0

    @property
    def message(self) -> Any:
        """The status in words; a list of them for a batch.  TraceError inside a trace, where there are no words."""
        if isinstance(self.status, Node):
            raise TraceError(
                f"{here()}: a message is words, which a traced status cannot choose: read .status or .success here, or "
                ".message of the result outside"
            )
        flat = [self.STATUSES(int(k)).words for k in np.ravel(self.status)]
        return flat[0] if np.ndim(self.status) == 0 else flat


@custom_derivative
def trusted(x: Any, found: Any) -> Any:
    """``x``, whose derivative is NaN unless it was ``found``: what is no solution does not move as one."""
    return x


@trusted.defjvp
def _nan_unless_found(primals: Any, tangents: Any) -> Any:
    (x, found), (dx, _) = primals, tangents
    return x, dx * dsl.where(found, 1.0, dsl.nan)
