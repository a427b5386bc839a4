# SPDX-License-Identifier: Apache-2.0
"""How fast this machine is, by a fixed piece of work that goes before all others on its CPU.

Other work on the machine below takes CPU from the emulated host, which does not know it: there the piece takes longer. What runs beside
it in the emulated host (guests, balloond) yields to it, so that it can be measured in the middle of a run.

`factor`: 1.0 is the quick day of docs/figures.md, on which six guests together booted in 25.5 s; at 2.0 everything takes twice as long.
Limits of time are seconds of the quick day: MACHINE.wall() makes seconds of them, and MACHINE.quick_now() is a clock that counts them.
`slowdown`: how many times as long as on hardware something takes in the emulated host, QUICK_SLOWDOWN * factor.

  python3 -m runner.speed              measures once: one JSON object
  python3 -m runner.speed --below      of a machine that is not emulated: how many times as long as alone ordinary work takes
  python3 -m runner.speed --follow     a piece each FOLLOW_PERIOD, on each CPU in turn: a line of seconds for each"""

import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

# Seconds of a piece in the emulated host on the quick day. Taken from a run that went before all else on its machine (chrt -r 1): the
# six guests of tests/scenarios/demo.yaml booted in 31.0 to 31.3 s, and 26 pieces meanwhile took 0.0345 s (median; 0.031 to 0.037):
# 0.0345 * 25.5 / 31.2.
QUICK_PIECE_SECONDS = 0.028
# Guests of one initramfs that boot together: 25.5 s for six, 8 to 10 s for one alone.
QUICK_BOOT_SECONDS, QUICK_BOOT_SECONDS_EACH = 5.0, 3.4
# Guests suffer more from a busy machine than the piece does: their timers and the emulator's locks wait for CPU, too. By the boot of this
# run, up to this many times.
GUESTS_SUFFER_MAX = 4.0
# The same piece takes 0.0027 s (0.00262 to 0.00323) on the machine below, whose CPU is taken for hardware.
QUICK_SLOWDOWN = 10.4
NATIVE_PIECE_SECONDS = QUICK_PIECE_SECONDS / QUICK_SLOWDOWN
ROUNDS_OF_PIECE = 12_000
BELOW_PIECES = 150  # on each CPU: half a second alone
PIECES = 20  # on each CPU: a second on the quick day
FOLLOW_PERIOD = 2.0
RECENT = 12  # pieces while following: the mean of so many counts, without the slowest
PRIORITY = 50  # of SCHED_FIFO
# A slower machine is not judged. Then a guest's CPU second takes over two minutes of a hardware's: timers in guests' kernels, in the
# links' protocol and in balloond, which no scenario can scale, decide what comes out.
MAX_FACTOR = 12.0
# For so long it may be slower on the way: other work comes and goes.
SLOW_SECONDS = 180
# At the start that may be a moment only, in which devices must not be slowed down for the whole run.
TRIES_AT_START, SECONDS_BETWEEN_TRIES = 6, 10
MEASURE_TIMEOUT = 600


def piece(rounds: int = ROUNDS_OF_PIECE) -> float:
    """Seconds for one piece: an interpreter's mix of integers, branches and memory is like a kernel's. No floating point, which an
    emulated CPU does in software."""
    started = time.monotonic()
    seen: dict[int, int] = {}
    last = [0] * 256
    value = 1
    for number in range(rounds):
        value = (value * 1103515245 + 12345) & 0x7FFFFFFF
        seen[value & 1023] = number
        last[value & 255] ^= seen.get((value >> 8) & 1023, number)
    return time.monotonic() - started


def go_before_others():
    """Without the right to (a run on a machine's own KVM by a user) the piece shares its CPU, and shows the machine slower than it is."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(PRIORITY))
    except PermissionError:
        pass


def cpus() -> list[int]:
    """The two of the emulated host; of a larger machine any two stand for all."""
    return sorted(os.sched_getaffinity(0))[:2]


def pieces_on(cpu: int, pieces: int) -> list[float]:
    os.sched_setaffinity(0, {cpu})
    go_before_others()
    piece()  # warms caches: the emulator's of translated code above all
    found = []
    for _ in range(pieces):
        found.append(piece())
        time.sleep(0.005)  # the kernel takes the CPU from work of this priority that never sleeps
    return found


def ordinary_pieces_on(cpu: int, pieces: int) -> list[float]:
    """Of no priority and without a pause, as a compiler works."""
    os.sched_setaffinity(0, {cpu})
    return [piece() for _ in range(pieces)]


def pieces_at_once(work=pieces_on, pieces: int = PIECES) -> list[float]:
    """On all CPUs at the same time, as in a run all are busy."""
    read, write = os.pipe()
    children = []
    for cpu in cpus():
        child = os.fork()
        if child == 0:
            try:
                os.write(write, (json.dumps(work(cpu, pieces)) + "\n").encode())
            finally:
                os._exit(0)
        children.append(child)
    os.close(write)
    with os.fdopen(read) as lines:
        found = [seconds for line in lines for seconds in json.loads(line)]
    for child in children:
        os.waitpid(child, 0)
    return found


def follow(out):
    places = cpus()
    go_before_others()
    while True:
        for cpu in places:
            os.sched_setaffinity(0, {cpu})
            piece(ROUNDS_OF_PIECE // 4)
            print(f"{piece():.4f}", file=out, flush=True)
            time.sleep(FOLLOW_PERIOD)


def measure() -> float:
    """Mean seconds of a piece, from a process of its own: this one has threads that it must not take along."""
    done = subprocess.run([sys.executable, "-I", "-S", str(Path(__file__).resolve())], stdout=subprocess.PIPE, text=True, check=True,
                          timeout=MEASURE_TIMEOUT, preexec_fn=_on_every_cpu)
    return json.loads(done.stdout)["piece"]


def factor_of(piece_seconds: float) -> float:
    return piece_seconds / QUICK_PIECE_SECONDS


class TooSlow(Exception):
    pass


class Machine:
    """The speed of this machine as last measured. Limits never shrink on one that is quicker than the quick day: periods of balloond and
    of drivers are not shorter there."""

    def __init__(self, clock=time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._recent: deque[float] = deque(maxlen=RECENT)
        self._at, self._quick = clock(), 0.0
        self._follower: subprocess.Popen | None = None
        self._suffering = 1.0
        self.factor = 1.0
        self._slow_since: float | None = None

    def measure(self) -> dict:
        """With all CPUs at once. Half of what is followed from then on must differ before it no longer counts."""
        seconds = measure()
        with self._lock:
            self._recent.clear()
        self._set([seconds] * (RECENT // 2))
        return self._told(seconds)

    def measure_at_start(self, sleep=time.sleep) -> dict:
        """measure() of a machine that a run can begin on; TooSlow when it stays slower than that."""
        for _ in range(TRIES_AT_START):
            told = self.measure()
            if self.factor <= MAX_FACTOR:
                return told
            sleep(SECONDS_BETWEEN_TRIES)
        raise TooSlow(f"its speed factor is {self.factor:.1f} at the start, above {MAX_FACTOR:.0f}")

    def followed(self) -> dict:
        """What measure() would say, without taking the CPUs for it: by the last pieces that follow() took."""
        with self._lock:
            recent = list(self._recent)
        return self._told(statistics.fmean(recent))

    def follow(self):
        """Keeps `factor` near to what it is, until stop()."""
        self._follower = subprocess.Popen([sys.executable, "-I", "-S", str(Path(__file__).resolve()), "--follow"], stdout=subprocess.PIPE,
                                          text=True, preexec_fn=_on_every_cpu)
        threading.Thread(target=self._take, args=(self._follower,), daemon=True).start()

    def stop(self):
        if self._follower:
            self._follower.kill()
            self._follower.wait()

    def booted(self, guests: int, seconds: float):
        """So many guests took so long to boot together: from now on the factor is what guests feel."""
        with self._lock:
            self._advance()
            expected = (QUICK_BOOT_SECONDS + QUICK_BOOT_SECONDS_EACH * guests) * max(1.0, self.factor / self._suffering)
            self._suffering = min(GUESTS_SUFFER_MAX, max(1.0, seconds / expected))
            self._weigh()

    def took(self, seconds: float):
        """One piece more."""
        self._set([seconds])

    def _told(self, piece_seconds: float) -> dict:
        return {"piece": round(piece_seconds, 5), "factor": round(self.factor, 2), "suffering": round(self._suffering, 2),
                "slowdown": round(QUICK_SLOWDOWN * self.factor, 1)}

    def wall(self, quick_seconds: float) -> float:
        """That many seconds of the quick day in seconds of now."""
        return quick_seconds * max(1.0, self.factor)

    def quick_now(self) -> float:
        """A clock that goes slower on a slow machine: seconds of the quick day since this object was made."""
        with self._lock:
            return self._advance()

    def check(self):
        """Raises TooSlow when a run has no sense here."""
        since = self._slow_since
        if since is not None and self._clock() - since > SLOW_SECONDS:
            raise TooSlow(f"its speed factor is {self.factor:.1f}, and has been above {MAX_FACTOR:.0f} for {SLOW_SECONDS} s")

    def sleep(self, quick_seconds: float):
        until = self.quick_now() + quick_seconds
        while (left := until - self.quick_now()) > 0:
            time.sleep(min(self.wall(left), 1.0))

    def _take(self, follower: subprocess.Popen):
        for line in follower.stdout:
            self.took(float(line))

    def _set(self, pieces: list[float]):
        with self._lock:
            self._advance()
            self._recent.extend(pieces)
            self._weigh()

    def _weigh(self):
        if self._recent:
            self.factor = factor_of(statistics.fmean(sorted(self._recent)[:max(1, len(self._recent) - 1)])) * self._suffering
        if self.factor <= MAX_FACTOR:
            self._slow_since = None
        elif self._slow_since is None:
            self._slow_since = self._at

    def _advance(self) -> float:
        now = self._clock()
        self._quick += (now - self._at) / max(1.0, self.factor)
        self._at = now
        return self._quick


def _on_every_cpu():
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


MACHINE = Machine()  # what this process runs on


def main():
    if sys.argv[1:] == ["--follow"]:
        return follow(sys.stdout)
    if sys.argv[1:] == ["--below"]:
        return print(f"{statistics.fmean(pieces_at_once(ordinary_pieces_on, BELOW_PIECES)) / NATIVE_PIECE_SECONDS:.1f}")
    found = pieces_at_once()
    mean = statistics.fmean(found)
    print(json.dumps({"piece": round(mean, 5), "factor": round(factor_of(mean), 2), "quickest": round(min(found), 5),
                      "slowest": round(max(found), 5)}))


if __name__ == "__main__":
    main()
