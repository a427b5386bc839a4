# SPDX-License-Identifier: Apache-2.0
"""Whether guests' sizes have come to rest, as they do once what there is has been shared out."""

# For some time no size has left a band of this part of the guest's memory, and each is that near to its target.
BAND = 1 / 64


def have_given(guests: dict[str, dict], memory: dict[str, int], names: list[str]) -> bool:
    """Whether those guests, as the sampler shows them, have given what the daemon has asked of them, if there is one."""
    return all(guest["actual"] - guest.get("target", guest["actual"]) <= memory[name] * BAND
               for name, guest in guests.items() if name in names and "actual" in guest)


class Rest:
    def __init__(self, memory: dict[str, int], seconds: float):
        self._seconds = seconds
        self._band = {name: size * BAND for name, size in memory.items()}
        self._sizes: dict[str, int] = {}
        self._since = 0.0

    def reached(self, guests: dict[str, dict], now: float) -> bool:
        """`guests` as the sampler shows them. Without the daemon a guest's size is what it has of the host's memory."""
        sizes = {name: guest.get("actual", guest.get("rss", 0)) for name, guest in guests.items()}
        if not sizes or sizes.keys() != self._sizes.keys() or not all(self._rests(name, guest, sizes[name]) for name, guest in guests.items()):
            self._sizes, self._since = sizes, now
            return False
        return now - self._since >= self._seconds

    def _rests(self, name: str, guest: dict, size: int) -> bool:
        return abs(size - self._sizes[name]) <= self._band[name] and abs(size - guest.get("target", size)) <= self._band[name] \
            and guest.get("state", "controlled") == "controlled"
