# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with the shipped configuration and rules scrapes a real balloond."""
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest
from collections.abc import Callable
from pathlib import Path

import queries
from prometheus import Prometheus

PATIENCE_SECONDS = 240
RAISED = ("pending", "firing")
# What else this machine does may set these off: it swaps, or leaves the daemon no CPU time.
OF_THE_MACHINE = {"BalloonHostSwapsIn", "BalloonKsmCostsMoreThanItSaves", "BalloonLoopLate", "BalloonLoopStandsStill"}


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class LiveTest(unittest.TestCase):
    def setUp(self):
        self.work = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.address = address = free_address()
        self.policy = self.work / "policy.yaml"
        self.policy.write_text("defaults: {min: 256MiB}\n")
        (self.work / "balloond.yaml").write_text(
            f"socket: {{path: {self.work}/socket}}\npolicy: {self.policy}\nmetrics: {{listen: \"{address}\"}}\n"
            f"journal: {{directory: {self.work}/journal}}\n")
        (self.work / "journal").mkdir()
        self.daemon = subprocess.Popen([os.environ["BALLOOND"], "--config", self.work / "balloond.yaml"], stderr=subprocess.DEVNULL)
        self.addCleanup(self.end_daemon)
        shipped = (queries.DASHBOARDS / "prometheus/prometheus.yml").read_text()
        for where, there in (("/usr/share/balloond/prometheus", str(queries.RECORDING.parent)), ("localhost:9477", address), ("15s", "1s")):
            self.assertIn(where, shipped)
            shipped = shipped.replace(where, there)
        self.prometheus = self.enterContext(Prometheus(self.work, 10, shipped))

    def end_daemon(self):
        self.daemon.kill()
        self.daemon.wait()

    def eventually(self, what: Callable[[], object], why: str):
        until = time.monotonic() + PATIENCE_SECONDS
        while not what():
            self.assertLess(time.monotonic(), until, why)
            time.sleep(0.5)

    def raised(self) -> set[str]:
        return {name for name, rule in self.prometheus.rules().items() if rule.get("state") in RAISED} - OF_THE_MACHINE

    def evaluated(self) -> bool:
        """Each rule, without a complaint."""
        return all((rule["health"], rule.get("lastError", "")) == ("ok", "") for rule in self.prometheus.rules().values())

    def has(self, query: str) -> bool:
        return bool(self.prometheus.ask("query", query=query))

    def test_it_is_scraped_and_its_troubles_become_alerts(self):
        self.eventually(lambda: self.has('up{job="balloond"} == 1'), "it is not scraped")
        self.eventually(lambda: len(self.prometheus.ask("query", query="balloon:host_capacity_bytes")) == 4, "its capacity is not recorded")
        self.eventually(self.evaluated, "a rule cannot be evaluated")
        # Until the first scrape the daemon is gone.
        self.eventually(lambda: not self.raised(), "a healthy daemon without guests raises alerts")

        mute = subprocess.Popen([os.environ["LYING_VMM"], self.work / "socket", "1", "2"])  # two guests that send no statistics
        self.addCleanup(mute.wait)
        self.addCleanup(mute.kill)
        self.eventually(lambda: self.guests_without_statistics() == {"liar-0", "liar-1"}, "not both are known to be blind")
        self.eventually(lambda: "BalloonGuestWithoutStatistics" in self.raised(), "guests without statistics are not noticed")

        self.policy.write_text("nonsense: 1\n")
        self.daemon.send_signal(signal.SIGHUP)
        self.eventually(lambda: "BalloonReloadFailed" in self.raised(), "a refused configuration is not noticed")

        self.daemon.terminate()
        self.eventually(lambda: "BalloonDaemonGone" in self.raised(), "a daemon that is gone is not noticed")

    def guests_without_statistics(self) -> set[str]:
        return {one["metric"]["guest"] for one in self.prometheus.ask("query", query="balloon_guest_blind == 1")}

    def test_every_query_of_a_host_without_guests_has_data(self):
        asked = 0
        for name, dashboard in queries.dashboards().items():
            for panel in queries.panels(dashboard):
                for target in panel["targets"]:
                    # Without a guest nothing is decided, and nobody calls.
                    if any(word in target["expr"] for word in ("balloon_guest_", "balloon:guest_", "> 0", ">= 0", "grpc_code!=", "ksm_profit")):
                        continue
                    asked += 1
                    # Rates need two scrapes, however far from each other a busy machine has them.
                    expr = queries.filled(target["expr"], __range="1m", __rate_interval="1m", instance=self.address)
                    self.eventually(lambda expr=expr: self.has(expr), f"{name}: {panel['title']}: {expr}")
        self.assertGreater(asked, 70)


if __name__ == "__main__":
    unittest.main()
