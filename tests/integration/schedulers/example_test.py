# SPDX-License-Identifier: Apache-2.0
"""The example scheduler on three real daemons, killed at random moments: each guest is started once, and no memory is promised twice,
lost or kept for nobody."""
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
BALLOOND = os.environ["BALLOOND"]
HOSTS = ("a", "b", "c")
GUESTS = {f"guest-{number}": 64 * (1 + number % 3) for number in range(6)}
CRASH = "0.3"  # at each of six steps a guest: some 15 deaths, and none once in 100,000 runs
PATIENCE_S = 240


def make_stubs(into: Path):
    protos = sorted(str(path) for path in (ROOT / "proto/balloon/v1").glob("*.proto"))
    subprocess.run(["protoc", "-I", str(ROOT / "proto"), f"--python_out={into}", f"--grpc_python_out={into}",
                    "--plugin=protoc-gen-grpc_python=/usr/bin/grpc_python_plugin", *protos], check=True)


class Daemon:
    def __init__(self, directory: Path, name: str):
        self.socket = directory / f"{name}.sock"
        config = directory / f"{name}.yaml"
        config.write_text(f"socket: {{path: {self.socket}}}\ncontrol: {{period: 200ms, stats_interval: 500ms}}\n"
                          f"reservations: {{file: {directory}/{name}-reservations.json}}\n")
        self.log = open(directory / f"{name}.log", "w")
        self.process = subprocess.Popen([BALLOOND, "--config", str(config)], stdin=subprocess.DEVNULL, stderr=self.log)

    def end(self):
        self.process.terminate()
        self.process.wait()
        self.log.close()


class ExampleSchedulerTest(unittest.TestCase):
    def setUp(self):
        self.room = tempfile.TemporaryDirectory(prefix="schedulers-")
        self.addCleanup(self.room.cleanup)
        self.path = Path(self.room.name)
        (self.path / "guests").mkdir()
        (self.path / "stubs").mkdir()
        make_stubs(self.path / "stubs")
        sys.path.insert(0, str(self.path / "stubs"))
        global grpc, capacity, scheduler
        import grpc
        from balloon.v1 import capacity_pb2, capacity_pb2_grpc, scheduler_pb2, scheduler_pb2_grpc
        capacity = (capacity_pb2, capacity_pb2_grpc)
        scheduler = (scheduler_pb2, scheduler_pb2_grpc)
        self.daemons = {name: Daemon(self.path, name) for name in HOSTS}
        for daemon in self.daemons.values():
            self.addCleanup(daemon.end)
        self.addCleanup(self.end_guests)
        self.channels = {name: grpc.insecure_channel(f"unix:{daemon.socket}") for name, daemon in self.daemons.items()}
        for channel in self.channels.values():
            self.addCleanup(channel.close)
            grpc.channel_ready_future(channel).result(timeout=60)

    def end_guests(self):
        for file in (self.path / "guests").iterdir():
            os.kill(int(file.suffix[1:]), signal.SIGKILL)

    def capacity(self, name: str):
        return capacity[1].CapacityServiceStub(self.channels[name]).GetCapacity(capacity[0].GetCapacityRequest(), timeout=20).capacity

    def reservations(self, name: str):
        stub = scheduler[1].SchedulerServiceStub(self.channels[name])
        return list(stub.ListReservations(scheduler[0].ListReservationsRequest(), timeout=20).reservations)

    def start(self, crash: str) -> subprocess.Popen:
        hosts = [word for name, daemon in self.daemons.items() for word in ("--host", f"{name}={daemon.socket}")]
        guests = [word for name, mib in GUESTS.items() for word in ("--guest", f"{name}={mib}")]
        double = f"{sys.executable} {Path(__file__).parent}/guest_double.py {{socket}} {{name}} {{mib}} {self.path}/guests"
        log = open(self.path / "scheduler.log", "a")
        self.addCleanup(log.close)
        return subprocess.Popen([sys.executable, str(ROOT / "examples/scheduler/scheduler.py"), "--state", str(self.path / "state.json"),
                                 *hosts, *guests, "--start", double, "--crash", crash],
                                stdout=log, stderr=log, env={**os.environ, "PYTHONPATH": str(self.path / "stubs")})

    def look(self):
        """What holds at any moment."""
        owners: dict[str, str] = {}
        for name in HOSTS:
            for reservation in self.reservations(name):
                self.assertNotIn(reservation.id, owners, f"reserved on {owners.get(reservation.id)} and {name}")
                owners[reservation.id] = name
            host = self.capacity(name)
            self.assertLessEqual(host.reserved_bytes, host.budget_bytes)

    def test_each_guest_is_placed_once_however_often_the_scheduler_dies(self):
        end = time.monotonic() + PATIENCE_S
        deaths = 0
        while True:
            process = self.start(CRASH if time.monotonic() < end - PATIENCE_S / 2 else "0")
            while process.poll() is None:
                self.look()
                self.assertLess(time.monotonic(), end, (self.path / "scheduler.log").read_text())
                time.sleep(0.1)
            if process.returncode == 0:
                break
            self.assertEqual(process.returncode, -signal.SIGKILL, (self.path / "scheduler.log").read_text())
            deaths += 1
        self.assertGreater(deaths, 0, "it was to die now and then")
        placed = [file.stem for file in (self.path / "guests").iterdir()]
        self.assertEqual(sorted(placed), sorted(GUESTS), "each once")
        known = [guest for name in HOSTS for guest in self.every_guest(name)]
        self.assertEqual(sorted(known), sorted(GUESTS))
        for name in HOSTS:
            self.assertEqual(self.reservations(name), [], "nothing is kept for nobody")

    def every_guest(self, name: str) -> list[str]:
        """By pages."""
        stub = scheduler[1].SchedulerServiceStub(self.channels[name])
        names: list[str] = []
        token = ""
        while True:
            page = stub.ListGuests(scheduler[0].ListGuestsRequest(page_size=2, page_token=token), timeout=20)
            names += [guest.name for guest in page.guests]
            token = page.next_page_token
            if not token:
                return names


if __name__ == "__main__":
    unittest.main()
