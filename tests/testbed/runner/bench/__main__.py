# SPDX-License-Identifier: Apache-2.0
"""python3 -m runner.bench: measures the VMMs in turn (A B C A B C ...), part after part, and reports each sample as an event."""

import argparse
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path

from ..daemon import DaemonError
from ..events import EventLog
from ..guest import HELPER_CPU, GuestError
from ..qmp import QmpError
from ..session import default_images
from ..vmm import OLD
from .bed import Bed, StepError
from .parts import MINUTES, Part, room_for_another, select

# Whoever fails this often in one part is left out of its further rounds.
FAILURES_BORNE = 2


class StepTimeout(Exception):
    pass


class Bench:
    def __init__(self, bed: Bed, events: EventLog, repeats: int, stretch: float):
        self._bed, self._events, self._repeats, self._stretch = bed, events, repeats, stretch
        self.failed = False

    def run(self, part: Part):
        self._events.emit("part", part=part.name, title=part.title)
        started, done, longest, failures = time.monotonic(), 0, 0.0, dict.fromkeys(part.subjects, 0)
        while room_for_another(done, self._repeats, time.monotonic() - started, longest, part.budget * self._stretch):
            round_started = time.monotonic()
            for subject in part.subjects:
                if failures[subject] < FAILURES_BORNE and not self._step(part, subject, done):
                    failures[subject] += 1
            longest = max(longest, time.monotonic() - round_started)
            done += 1

    def _step(self, part: Part, subject: str, number: int) -> bool:
        started = time.monotonic()
        try:
            signal.alarm(part.limit)
            values = part.step(self._bed, subject)
            signal.alarm(0)
            self._events.emit("figures", part=part.name, subject=subject, round=number, values=values,
                              seconds=round(time.monotonic() - started, 1))
            return True
        except StepTimeout:
            reason = f"no end within {part.limit} s, at {_place(sys.exc_info()[1])}"
        except (StepError, GuestError, DaemonError, QmpError, OSError, subprocess.SubprocessError) as error:
            reason = f"{error}" if isinstance(error, (StepError, GuestError)) else f"{error} (at {_place(error)})"
        except Exception as error:  # a fault of the measurement itself
            reason = f"{error!r} at {_place(error)}"
        finally:
            signal.alarm(0)
            self._bed.close()
        self.failed = True
        self._events.emit("step_failed", part=part.name, subject=subject, round=number, reason=reason[:600])
        return False


def _place(error: BaseException) -> str:
    ours = [frame for frame in traceback.extract_tb(error.__traceback__) if "/runner/" in frame.filename]
    return f"{Path(ours[-1].filename).name}:{ours[-1].lineno}" if ours else "an unknown place"


def _out_of_time(number, frame):
    raise StepTimeout()


def main() -> int:
    parser = argparse.ArgumentParser(prog="runner.bench", description=__doc__)
    parser.add_argument("--events", default="/dev/stdout", help="where event lines go (%(default)s)")
    parser.add_argument("--images", type=Path, default=Path("/images/guest"), help="guest images (%(default)s)")
    parser.add_argument("--tools", type=Path, default=Path("/opt/testbed/tools.ext4"), help="the disk with fio and iperf3 (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path("/scratch"), help="directory for guests' own disks (%(default)s)")
    parser.add_argument("--only", default="", help="parts, separated by commas")
    parser.add_argument("--against-old", action="store_true", help=f"beside {OLD} instead of QEMU")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of each part, if its time allows (%(default)s)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="how long all parts together may take (%(default)s)")
    options = parser.parse_args()
    os.sched_setaffinity(0, {HELPER_CPU})
    signal.signal(signal.SIGALRM, _out_of_time)
    events = EventLog(options.events)
    bed = Bed(default_images(False, options.images, options.scratch), options.tools, options.scratch / "run")
    bench = Bench(bed, events, options.repeats, options.minutes / MINUTES)
    for part in select(options.only, options.against_old):
        bench.run(part)
    events.emit("end")
    return 1 if bench.failed else 0


if __name__ == "__main__":
    sys.exit(main())
