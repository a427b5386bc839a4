# SPDX-License-Identifier: Apache-2.0
"""Waits until nothing moves any more: what one phase leaves under way must not become the next one's work.

Seconds would not do: balloons and swap need more of them on a slow machine, and the counters of two runs would differ."""

import time

from .. import host
from ..guest import Guest
from ..qmp import Qmp, QmpError
from ..session import Session
from ..speed import MACHINE

# All have stood still for so long. Free page reporting comes after 2 s in a guest (mm/page_reporting.c), balloond decides each second.
QUIET_SECONDS = 5
# Sizes that have not left such a band stand still: below what balloond itself lets be (16 MiB, engine.deadband_min).
BAND = 4 << 20
# Seconds of the quick day after which the run goes on although something moves, and says so.
LIMIT = 90
PERIOD = 0.5


class Settling:
    """Tells when values have stood still for so many seconds."""

    def __init__(self, seconds: float):
        self._seconds, self._since = seconds, 0.0
        self._values: dict[str, int] = {}

    def reached(self, values: dict[str, int], now: float) -> bool:
        if values.keys() != self._values.keys() or any(abs(value - self._values[name]) > BAND for name, value in values.items()):
            self._values, self._since = values, now
            return False
        return now - self._since >= self._seconds


def settle(session: Session, monitors: dict[str, Qmp], seconds: float = 0) -> dict:
    """Nothing moves for at least `seconds`, and for QUIET_SECONDS. What guests and host have then."""
    seconds = max(seconds, QUIET_SECONDS)
    settling, started = Settling(seconds), MACHINE.quick_now()
    while True:
        guests = {name: found for name, guest in session.guests.items() if (found := sizes(guest, monitors[name]))}
        quiet = settling.reached(_values(guests), MACHINE.quick_now())
        if quiet or MACHINE.quick_now() - started > seconds + LIMIT:
            return {"quiet": quiet, "quick_seconds": round(MACHINE.quick_now() - started, 1), "guests": guests, "host": host.sample()}
        time.sleep(MACHINE.wall(PERIOD))


def sizes(guest: Guest, monitor: Qmp) -> dict[str, int] | None:
    """What its balloon leaves it, and what its VMM has in the host's memory and in its swap. None: its VMM has ended, a result as others."""
    try:
        size, process = monitor("query-balloon")["actual"], host.process(guest.pid)
    except (QmpError, OSError):
        time.sleep(PERIOD)  # whose sockets are closed may not be gone yet
        if guest.alive():
            raise
        return None
    return {"size": size, "resident": process["rss"], "swapped": process["swap"]} if process else None


def _values(guests: dict[str, dict[str, int]]) -> dict[str, int]:
    counters = host.vmstat()
    return ({f"{name}.{what}": value for name, sizes in guests.items() for what, value in sizes.items()}
            | {name: counters[name] * host.PAGE for name in ("pswpin", "pswpout")})
