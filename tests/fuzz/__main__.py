"""`python -m tests.fuzz`: draw programs and hold each against its derivations; resumes where it stood.

Exit status: 0 if no program failed, 1 if some did (the folder holds them), 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("-n", type=int, default=1000, help="programs in all, those of an earlier run included")
    parser.add_argument("--seed", type=int, default=0, help="the sequence of programs")
    parser.add_argument("--folder", type=Path, default=Path(".fuzz"), help="state and failures")
    parser.add_argument("--show", type=int, metavar="NUMBER", help="print one program of the sequence and stop")
    parser.add_argument("--again", action="store_true", help="the programs that failed, once more")
    parser.add_argument("--shrink", type=float, default=30.0, metavar="SECONDS", help="for one failing program")
    options = parser.parse_args()
    os.environ["GRADC_CHECK"] = "1"
    from tests.fuzz.campaign import Campaign
    from tests.fuzz.generate import program
    from tests.fuzz.report import show

    if options.show is not None:
        print(show(program(options.seed, options.show)))
        return 0
    folder = options.folder / f"seed-{options.seed}"
    campaign = Campaign(options.seed, folder, options.shrink, lambda text: print(text, flush=True))
    try:
        campaign.resumed()
        return 0 if (campaign.again() if options.again else campaign.run(options.n)) else 1
    except KeyboardInterrupt:
        print(f"stopped after {campaign.done} programs; the same command goes on from there", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
