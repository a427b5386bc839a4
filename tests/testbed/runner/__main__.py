# SPDX-License-Identifier: Apache-2.0
"""python3 -m runner: runs one scenario on this KVM host, to its end or its first failure."""

import argparse
import json
import subprocess
import sys
import traceback
from pathlib import Path

from . import devices, host
from .daemon import DaemonEnded, DaemonError
from .events import EventLog
from .guest import GuestEnded, GuestError
from .libvirt import set_domains
from .partition import partition_of
from .phases import run_phase
from .sampler import Sampler
from .scenario import Scenario, ScenarioError, parse
from .session import Session, default_images
from .speed import MACHINE, TooSlow

TOO_SLOW = 3  # exit status: nothing was judged
CONTROLLERS = ("balloond", "none", "static", "mom")


def parse_arguments():
    parser = argparse.ArgumentParser(prog="runner", description=__doc__)
    parser.add_argument("--scenario", type=Path, required=True, help="scenario as JSON")
    parser.add_argument("--mode", choices=CONTROLLERS, default="balloond", help="who sets the balloons (%(default)s); none: host swap only")
    parser.add_argument("--events", default="/dev/stdout", help="where event lines go (%(default)s)")
    parser.add_argument("--images", type=Path, default=Path("/images/guest"), help="guest images (%(default)s)")
    parser.add_argument("--scratch", type=Path, default=Path("/scratch"), help="directory for guests' own disks (%(default)s)")
    parser.add_argument("--direct", action="store_true", help="this host has KVM of its own: do not pin guests to one CPU")
    return parser.parse_args()


def run(options, scenario: Scenario, events: EventLog):
    images = default_images(options.direct, options.images, options.scratch)
    events.emit("speed", when="at the start", **MACHINE.measure_at_start())
    if not options.direct:
        devices.report(events, scenario.devices, images.data)
    MACHINE.follow()
    session = Session(scenario, images, events, options.mode == "balloond", options.direct, options.mode == "mom")
    available = host.meminfo()["MemAvailable"]
    try:
        session.start_hypervisors()
        session.start_daemon()
        session.start_scrapes()
        session.boot_all()
        MACHINE.booted(len(session.guests), session.booted_together())
        tell_speed(events, "after the guests' boot")
        if options.mode == "static":
            sizes = partition_of(scenario, available)
            set_domains(sizes)
            events.emit("partition", sizes=sizes)
        sampler = Sampler(events, session.guests, session.daemon or session.mom, session.watch)
        sampler.start()
        for phase in scenario.phases:
            run_phase(session, sampler, phase)
            tell_speed(events, f"after {phase.name}")
        sampler.stop()
        if session.mom:
            events.emit("mom", **session.mom.acts())
        session.power_off_all()
        events.emit("end", host=host.sample(), guests_powered_off=len(session.guests))
    finally:
        MACHINE.stop()
        session.close()


def tell_speed(events: EventLog, when: str):
    events.emit("speed", when=when, **MACHINE.measure())


def main() -> int:
    options = parse_arguments()
    events = EventLog(options.events)
    try:
        scenario = parse(json.loads(options.scenario.read_text()))
    except ScenarioError as error:
        events.emit("failed", reason=str(error), ended=False)
        print(f"runner: {error}", file=sys.stderr)
        return 2
    events.emit("start", scenario=scenario.name, mode=options.mode, vmm="+".join(scenario.vmms), host=host.sample(),
                guests={guest.name: {"memory": guest.memory} for guest in scenario.guests})
    for note in scenario.notes:
        events.emit("note", text=note)
    try:
        run(options, scenario, events)
        return 0
    except TooSlow as error:
        events.emit("too_slow", reason=str(error))
        print(f"runner: this machine is too slow: {error}", file=sys.stderr)
        return TOO_SLOW
    except (GuestError, DaemonError, OSError, subprocess.SubprocessError) as error:
        reason, ended = str(error), isinstance(error, (GuestEnded, DaemonEnded))
    except Exception as error:  # a fault of the runner itself: say where
        reason, ended = f"{error!r} at {traceback.format_exc().splitlines()[-3:]}", False
    events.emit("failed", reason=reason, ended=ended)
    print(f"runner: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
