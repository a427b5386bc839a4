# SPDX-License-Identifier: Apache-2.0
"""Runs one scenario in one mode, in the outer host or on this machine, and collects what it reports."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from report import record
from report.live_table import LiveTable
from report.timeline import Timeline
from runner.speed import measure

from . import mom, outer_host, outer_image
from .cache import Cache
from .errors import TestbedError

HERE = Path(__file__).resolve().parent.parent
# What a run may take beyond its phases' own limits, on the quick day: outer boot, guests' boots, measurements, power-off.
RUN_EXTRA_SECONDS = 900
# On a machine that is this much larger than the scenario's host, a run without balloond would not be short of memory.
SAME_SIZE_TOLERANCE = 0.15


class Runner:
    def __init__(self, cache: Cache, build_dir: Path | None, direct: bool, fast_clock: bool):
        self._cache, self._build_dir, self._direct, self._fast_clock = cache, build_dir, direct, fast_clock

    def recording(self, scenario, mode: str) -> Path:
        """Where the daemon's recording of the newest run is."""
        return self._logs(scenario, mode) / "scratch/run/journal"

    def scrapes(self, scenario, mode: str) -> Path:
        """Where what the daemon exported in the newest run is."""
        return self._logs(scenario, mode) / "scratch/run/metrics"

    def run(self, scenario, document: dict, mode: str) -> tuple[Timeline, int]:
        """The timeline, and how often the emulated outer host was lost on the way."""
        collector = self._collector = _Collector(measure())
        timeout = sum(phase.timeout + phase.settle for phase in scenario.phases) + RUN_EXTRA_SECONDS
        shutil.rmtree(self.recording(scenario, mode), ignore_errors=True)
        self.scrapes(scenario, mode).unlink(missing_ok=True)
        run = self._run_direct if self._direct else self._run_in_testbed
        restarts = run(scenario, document, mode, timeout, collector)
        self.events(scenario, mode).parent.mkdir(parents=True, exist_ok=True)
        record.write(collector.timeline.events, self.events(scenario, mode))
        return collector.timeline, restarts

    def events(self, scenario, mode: str) -> Path:
        """Where the newest run's events are, for tests/testbed/judge."""
        return self._logs(scenario, mode) / "events.jsonl"

    def _run_in_testbed(self, scenario, document: dict, mode: str, timeout: float, collector: "_Collector") -> int:
        with tempfile.TemporaryDirectory() as directory:
            file = Path(directory) / "scenario.json"
            file.write_text(json.dumps(document))
            command = f"cd /opt/testbed && python3 -m runner --scenario /opt/testbed/scenario.json --mode {mode} --events /dev/testbed-events"
            more = mom.files(self._cache) if mode == "mom" else []
            host = outer_image.build(self._cache, self._build_dir, command, [(file, "/opt/testbed/scenario.json"), *more], ["/scratch/run"])
        self._require_programs(mode, scenario.vmms)
        logs = self._logs(scenario, mode)
        request = outer_host.Request(memory_mib=scenario.host_memory >> 20, timeout=timeout, pace=collector.pace, files_to=logs, fast_clock=self._fast_clock,
                                     devices=scenario.devices,
                                     console_log=self._cache.root / "runs" / f"console-{scenario.name}-{mode}.log",
                                     on_event=collector.take, on_output=_to_stderr, on_restart=lambda reason: collector.reset())
        result = outer_host.run(self._cache, host, request)
        if result.status == outer_host.OUTER_LOST:
            collector.add(event="host_lost", reason="; ".join(result.crashes))
        elif result.status == outer_host.TIMED_OUT:
            collector.note_end(f"the run did not end within {timeout:.0f} s of the quick day")
        else:
            collector.note_end(None if result.status == 0 else f"the runner ended with status {result.status}")
        if collector.timeline.failure:
            print(f"logs of the daemon and the VMMs: {logs}", file=sys.stderr)
        return result.restarts

    def _run_direct(self, scenario, document: dict, mode: str, timeout: float, collector: "_Collector") -> int:
        self._require_programs(mode, scenario.vmms)
        document = _fit_to_machine(scenario, document, mode)
        images = outer_image.build_guest_images(self._cache)
        with tempfile.TemporaryDirectory(dir=self._cache.root) as directory:
            file = Path(directory) / "scenario.json"
            file.write_text(json.dumps(document))
            read, write = os.pipe()
            environment = dict(os.environ, PATH=f"{self._build_dir}/bin:/usr/sbin:/usr/bin:/sbin:/bin" if self._build_dir else os.environ["PATH"])
            process = subprocess.Popen(
                ["/usr/bin/python3", "-m", "runner", "--scenario", file, "--mode", mode, "--events", f"/dev/fd/{write}",
                 "--images", images, "--scratch", directory, "--direct"], cwd=HERE, pass_fds=[write], env=environment)
            os.close(write)
            with os.fdopen(read) as events:
                for line in events:
                    collector.take(line)
            status = process.wait()  # what it sent has ended, so it has, too
            written = Path(directory) / "run"
            if (written / "journal").is_dir():
                shutil.copytree(written / "journal", self.recording(scenario, mode))
            if (written / "metrics").is_file():
                self.scrapes(scenario, mode).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(written / "metrics", self.scrapes(scenario, mode))
        collector.note_end(None if status == 0 else f"the runner ended with status {status}")
        return 0

    def _logs(self, scenario, mode: str) -> Path:
        return self._cache.root / "runs" / f"logs-{scenario.name}-{mode}"

    def _require_programs(self, mode: str, vmms: list[str]):
        wanted = (["balloon-vmm"] if "balloon-vmm" in vmms else []) + (["balloond", "balloonctl", "balloon-sim"] if mode == "balloond" else [])
        for program in wanted:
            if self._build_dir is None or not (self._build_dir / "bin" / program).is_file():
                raise TestbedError(f"{program} is not built: give --build-dir a directory that has bin/{program}")


class _Collector:
    """Events as they come: into the timeline and onto the screen."""

    def __init__(self, native_piece: float):
        """`native_piece`: what speed.measure() gave on this machine, which is the hardware below the emulated one."""
        self._native_piece = native_piece
        self.reset()

    def reset(self):
        self.timeline = Timeline()
        self._table = LiveTable(self.timeline)
        self._factor = 1.0

    def pace(self) -> float:
        return self._factor

    def take(self, line: str):
        event = self.timeline.add_line(line)
        if event:
            self._factor = event.get("factor", self._factor)
            if event["event"] == "speed":
                event["slowdown"] = round(event["piece"] / self._native_piece * event.get("suffering", 1.0), 1)
            self._table.show(event)

    def add(self, **event):
        last = self.timeline.events[-1]["t"] if self.timeline.events else 0.0
        self.take(json.dumps({"t": last, **event}))

    def note_end(self, failure: str | None):
        """What the runner has not said itself."""
        if failure and not self.timeline.failure and not self.timeline.too_slow:
            self.add(event="failed", reason=failure, ended=False)


def _to_stderr(data: bytes):
    sys.stderr.buffer.write(data)
    sys.stderr.flush()


def _fit_to_machine(scenario, document: dict, mode: str) -> dict:
    """On a larger machine balloond is told to leave the rest alone, so that guests share what the scenario's host has."""
    total = int(next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal")).split()[1]) * 1024
    surplus = total - scenario.host_memory
    if surplus < -SAME_SIZE_TOLERANCE * scenario.host_memory:
        raise TestbedError(f"this machine has {total >> 20} MiB, the scenario wants {scenario.host_memory >> 20} MiB")
    if surplus <= SAME_SIZE_TOLERANCE * scenario.host_memory:
        return document
    if mode == "none":
        raise TestbedError(f"a run without balloond on this machine's {total >> 30} GiB would not be short of memory as the"
                           f" scenario's {scenario.host_memory >> 30} GiB host is: leave out --direct")
    policy = dict(document.get("policy", {}))
    policy["host"] = dict(policy.get("host", {}), reserve=f"{(surplus >> 20) + 400}M")
    return dict(document, policy=policy)
