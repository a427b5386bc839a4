# SPDX-License-Identifier: Apache-2.0
"""What balloond exports over time, as Prometheus would have scraped it: pages of metrics_history, and series of them."""
import json
import os
import re
import subprocess
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
SCENARIOS = HERE / "scenarios"
SAMPLE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
EVERY = 15  # seconds between scrapes

Labels = tuple[tuple[str, str], ...]


@dataclass
class History:
    """Series by name and labels; a value, or none, for each scrape."""
    times: list[int] = field(default_factory=list)
    values: dict[tuple[str, Labels], list[float | None]] = field(default_factory=dict)

    def scrape(self, at: int, lines: list[str] | None, only: set[str] | None) -> None:
        """`lines` is none when nobody answered; `only`: names that are kept."""
        for line in lines or []:
            found = SAMPLE.match(line)
            if not found:
                raise ValueError(f"not a sample: {line!r}")
            if only is None or found[1] in only:
                self._add(found[1], tuple(LABEL.findall(found[2] or "")), float(found[3]))
        self._add("up", (), 0 if lines is None else 1)
        self.times.append(at)

    def _add(self, name: str, labels: Labels, value: float) -> None:
        series = self.values.setdefault((name, labels), [])
        series.extend([None] * (len(self.times) - len(series)))
        series.append(value)

    def evenly(self) -> "History":
        """As it would be if scrapes had come just when they were due, as promtool's tests have them."""
        times = list(range(self.times[0], self.times[-1] + 1, EVERY))
        newest = [bisect_right(self.times, at) - 1 for at in times]
        return History(times, {key: [values[index] if index < len(values) else None for index in newest] for key, values in self.values.items()})

    def last(self, name: str, **labels: str) -> dict[Labels, float]:
        """What the newest scrape has of a family, of those with these labels."""
        wanted = set(labels.items())
        return {own: values[-1] for (of, own), values in self.values.items()
                if of == name and len(values) == len(self.times) and wanted <= set(own)}


def read(pages: Iterable[str], only: set[str] | None = None, quick: bool = False) -> History:
    """Of lines as metrics_history prints them, and as the testbed keeps them of a run (runner/scrapes.py). `quick`: by the time that
    would have passed on the quick day, by which everything in the testbed is judged."""
    history = History()
    at: int | None = None
    lines: list[str] | None = []
    for line in pages:
        if line.startswith("# scrape "):
            if at is not None:
                history.scrape(at, lines, only)
            at, lines = int(line.split()[4 if quick else 2]), None if line.endswith(" failed\n") else []
        elif not line.startswith("#") and lines is not None:
            lines.append(line.rstrip("\n"))
    if at is not None:
        history.scrape(at, lines, only)
    return history


def run(scenario: Path, *options: str, only: set[str] | None = None) -> History:
    program = os.environ["METRICS_HISTORY"]
    # Its files of /proc are written each second: in memory, as those of a kernel.
    environment = {**os.environ, "TMPDIR": "/dev/shm"}
    with subprocess.Popen([program, str(scenario), "--every", str(EVERY), *options], stdout=subprocess.PIPE, text=True, env=environment) as child:
        history = read(child.stdout or [], only)
    if child.returncode != 0:
        raise RuntimeError(f"{program} {scenario.name} {' '.join(options)}: status {child.returncode}")
    return history


def notation(values: list[float | None]) -> str:
    """As promtool's tests write series: runs of what stays the same in short."""
    words: list[str] = []
    at = 0
    while at < len(values):
        end = at
        while end + 1 < len(values) and values[end + 1] == values[at]:
            end += 1
        value, more = values[at], end - at
        if value is None:
            words.append(f"_x{more + 1}")
        else:
            words.append(f"{value!r}+0x{more}" if more else repr(value))
        at = end + 1
    return " ".join(words)


def name_of(name: str, labels: Labels, **further: str) -> str:
    return name + "{" + ",".join(f"{key}={json.dumps(value)}" for key, value in [*labels, *further.items()]) + "}"


def input_series(history: History, job: str, instance: str) -> list[dict[str, str]]:
    """For a file of promtool's tests: as many samples as there are scrapes, the first at time 0."""
    return [{"series": name_of(name, labels, job=job, instance=instance),
             "values": notation(values + [None] * (len(history.times) - len(values)))}
            for (name, labels), values in history.values.items()]
