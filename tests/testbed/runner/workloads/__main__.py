# SPDX-License-Identifier: Apache-2.0
"""python3 -m runner.workloads: runs one mix with one controller on this KVM host, and reports events."""

import argparse
import json
import subprocess
import sys
import traceback
from pathlib import Path

from .. import devices, host
from ..daemon import DaemonError
from ..events import EventLog
from ..guest import GuestError
from ..qmp import QmpError
from ..scenario import Scenario, ScenarioError
from ..session import Session, default_images
from ..speed import MACHINE, MAX_FACTOR, TooSlow
from . import drive, static
from .mix import Mix, parse, policy_of


def parse_arguments():
    parser = argparse.ArgumentParser(prog="runner.workloads", description=__doc__)
    parser.add_argument("--mix", type=Path, required=True, help="the mix as JSON")
    parser.add_argument("--controller", choices=drive.CONTROLLERS, required=True, help="who sets the guests' balloons")
    parser.add_argument("--devices", choices=devices.NAMES, required=True, help="what the host's disks were slowed down to")
    parser.add_argument("--events", default="/dev/stdout", help="where event lines go (%(default)s)")
    parser.add_argument("--images", type=Path, default=Path("/images/guest"), help="guest images (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path("/scratch"), help="directory for guests' own disks (%(default)s)")
    return parser.parse_args()


def run(options, mix: Mix, events: EventLog):
    events.emit("speed", when="at the start", **MACHINE.measure_at_start())
    images = default_images(False, options.images, options.scratch)
    devices.report(events, options.devices, images.data)
    MACHINE.follow()
    scenario = Scenario(mix.name, mix.description, mix.host_memory, "balloon-vmm", [], [], policy_of(mix))
    session = Session(scenario, images, events, with_daemon=options.controller == "balloond", direct=False)
    try:
        sizes = static.partition(mix, host.meminfo()["MemAvailable"])
        session.start_daemon()
        monitors = drive.boot(session, mix)
        if options.controller == "static":
            static.set_balloons(monitors, sizes)
            events.emit("partition", sizes=sizes)
        drive.run_phases(session, mix, monitors)
        events.emit("end", guests={name: drive.final_counters(guest) for name, guest in session.guests.items()}, host=host.sample(),
                    quick_seconds=round(MACHINE.quick_now(), 1))
    finally:
        MACHINE.stop()
        session.close()


def main() -> int:
    options = parse_arguments()
    events = EventLog(options.events)
    try:
        mix = parse(json.loads(options.mix.read_text()))
        events.emit("start", mix=mix.name, controller=options.controller, host=host.sample(),
                    guests={guest.spec.name: {"memory": guest.spec.memory, "weight": guest.weight} for guest in mix.guests})
        run(options, mix, events)
        return 0
    except TooSlow as error:
        events.emit("failed", reason=str(error), too_slow=True)
        return 1
    except drive.TooLong as error:
        events.emit("failed", reason=str(error), too_slow=MACHINE.factor > MAX_FACTOR)
        return 1
    except (ScenarioError, GuestError, DaemonError, QmpError, OSError, subprocess.SubprocessError) as error:
        reason = str(error)
    except Exception as error:  # a fault of the runner itself: say where
        reason = f"{error!r} at {traceback.format_exc().splitlines()[-3:]}"
    events.emit("failed", reason=reason, too_slow=False)
    print(f"runner: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
