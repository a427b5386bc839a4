# SPDX-License-Identifier: Apache-2.0
"""balloond as a child process, and what balloonctl shows of it."""

import json
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from .speed import MACHINE

DAEMON_CPU = 0
METRICS_ADDRESS = "127.0.0.1:9477"
# Seconds of the quick day (speed.py), as all limits here.
START_TIMEOUT = 60
CALL_TIMEOUT = 60
# balloonctl starts anew for each list; under emulation a start costs most of a second of CPU.
WATCH_RETRY = 2


class DaemonError(Exception):
    pass


class DaemonEnded(DaemonError):
    """Its process is gone: no speed of any machine explains that."""


def socket_in(run_dir: Path) -> Path:
    return run_dir / "balloond.sock"


class Daemon:
    def __init__(self, run_dir: Path, policy: dict, backends: dict | None = None):
        """`backends`: what its configuration says of hypervisors (docs/configuration.md)."""
        self.run_dir = run_dir
        self.socket = socket_in(run_dir)
        self.config = run_dir / "balloond.yaml"
        self.log = run_dir / "balloond.log"
        self.process: subprocess.Popen | None = None
        run_dir.mkdir(parents=True, exist_ok=True)
        # JSON is YAML.
        (run_dir / "policy.yaml").write_text(json.dumps(policy, indent=2) + "\n")
        config: dict = {"socket": {"path": str(self.socket)}, "policy": "policy.yaml", "metrics": {"listen": METRICS_ADDRESS},
                        "journal": {"directory": str(run_dir / "journal")}}
        if backends:
            config["backends"] = backends
        self.config.write_text(json.dumps(config, indent=2) + "\n")

    def start(self) -> "Daemon":
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(["balloond", "--config", str(self.config)], stdout=log, stderr=log,
                                            preexec_fn=lambda: os.sched_setaffinity(0, {DAEMON_CPU}))
        deadline = MACHINE.quick_now() + START_TIMEOUT
        while True:
            if self.process.poll() is not None:
                raise DaemonEnded(f"balloond ended with status {self.process.returncode}: {self.log_tail()}")
            try:
                self.list()
                return self
            except DaemonError as error:
                if MACHINE.quick_now() > deadline:
                    raise DaemonError(f"balloond does not answer {START_TIMEOUT} s after its start: {error}; {self.log_tail()}")
            time.sleep(0.5)

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """As a crash would: no chance to tidy up."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        try:
            return self.process.wait(MACHINE.wall(30))
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise DaemonError("balloond did not end within 30 s of SIGTERM")

    def log_tail(self) -> str:
        return " / ".join(self.log.read_text(errors="replace").splitlines()[-6:]) or "it logged nothing"

    def ctl(self, *arguments: str) -> str:
        timeout = MACHINE.wall(CALL_TIMEOUT)
        try:
            done = subprocess.run(["balloonctl", "--socket", str(self.socket), "--timeout", f"{timeout:.0f}s", *arguments], text=True,
                                  capture_output=True, timeout=timeout + 5)
        except subprocess.TimeoutExpired:
            raise DaemonError(f"balloonctl {' '.join(arguments)}: no answer in {timeout:.0f} s")
        if done.returncode != 0:
            raise DaemonError(f"balloonctl {' '.join(arguments)}: status {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def list(self) -> dict[str, dict]:
        """Guests by name."""
        return guests_in(json.loads(self.ctl("list", "-o", "json")))

    def wait_for(self, what: str, condition, timeout: float = 120) -> dict[str, dict]:
        """Lists until condition(guests) holds."""
        deadline = MACHINE.quick_now() + timeout
        guests = {}
        while MACHINE.quick_now() < deadline:
            guests = self.list()
            if condition(guests):
                return guests
            time.sleep(1)
        raise DaemonError(f"waited {timeout:.0f} s for {what}; guests: {json.dumps(guests)[:1500]}; {self.log_tail()}")


def guests_in(document) -> dict[str, dict]:
    return {guest["name"]: guest for guest in document["guests"]}


class Watch:
    """Follows the daemon's state through one long-running `balloonctl watch`; starts another when that ends."""

    def __init__(self, daemon: Daemon):
        self._daemon = daemon
        self._newest: tuple[float, dict] = (0.0, {})
        self._stopping = threading.Event()
        self._child: subprocess.Popen | None = None
        threading.Thread(target=self._follow, daemon=True).start()

    def guests(self, max_age: float = 10) -> dict[str, dict]:
        """Newest state, or nothing when it is older than that."""
        at, guests = self._newest
        return guests if time.monotonic() - at < MACHINE.wall(max_age) else {}

    def stop(self):
        self._stopping.set()
        if self._child and self._child.poll() is None:
            self._child.kill()

    def _follow(self):
        while not self._stopping.is_set():
            with open(self._daemon.run_dir / "watch.stderr", "ab") as stderr:
                self._child = subprocess.Popen(["balloonctl", "--socket", str(self._daemon.socket), "watch", "-o", "json"],
                                               stdout=subprocess.PIPE, stderr=stderr, text=True)
            for line in self._child.stdout:
                try:
                    self._newest = (time.monotonic(), guests_in(json.loads(line)))
                except (ValueError, KeyError):
                    continue
            self._child.wait()
            self._stopping.wait(WATCH_RETRY)
