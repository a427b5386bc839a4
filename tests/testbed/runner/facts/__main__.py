# SPDX-License-Identifier: Apache-2.0
"""python3 -m runner.facts: measures what ballooning does to a guest's huge pages, and reports each round as an event."""

import argparse
import os
import subprocess
import sys
from pathlib import Path

from ..bench.bed import Bed, StepError
from ..events import EventLog
from ..guest import HELPER_CPU, GuestError
from ..qmp import QmpError
from ..session import default_images
from . import huge_pages


def main() -> int:
    parser = argparse.ArgumentParser(prog="runner.facts", description=__doc__)
    parser.add_argument("--events", default="/dev/stdout", help="where event lines go (%(default)s)")
    parser.add_argument("--images", type=Path, default=Path("/images/guest"), help="guest images (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path("/scratch"), help="directory for logs and sockets (%(default)s)")
    parser.add_argument("--repeats", type=int, default=1, help="rounds (%(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {HELPER_CPU})
    events = EventLog(options.events)
    bed = Bed(default_images(False, options.images, options.scratch), Path(), options.scratch / "run")
    failed = False
    for _ in range(options.repeats):
        for vmm, defrag in huge_pages.CASES:
            try:
                events.emit("fact", **huge_pages.measure(bed, vmm, defrag, lambda text: events.emit("progress", text=text)))
            except (StepError, GuestError, QmpError, OSError, subprocess.SubprocessError) as error:
                events.emit("failed", vmm=vmm, defrag=defrag, reason=f"{error}"[:600])
                failed = True
            finally:
                bed.close()
    events.emit("end")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
