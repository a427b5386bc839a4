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

PATIENCE_SECONDS = 60


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

    def state_of(self, alert: str) -> str:
        return self.prometheus.rules()[alert]["state"]

    def has(self, query: str) -> bool:
        return bool(self.prometheus.ask("query", query=query))

    def test_it_is_scraped_and_its_troubles_become_alerts(self):
        self.eventually(lambda: self.has('up{job="balloond"} == 1'), "it is not scraped")
        self.eventually(lambda: self.has('balloon:host_capacity_bytes{horizon="30s"}'), "nothing is recorded")
        self.assertEqual(len(self.prometheus.ask("query", query="balloon:host_capacity_bytes")), 4)
        for name, rule in self.prometheus.rules().items():
            self.assertEqual((rule["health"], rule.get("lastError", "")), ("ok", ""), name)
            self.assertEqual(rule.get("state", "inactive"), "inactive", name)

        mute = subprocess.Popen([os.environ["LYING_VMM"], self.work / "socket", "1", "2"])  # two guests that send no statistics
        self.addCleanup(mute.wait)
        self.addCleanup(mute.kill)
        self.eventually(lambda: self.state_of("BalloonGuestWithoutStatistics") == "pending", "guests without statistics are not noticed")
        guests = {one["metric"]["guest"] for one in self.prometheus.ask("query", query="balloon_guest_blind == 1")}
        self.assertEqual(guests, {"liar-0", "liar-1"})

        self.policy.write_text("nonsense: 1\n")
        self.daemon.send_signal(signal.SIGHUP)
        self.eventually(lambda: self.state_of("BalloonReloadFailed") == "pending", "a refused configuration is not noticed")

        self.daemon.terminate()
        self.eventually(lambda: self.state_of("BalloonDaemonGone") == "pending", "a daemon that is gone is not noticed")

    def test_every_query_of_a_host_without_guests_has_data(self):
        self.eventually(lambda: self.has('balloon:host_capacity_bytes{horizon="30s"}'), "nothing is recorded")
        time.sleep(5)  # rates need two scrapes
        asked = 0
        for name, dashboard in queries.dashboards().items():
            for panel in queries.panels(dashboard):
                for target in panel["targets"]:
                    # Without a guest nothing is decided, and nobody calls.
                    if any(word in target["expr"] for word in ("balloon_guest_", "balloon:guest_", "> 0", ">= 0", "grpc_code!=", "ksm_profit")):
                        continue
                    asked += 1
                    expr = queries.filled(target["expr"], __range="10s", __rate_interval="5s", instance=self.address)
                    self.assertTrue(self.has(expr), f"{name}: {panel['title']}: {expr}")
        self.assertGreater(asked, 70)


if __name__ == "__main__":
    unittest.main()
