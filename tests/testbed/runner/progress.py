# SPDX-License-Identifier: Apache-2.0
"""Whether anything in a phase still moves, told by counters: bytes of loads, bytes read, sizes. Not by a clock that runs alike on every
machine: `now` is the machine's own (speed.Machine.quick_now)."""

# A phase in which nothing has moved for so long stands still. Workers are asked each 10 s (sampler.STATUS_PERIOD) and may be late.
STALL_SECONDS = 90
# Loads and reads move when they are further than ever by this much: pages that go out to swap and come back are no progress.
GRAIN = 1 << 20
# A size moves when it leaves a band of this part of the guest's memory, as in rest.py.
BAND = 1 / 64


class Progress:
    def __init__(self, memory: dict[str, int]):
        self._band = {name: size * BAND for name, size in memory.items()}
        self._furthest: dict[tuple[str, str], int] = {}
        self._sizes: dict[str, int] = {}
        self._since: float | None = None

    def stalled(self, guests: dict[str, dict], now: float) -> bool:
        """`guests` as the sampler shows them."""
        if self._moved(guests) or self._since is None:
            self._since = now
        return now - self._since >= STALL_SECONDS

    def _moved(self, guests: dict[str, dict]) -> bool:
        return any([self._guest_moved(name, guest) for name, guest in guests.items()])  # a list: all are looked at

    def _guest_moved(self, name: str, guest: dict) -> bool:
        load = guest.get("load") or {}
        counters = {"touched": load.get("touched"), "resident": load.get("resident"), "read": guest.get("read")}
        moved = [self._further((name, what), value) for what, value in counters.items() if value is not None]
        return any([*moved, self._size_moved(name, guest.get("actual", guest.get("rss", 0)))])

    def _further(self, counter: tuple[str, str], value: int) -> bool:
        if value < self._furthest.get(counter, 0) + GRAIN:
            return False
        self._furthest[counter] = value
        return True

    def _size_moved(self, name: str, size: int) -> bool:
        if name in self._sizes and abs(size - self._sizes[name]) <= self._band[name]:
            return False
        self._sizes[name] = size
        return True
