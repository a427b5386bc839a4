# SPDX-License-Identifier: Apache-2.0
"""The run as it goes: a table that redraws itself on a terminal, or a block of plain lines now and then."""

import sys
import time

from runner.devices import describe

from .bar import bar
from .summary import speed_line
from .timeline import Timeline

PLAIN_PERIOD = 10.0
COLUMNS = f"{'guest':<6}{'used':>7}{'avail':>7}{'target':>8}{'actual':>8}{'RSS':>7}{'swap':>6}  {'load':<18}reason"


class LiveTable:
    def __init__(self, timeline: Timeline, out=sys.stdout):
        self._timeline, self._out = timeline, out
        self._terminal = out.isatty()
        self._printed_at = 0.0
        self._height = 0

    def show(self, event: dict):
        kind = event["event"]
        if kind == "sample":
            self._show_sample(event)
        elif kind in ("speed", "devices", "phase_start", "guest_up", "satisfied", "unsatisfied", "note", "guest_restarted", "guest_trouble", "failed",
                      "too_slow", "host_lost"):
            self._line(event)

    def _line(self, event: dict):
        text = {
            "speed": speed_line,
            "devices": describe,
            "phase_start": lambda e: f"== {e['phase']}: {e['title']}",
            "guest_up": lambda e: f"guest {e['guest']} is up after {e['seconds']} s",
            "satisfied": lambda e: f"{e['guest']}: {e['command']} satisfied after {e['seconds']} s",
            "unsatisfied": lambda e: f"{e['guest']}: {e['command']} not satisfied after {e['seconds']} s",
            "note": lambda e: e["text"],
            "guest_restarted": lambda e: f"{e['guest']}: the guest or its worker started again",
            "guest_trouble": lambda e: f"{e['guest']}: {e['line']}",
            "failed": lambda e: f"FAILED: {e['reason']}",
            "too_slow": lambda e: f"this machine is too slow to judge: {e['reason']}",
            "host_lost": lambda e: f"the emulated host was lost each time: {e['reason']}",
        }[event["event"]](event)
        self._erase()
        print(f"[{event['t']:6.1f} s] {text}", file=self._out, flush=True)

    def _show_sample(self, sample: dict):
        now = time.monotonic()
        if not self._terminal and now - self._printed_at < PLAIN_PERIOD:
            return
        self._printed_at = now
        lines = [*table_lines(sample), *phase_lines(self._timeline, sample)]
        self._erase()
        print("\n".join(lines), file=self._out, flush=True)
        self._height = len(lines) if self._terminal else 0

    def _erase(self):
        """Takes the last table off the terminal, so that the new one or a message stands in its place."""
        if self._height:
            self._out.write(f"\x1b[{self._height}A\x1b[J")
            self._height = 0


def table_lines(sample: dict) -> list[str]:
    host = sample["host"]
    lines = [f"[{sample['t']:6.1f} s] {sample['phase'] or 'boot'}: host free {_mib(host['free'])}, available {_mib(host['available'])} MiB; "
             f"speed factor {sample.get('factor', 1.0):.1f}; PSI some {host['psi_some_avg10']:.1f} % full {host['psi_full_avg10']:.1f} %; "
             f"swap used {_mib(host['swap_used'])} MiB, in {host['swap_in_pages']} out {host['swap_out_pages']} pages",
             COLUMNS]
    for name, guest in sorted(sample["guests"].items()):
        load = guest.get("load")
        shown = f"{_mib(load['resident'])}/{_mib(load['requested'])}" + (f" -{_mib(load['swapped'])}" if load["swapped"] else "") \
            if load else "-"
        lines.append(f"{name:<6}{_mib(guest.get('used')):>7}{_mib(guest.get('available')):>7}{_mib(guest.get('target')):>8}"
                     f"{_mib(guest.get('actual')):>8}{_mib(guest.get('rss')):>7}{_mib(guest.get('swap')):>6}  {shown:<18}"
                     f"{guest.get('reason', '') if guest.get('alive') else 'GONE'}")
    return lines


def phase_lines(timeline: Timeline, sample: dict) -> list[str]:
    """How far the phase's work is: what guests were asked to load and what of it they have."""
    phase = timeline.phases[-1] if timeline.phases and timeline.phases[-1].end is None else None
    if phase is None:
        return []
    loads = [sample["guests"].get(name, {}).get("load") or {} for name in phase.loaded]
    done, wanted = (sum(load.get(what, 0) for load in loads) for what in ("resident", "requested"))
    if not wanted:
        return []
    return [f"{phase.name}, number {len(timeline.phases)}: loads {bar(done >> 20, wanted >> 20, ' MiB')} resident, after {sample['t'] - phase.start:.0f} s"]


def _mib(size) -> str:
    return "-" if size is None else f"{size / 2**20:.0f}"
