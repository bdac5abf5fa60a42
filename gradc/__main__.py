"""``python -m gradc`` is the same as ``gradc``."""

from __future__ import annotations

import sys

from gradc.cli import main

sys.exit(main())
