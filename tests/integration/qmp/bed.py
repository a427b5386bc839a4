# SPDX-License-Identifier: Apache-2.0
"""A real balloond that manages guests of other hypervisors: by QMP sockets in a directory of the test's own, or as it is told."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BALLOOND = os.environ["BALLOOND"]
BALLOONCTL = os.environ["BALLOONCTL"]
SPEED = Path(__file__).resolve().parents[2] / "testbed/runner/speed.py"
MIB = 1 << 20
# Machines that test are slow, and do other things at the same time.
PATIENCE = 120


def stretched(seconds: float) -> float:
    """What takes so long on a machine that does nothing else takes, on this one now."""
    factor = subprocess.run([sys.executable, "-I", "-S", SPEED, "--below"], stdout=subprocess.PIPE, text=True, check=True).stdout
    return seconds * max(1.0, float(factor))


class Bed:
    """Use as a context manager. `backends`: a list for backends.qmp, or all of backends; SOCKETS stands for the directory of
    sockets. `user` runs the daemon as another user, where the test is root's."""

    def __init__(self, backends: str, user: int | None = None, stats_interval: str = "1s"):
        self.directory = tempfile.TemporaryDirectory(prefix="qmp-")
        self.path = Path(self.directory.name)
        self.sockets = self.path / "sockets"
        self.sockets.mkdir()
        self.user = user if os.geteuid() == 0 else None
        if self.user is not None:
            os.chown(self.path, self.user, -1)
            os.chown(self.sockets, self.user, -1)
        self.stats_interval = stats_interval
        self.write_configuration(backends)
        self.daemon: subprocess.Popen | None = None

    def write_configuration(self, backends: str):
        if backends.startswith("["):
            backends = f"{{qmp: {backends}}}"
        # No guest goes below what the fakes say they use, whatever policy makes of them.
        (self.path / "policy.yaml").write_text("engine: {hold: 0s, shrink_ratio_per_second: 1}\ndefaults: {min: 50%}\n")
        (self.path / "balloond.yaml").write_text(
            f"socket: {{path: {self.path}/socket}}\ncontrol: {{period: 200ms, stats_interval: {self.stats_interval}}}\n"
            f"metrics: {{listen: 'unix:{self.path}/metrics'}}\npolicy: policy.yaml\nbackends: {backends.replace('SOCKETS', str(self.sockets))}\n")

    def write_policy(self, more: str):
        """Adds to the policy, and has the daemon load it."""
        with open(self.path / "policy.yaml", "a") as policy:
            policy.write(more + "\n")
        taken = self.log().count("the new configuration is in force")
        self.daemon.send_signal(signal.SIGHUP)
        self.until(lambda: self.log().count("the new configuration is in force") > taken, "the policy is taken")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()
        self.directory.cleanup()

    def start(self):
        log = open(self.path / "log", "a")
        user = {} if self.user is None else {"user": self.user, "group": self.user, "extra_groups": []}
        self.daemon = subprocess.Popen([BALLOOND, "--config", self.path / "balloond.yaml", "--log-level", "debug"], stderr=log, **user)
        log.close()
        self.until(lambda: self.ctl("host").returncode == 0, "balloond answers")

    def stop(self):
        if self.daemon and self.daemon.poll() is None:
            self.daemon.kill()
        if self.daemon:
            self.daemon.wait()

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess:
        return subprocess.run([BALLOONCTL, "--socket", self.path / "socket", *arguments], capture_output=True, text=True, timeout=PATIENCE)

    def guests(self) -> dict[str, dict]:
        done = self.ctl("list", "-o", "json")
        assert done.returncode == 0, done.stderr
        return {guest["name"]: guest for guest in json.loads(done.stdout)["guests"]}

    def rounds(self) -> tuple[int, int]:
        """How many rounds of control have begun, and how many of them a second late or more."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(PATIENCE)
            client.connect(str(self.path / "metrics"))
            client.sendall(b"GET /metrics HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
            page = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        lateness = "balloon_control_loop_lateness_seconds"
        begun = int(re.search(rf"^{lateness}_count (\d+)$", page, re.MULTILINE)[1])
        return begun, begun - int(re.search(rf'^{lateness}_bucket{{le="1"}} (\d+)$', page, re.MULTILINE)[1])

    @contextlib.contextmanager
    def on_time(self):
        """No round of control is late meanwhile, and there is more than one a second."""
        begun_before, late_before = self.rounds()
        since = time.monotonic()
        yield
        begun, late = self.rounds()
        assert late == late_before, f"{late - late_before} of {begun - begun_before} rounds began a second late or more"
        assert begun - begun_before > time.monotonic() - since, f"no more than {begun - begun_before} rounds"

    def log(self) -> str:
        return (self.path / "log").read_text()

    def until(self, condition, what: str, patience: float = PATIENCE):
        """Returns what the condition comes to, once that is true."""
        deadline = time.monotonic() + patience
        while not (found := condition()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {patience:.0f} s: {what}\nguests: {self.guests()}\nlog:\n{self.log()}")
            if self.daemon.poll() is not None:
                raise AssertionError(f"balloond ended with {self.daemon.returncode}:\n{self.log()}")
            time.sleep(0.1)
        return found

    def settled(self, name: str, patience: float = PATIENCE) -> dict:
        """The guest once policy has shrunk it and has nothing more to ask of it for 3 s."""
        since: dict[int, float] = {}

        def at_rest(guest: dict) -> bool:
            size = guest["actual_bytes"]
            if size != guest["target_bytes"] or size == guest["memory_bytes"] or size not in since:
                since.clear()
                since[size] = time.monotonic()
            return time.monotonic() - since[size] > 3
        return self.guest(name, at_rest, "is shrunk by policy, and at rest", patience)

    def guest(self, name: str, condition, what: str, patience: float = PATIENCE) -> dict:
        def found():
            guest = self.guests().get(name)
            return guest if guest and condition(guest) else None
        return self.until(found, f"{name}: {what}", patience)
