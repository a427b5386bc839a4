# SPDX-License-Identifier: Apache-2.0
"""Where events go: one JSON object a line, each with its time in seconds since the run began."""

import json
import threading
import time


class EventLog:
    def __init__(self, path: str):
        self._out = open(path, "w", buffering=1)
        self._lock = threading.Lock()
        self._start = time.monotonic()

    def now(self) -> float:
        return time.monotonic() - self._start

    def emit(self, kind: str, **fields):
        line = json.dumps({"event": kind, "t": round(self.now(), 2), **fields}, separators=(",", ":"))
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()
