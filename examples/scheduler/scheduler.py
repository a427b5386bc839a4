#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""Places guests on hosts that balloond manages, and may be killed at any moment.

    scheduler.py --state FILE --host a=/run/a.sock --host b=/run/b.sock --guest web-1=2048 --start 'start {socket} {name} {mib}'

Each guest (name and MiB) goes through the phases of PHASES. What is about to be asked of a daemon is on this program's disk
before it is asked, and it is asked under a request_id: so whoever comes back after a crash asks for the same again, and gets the
same. The exit status is 0 once all guests run. README.md says how to make the modules of balloon.v1 that this imports.
"""
import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import grpc
from balloon.v1 import capacity_pb2, capacity_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc, types_pb2
from google.protobuf.duration_pb2 import Duration

MIB = 1 << 20
# Nothing is asked for yet; a reservation is asked for; it is there, and the guest is being started; the guest has its memory.
PHASES = ("choosing", "reserving", "starting", "running")
WITHIN = Duration(seconds=30)
LEASE = Duration(seconds=60)
# How a host is preferred: what is free, then what is soonest.
RANKS = {capacity_pb2.FIT_NOW: 0, capacity_pb2.FIT_AFTER_RECLAIM: 1, capacity_pb2.FIT_WAITS: 2}
PATIENCE_S = 40  # longer than WITHIN


class Host:
    def __init__(self, name: str, socket: str):
        self.name, self.socket = name, socket
        channel = grpc.insecure_channel(f"unix:{socket}", options=[("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)])
        self.capacity = capacity_pb2_grpc.CapacityServiceStub(channel)
        self.scheduler = scheduler_pb2_grpc.SchedulerServiceStub(channel)

    def reservation(self, name: str):
        """What became of it; None: nothing is known of it."""
        try:
            return self.scheduler.GetReservation(scheduler_pb2.GetReservationRequest(id=name), timeout=5).reservation
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise

    def runs(self, name: str) -> bool:
        try:
            self.scheduler.GetGuest(scheduler_pb2.GetGuestRequest(name=name), timeout=5)
            return True
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return False
            raise


class State:
    """What this program knows of its guests, in a file that is replaced whole."""

    def __init__(self, path: Path):
        self.path = path
        self.guests: dict[str, dict] = json.loads(path.read_text()) if path.exists() else {}

    def write(self, name: str, **changes):
        self.guests[name] = {**self.guests[name], **changes}
        new = self.path.with_suffix(".new")
        with open(new, "w") as file:
            json.dump(self.guests, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, self.path)


class Scheduler:
    def __init__(self, hosts: list[Host], state: State, start: str, crash: float):
        self.hosts = {host.name: host for host in hosts}
        self.state, self.start, self.crash = state, start, crash

    def may_die(self):
        """The test of this program: between any two things that it does it may be gone."""
        if random.random() < self.crash:
            os.kill(os.getpid(), signal.SIGKILL)

    def run(self, wanted: dict[str, int]):
        for name, mib in wanted.items():
            if name not in self.state.guests:
                self.state.guests[name] = {}
                self.state.write(name, phase="choosing", mib=mib)
        while waiting := [name for name, guest in self.state.guests.items() if guest["phase"] != "running"]:
            for name in waiting:
                self.may_die()
                try:
                    getattr(self, self.state.guests[name]["phase"])(name, self.state.guests[name])
                except grpc.RpcError as error:  # a daemon that is away: the same again, once it is back
                    print(f"{name}: {error.code().name}: {error.details()}", flush=True)
                    time.sleep(0.2)

    def choosing(self, name: str, guest: dict):
        query = capacity_pb2.FitQuery(min_bytes=guest["mib"] * MIB, within=WITHIN)
        found = []
        for host in self.hosts.values():
            try:
                answer = host.capacity.CheckFit(capacity_pb2.CheckFitRequest(queries=[query]), timeout=5).answers[0]
                free = host.capacity.GetCapacity(capacity_pb2.GetCapacityRequest(), timeout=5).capacity.free_bytes
            except grpc.RpcError:
                continue
            if answer.fit in RANKS:
                found.append((RANKS[answer.fit], answer.ready_in.ToSeconds(), -free, random.random(), host.name))
        if not found:
            time.sleep(0.5)
            return
        # Written first: the reservation that this process may not live to hear of can be asked for again.
        self.state.write(name, phase="reserving", host=min(found)[-1], request_id=str(uuid.uuid4()))

    def reserving(self, name: str, guest: dict):
        request = scheduler_pb2.ReserveRequest(id=name, min_bytes=guest["mib"] * MIB, within=WITHIN, lease=LEASE,
                                               request_id=guest["request_id"], owner="example scheduler")
        try:
            granted = self.hosts[guest["host"]].scheduler.Reserve(request, timeout=PATIENCE_S).reservation
        except grpc.RpcError as error:
            # What says for certain that nothing is kept for us leads to another choice; anything else may be a grant.
            if error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED, grpc.StatusCode.ALREADY_EXISTS,
                                grpc.StatusCode.FAILED_PRECONDITION):
                print(f"{name}: not on {guest['host']}: {error.details()}", flush=True)
                return self.state.write(name, phase="choosing")
            raise
        self.may_die()
        self.state.write(name, phase="starting", token=granted.token)

    def starting(self, name: str, guest: dict):
        host = self.hosts[guest["host"]]
        try:
            commit = scheduler_pb2.CommitReservationRequest(id=name, token=guest["token"], lease=LEASE)
            state = host.scheduler.CommitReservation(commit, timeout=5).reservation.state
        except grpc.RpcError as error:
            if error.code() not in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.NOT_FOUND):
                raise
            # Its lease has run out. A guest that was started all the same stays; else all begins anew.
            return self.state.write(name, phase="running" if host.runs(name) else "choosing")
        self.may_die()
        # Starting what runs has no effect: the daemon takes no second guest of a name (a unit of systemd is like that, too).
        if state != types_pb2.RESERVATION_STATE_CONSUMED and not host.runs(name):
            words = [word.format(socket=host.socket, name=name, mib=guest["mib"]) for word in shlex.split(self.start)]
            subprocess.Popen(words, start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.may_die()
        patience = time.monotonic() + 10
        while time.monotonic() < patience:
            reservation = host.reservation(name)
            if reservation is not None and reservation.state == types_pb2.RESERVATION_STATE_CONSUMED:
                return self.state.write(name, phase="running")
            time.sleep(0.05)


def pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"'{text}' is not NAME=VALUE")
    return name, value


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--state", type=Path, required=True, help="file of what is under way")
    parser.add_argument("--host", type=pair, action="append", required=True, metavar="NAME=SOCKET", help="a daemon")
    parser.add_argument("--guest", type=pair, action="append", required=True, metavar="NAME=MIB", help="a guest to place")
    parser.add_argument("--start", required=True, help="command that starts a guest: {socket}, {name} and {mib} stand for what they say")
    parser.add_argument("--crash", type=float, default=0, metavar="PROBABILITY", help="be killed at each step with this probability")
    arguments = parser.parse_args()
    hosts = [Host(name, socket) for name, socket in arguments.host]
    Scheduler(hosts, State(arguments.state), arguments.start, arguments.crash).run({name: int(mib) for name, mib in arguments.guest})
    return 0


if __name__ == "__main__":
    sys.exit(main())
