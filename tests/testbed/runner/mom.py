# SPDX-License-Identifier: Apache-2.0
"""oVirt's MOM with its own example rules, as a controller of libvirt's guests on this host."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from .daemon import DAEMON_CPU, DaemonEnded
from .speed import MACHINE

HOME = Path("/opt/mom")
# Only *.policy is read, in the order of names. Without rules it does nothing, and as it is installed it has none.
RULES = {"10-balloon.policy": "balloon.rules", "20-ksm.policy": "ksm.rules"}
STOP_TIMEOUT = 30


class Mom:
    def __init__(self, run_dir: Path):
        self.rules, self.plots, self.log, self._said = run_dir / "mom.d", run_dir / "mom.plots", run_dir / "mom.log", run_dir / "mom.stderr"
        self.process: subprocess.Popen | None = None
        for directory in (self.rules, self.plots):
            directory.mkdir(parents=True, exist_ok=True)
        for name, example in RULES.items():
            shutil.copy(HOME / "examples" / example, self.rules / name)

    def start(self):
        """libvirtd must run: without one it ends by itself after 10 s, with status 0."""
        with open(self._said, "ab") as said:
            self.process = subprocess.Popen(
                ["python3", HOME / "momd.py", "-c", HOME / "momd.conf", "-P", self.rules, "-p", self.plots, "-l", self.log, "-v", "info"],
                stdout=said, stderr=said, preexec_fn=lambda: os.sched_setaffinity(0, {DAEMON_CPU}))

    @property
    def pid(self) -> int:
        return self.process.pid

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def acts(self) -> dict[str, int]:
        """How often it has set a balloon, and KSM. Nothing at all would be no comparison."""
        if not self.alive():
            raise DaemonEnded(f"momd ended with status {self.process.returncode}: {self.said()}")
        log = self.log.read_text(errors="replace") if self.log.exists() else ""
        return {"balloons": len(re.findall(r"Ballooning guest:", log)), "ksm": len(re.findall(r"Updating KSM configuration", log))}

    def said(self) -> str:
        lines = [line for file in (self.log, self._said) if file.exists() for line in file.read_text(errors="replace").splitlines()[-4:]]
        return " / ".join(lines) or "it said nothing"

    def stop(self):
        if self.alive():
            self.process.terminate()
            try:
                self.process.wait(MACHINE.wall(STOP_TIMEOUT))
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
