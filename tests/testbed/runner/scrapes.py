# SPDX-License-Identifier: Apache-2.0
"""What balloond exports during a run, as a Prometheus would have scraped it: the page of each scrape after a line
"# scrape SECONDS at SECONDS of the quick day", with "failed" at its end when there was none (tests/observability/history.py)."""

import http.client
import threading
import time
import urllib.request
from pathlib import Path

from .daemon import METRICS_ADDRESS
from .speed import MACHINE

EVERY = 15  # seconds, as in the shipped dashboards/prometheus/prometheus.yml
TIMEOUT = 10  # seconds: Prometheus' default


class Scrapes:
    def __init__(self, file: Path):
        self._file = file
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> "Scrapes":
        self._thread.start()
        return self

    def stop(self):
        self._stopping.set()
        self._thread.join()

    def _follow(self):
        due = time.monotonic()
        with open(self._file, "w") as out:
            while not self._stopping.wait(max(0.0, due - time.monotonic())):
                out.write(self._scrape())
                out.flush()
                due += EVERY

    def _scrape(self) -> str:
        head = f"# scrape {time.time():.0f} at {MACHINE.quick_now():.0f} of the quick day"
        try:
            with urllib.request.urlopen(f"http://{METRICS_ADDRESS}/metrics", timeout=TIMEOUT) as answer:
                return f"{head}\n{answer.read().decode()}"
        except (OSError, http.client.HTTPException):
            return f"{head}, failed\n"
