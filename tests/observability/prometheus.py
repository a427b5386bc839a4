# SPDX-License-Identifier: Apache-2.0
"""A real Prometheus with a past: what was exported (history.py) as its samples, and what rules would have recorded."""
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

from history import History, name_of

START_SECONDS = 240  # on a machine that does other things, too
# A rule reads what those before it recorded, and promtool sees only what was there when it began.
RULES_DEEP = 3


def write_past(work: Path, hosts: dict[str, History], job: str = "balloond") -> None:
    """Into work/tsdb, by instance."""
    samples = work / "past.om"
    with samples.open("w") as out:
        for instance, history in hosts.items():
            for (name, labels), values in history.values.items():
                series = name_of(name, labels, job=job, instance=instance)
                out.writelines(f"{series} {value!r} {at}\n" for at, value in zip(history.times, values) if value is not None)
        out.write("# EOF\n")
    subprocess.run(["promtool", "tsdb", "create-blocks-from", "openmetrics", "--quiet", samples, work / "tsdb"],
                   check=True, stdout=subprocess.DEVNULL)
    samples.unlink()


def write_recorded(work: Path, rules: Path, start: int, end: int, every: int) -> None:
    before: list[Path] = []
    for _ in range(RULES_DEEP):
        with Prometheus(work, every) as prometheus:
            subprocess.run(["promtool", "tsdb", "create-blocks-from", "rules", f"--start={start}", f"--end={end}", f"--url={prometheus.url}",
                            f"--eval-interval={every}s", f"--output-dir={work / 'recorded'}", rules],
                           check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        # Where rules name one of several that are equal, each round may name another.
        for block in before:
            shutil.rmtree(block)
        before = [Path(shutil.move(block, work / "tsdb" / block.name)) for block in (work / "recorded").iterdir()]


class Prometheus:
    """Of what is in work/tsdb, on a port of its own."""

    def __init__(self, work: Path, every: int, configuration: str = "global: {}\n"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{probe.getsockname()[1]}"
        self.url = f"http://{address}"
        (work / "prometheus.yml").write_text(configuration)
        self._process = subprocess.Popen(
            ["prometheus", f"--config.file={work / 'prometheus.yml'}", f"--storage.tsdb.path={work / 'tsdb'}", "--storage.tsdb.retention.time=100y",
             # What was recorded afterwards has no marks of its end: a series that has no sample any more is over. Not sooner: when within
             # the period a rule is evaluated, Prometheus takes from a hash of its file's path.
             f"--query.lookback-delta={every}s",
             f"--web.listen-address={address}", "--log.level=error"], stderr=subprocess.DEVNULL)

    def __enter__(self) -> "Prometheus":
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                urllib.request.urlopen(self.url + "/-/ready").close()
                return self
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    self.__exit__()
                    raise RuntimeError("Prometheus does not start") from None
                time.sleep(0.1)

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()

    def rules(self) -> dict[str, dict[str, Any]]:
        """By name, what it makes of each rule."""
        with urllib.request.urlopen(self.url + "/api/v1/rules") as answer:
            return {rule["name"]: rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]}

    def ask(self, path: str, **parameters: object) -> list[dict[str, Any]]:
        """query or query_range: the series that it answers with."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}", urllib.parse.urlencode(parameters).encode()) as answer:
                return json.load(answer)["data"]["result"]
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{parameters.get('query')}: {json.load(error)['error']}") from None
