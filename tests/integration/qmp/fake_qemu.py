# SPDX-License-Identifier: Apache-2.0
"""A QMP server that says what a test wants, in a process of its own as QEMU is: the process is whom the daemon sees."""

import json
import mmap
import multiprocessing
import os
import select
import socket
import time
from pathlib import Path

GREETING = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 99}, "package": "fake"}, "capabilities": []}}
EVENT_PAUSE = 1  # seconds: QEMU tells of a balloon no more often (monitor/monitor.c, monitor_qapi_event_conf)
BALLOON = "/machine/peripheral/balloon0"
MIB = 1 << 20


class FakeQemu:
    """`mapped`: its process has mapped the guest's memory, as QEMU's has; else policy moves no balloon, for what it claims counts
    little. `answers` maps commands to what is returned instead of the usual; see FakeGuest.answer. `talk` replaces the whole
    conversation: it gets the accepted socket. `speed`: how fast its balloon moves for us; else it is there at once."""

    def __init__(self, path: Path, name: str, answers: dict | None = None, talk=None, memory: int = 1024 * MIB, mode: int = 0o666,
                 mapped: bool = False, speed: float = float("inf")):
        self.path = path
        self._hand = multiprocessing.Value("q", 0)
        self._away = multiprocessing.Event()
        self.state = multiprocessing.Queue()
        guest = FakeGuest(name, memory, answers or {}, speed, self._hand, self._away)
        self.process = multiprocessing.Process(target=_serve, daemon=True, args=(path, mode, guest, talk, self.state, mapped))
        self.process.start()
        while not path.exists():
            time.sleep(0.01)

    def events(self) -> list:
        """What happened since the last call: ("connected", time), ("greeted", time), ("target", bytes), ("closed", time)."""
        events = []
        while not self.state.empty():
            events.append(self.state.get())
        return events

    def move(self, size: int):
        """Another client's hand on the balloon, on a socket of its own; it is there at once."""
        self._hand.value = size

    def take_socket_away(self):
        """It lives, and nobody reaches it: its next client is left in the middle of a word."""
        self._away.set()
        while self.path.exists():
            time.sleep(0.01)

    def listen_anew(self):
        self._away.clear()

    def kill(self):
        self.process.kill()
        self.process.join()


class FakeGuest:
    def __init__(self, name: str, memory: int, answers: dict, speed: float, hand, away):
        self.name, self.memory, self.actual, self.answers, self.interval = name, memory, memory, answers, 0
        self.target, self.speed, self.hand, self.away, self.moved_at = memory, speed, hand, away, time.monotonic()

    def move(self):
        """Brings its balloon to where it is by now."""
        far = self.speed * (time.monotonic() - self.moved_at)
        self.moved_at = time.monotonic()
        self.actual = max(self.target, self.actual - far) if self.actual > self.target else min(self.target, self.actual + far)
        self.actual = int(self.actual) & ~4095
        if self.hand.value:
            self.target = self.actual = self.hand.value
            self.hand.value = 0

    def answer(self, command: str, arguments: dict):
        """What is returned; None: nothing more, ever; bytes: as they are; a KeyError: that there is no such command; another
        LookupError: an error of that class, in those words."""
        special = self.answers.get(command, self.answers.get((command, arguments.get("property"))))
        if special is not None:
            return special(self, arguments) if callable(special) else special
        if command == "balloon":
            self.target = min(arguments["value"], self.memory)
            if self.speed == float("inf"):
                self.actual = self.target
            return {}
        if command == "qom-get" and arguments["property"] == "guest-stats":
            return statistics(self)
        if command == "qom-get":
            return self.interval
        if command == "qom-set":
            self.interval = arguments["value"]
            return {}
        if command == "qom-list":
            balloon = [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}]
            return [{"name": "type", "type": "string"}] + (balloon if arguments["path"] == "/machine/peripheral" else [])
        usual = {"qmp_capabilities": {}, "query-name": {"name": self.name}, "query-uuid": {"UUID": "00000000-0000-0000-0000-000000000000"},
                 "query-cpus-fast": [{}], "query-memory-size-summary": {"base-memory": self.memory, "plugged-memory": 0},
                 "query-status": {"running": True, "status": "running"}, "query-migrate": {}, "query-balloon": {"actual": self.actual},
                 "query-blockstats": [{"stats": {"rd_bytes": 5}}]}
        return usual.get(command, KeyError(command))


def statistics(guest: FakeGuest) -> dict:
    """Of a guest that uses 300 MiB."""
    available = guest.actual - 300 * MIB
    return {"last-update": int(time.time()), "stats": {
        "stat-total-memory": guest.memory, "stat-available-memory": available, "stat-free-memory": available,
        "stat-swap-in": 0, "stat-swap-out": 0, "stat-major-faults": 7, "stat-minor-faults": 9, "stat-disk-caches": 2 ** 64 - 1}}


def _serve(path: Path, mode: int, guest: FakeGuest, talk, events, mapped: bool):
    memory = mmap.mmap(-1, guest.memory, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) if mapped else None  # noqa: F841
    path.unlink(missing_ok=True)
    os.umask(0o777 & ~mode)
    while True:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen(1)  # as QEMU: one client is served, another waits
            while not guest.away.is_set():
                if not select.select([listener], [], [], 0.1)[0]:
                    continue
                client, _ = listener.accept()
                events.put(("connected", time.monotonic()))
                try:
                    (talk or _converse)(client, guest, events)
                except OSError:
                    pass
                client.close()
                events.put(("closed", time.monotonic()))
        path.unlink()
        while guest.away.is_set():
            time.sleep(0.01)


def _converse(client: socket.socket, guest: FakeGuest, events):
    client.sendall(json.dumps(GREETING).encode() + b"\r\n")
    events.put(("greeted", time.monotonic()))
    told_at = 0.0
    for line in client.makefile("rb"):
        if guest.away.is_set():
            return
        command = json.loads(line)
        before = guest.actual
        guest.move()
        answer = guest.answer(command["execute"], command.get("arguments", {}))
        if command["execute"] == "balloon":
            events.put(("target", command["arguments"]["value"]))
        if guest.actual != before and time.monotonic() - told_at > EVENT_PAUSE:
            told_at = time.monotonic()
            event = {"event": "BALLOON_CHANGE", "data": {"actual": guest.actual}, "timestamp": {"seconds": 1, "microseconds": 2}}
            client.sendall(json.dumps(event).encode() + b"\r\n")
        if answer is None:
            return silent(client, guest, events)
        if isinstance(answer, bytes):
            client.sendall(answer)
        elif isinstance(answer, LookupError):
            error = dict(zip(("class", "desc"), answer.args))
            if isinstance(answer, KeyError):
                error = {"class": "CommandNotFound", "desc": f"The command {answer.args[0]} has not been found"}
            client.sendall(json.dumps({"error": error, "id": command["id"]}).encode() + b"\r\n")
        else:
            client.sendall(json.dumps({"return": answer, "id": command["id"]}).encode() + b"\r\n")


def silent(client: socket.socket, _guest, _events):
    """Accepts, and says nothing until the client goes: what a second client of QEMU sees."""
    while client.recv(65536):
        pass


def says(text: bytes):
    """Says this instead of a greeting, then nothing until the client goes."""
    def talk(client: socket.socket, _guest, _events):
        client.sendall(text)
        silent(client, _guest, _events)
    return talk


def endless_line(client: socket.socket, _guest, _events):
    """64 MiB of one line, as fast as they are taken."""
    client.settimeout(30)
    for _ in range(1024):
        client.sendall(b"x" * 65536)
        if select.select([client], [], [], 0)[0] and not client.recv(1):
            return
