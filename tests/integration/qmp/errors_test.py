# SPDX-License-Identifier: Apache-2.0
"""What goes wrong with one QMP socket is said clearly and harms no neighbour."""

import json
import multiprocessing
import os
import socket
import time
import unittest
from datetime import datetime, timezone

from bed import MIB, Bed, stretched
from fake_qemu import GREETING, FakeQemu, endless_line, says, silent, statistics

GREETING_LINE = json.dumps(GREETING).encode() + b"\r\n"
EXCLUSIVE = "[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]"
SHARED = "[{directory: SOCKETS, pattern: '*.qmp'}]"
WATCHED_SECONDS = 12  # longer than the 10 s of silence that a bad neighbour keeps

HELD_TOO_LONG = "it took more than 200 ms to answer, and others use it, too"
DEEP = 400_000


def closes(_client, _guest, _events):
    """Accepts, and is gone."""


# Name of the bad socket: how it is made, and what the log must say of it; of a shared one last, where that differs.
BAD_SOCKETS = {
    "garbage": (dict(talk=says(b"SSH-2.0-OpenSSH_9.2\r\n")), "it sent what is not JSON: 'SSH-2.0-OpenSSH_9.2'"),
    "utf8": (dict(talk=says(b'{"QMP": "\xff\xfe"}\r\n')), "it sent what is not JSON"),
    "half": (dict(talk=says(GREETING_LINE + b'{"return": {')), "no answer to qmp_capabilities within 5 s, only half a line", HELD_TOO_LONG),
    "closes": (dict(talk=closes), "its process closed the connection"),
    "deep": (dict(talk=says(b"[" * DEEP + b"]" * DEEP + b"\r\n")), "it sent JSON that is not an object: '[[[["),
    "silent": (dict(talk=silent), "another client has the socket: no greeting within 1 s"),
    "endless": (dict(talk=endless_line), "a line is longer than 1024 KiB"),
    "mute": (dict(answers={"query-balloon": lambda *_: None}), "no answer to query-balloon within 5 s", HELD_TOO_LONG),
    "negative": (dict(answers={"query-balloon": {"actual": -1}}), "its balloon: 'actual' is -1, not a count"),
    "huge": (dict(answers={"query-memory-size-summary": b'{"return": {"base-memory": 1e400}, "id": 5}\r\n'}), "it sent what is not JSON"),
    "absurd": (dict(answers={"query-memory-size-summary": {"base-memory": 2 ** 63}}), "boot memory of 9223372036854775808 bytes must be"),
    "deaf": (dict(answers={("qom-get", "guest-stats"): {"stats": {"stat-free-memory": -4096}, "last-update": 1}}),
             "its statistics: 'stat-free-memory' is -4096, not a count"),
    "old": (dict(answers={"query-memory-size-summary": KeyError("query-memory-size-summary")}),
            "its memory's size: The command query-memory-size-summary has not been found"),
    "inactive": (dict(answers={"query-balloon": LookupError("KVMMissingCap", "Using KVM without synchronous MMU")}),
                 "its balloon: Using KVM without synchronous MMU"),
}


def move(path, size: int):
    """Another client's hand on the balloon."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(20)
        client.connect(str(path))
        lines = client.makefile("rwb")
        lines.readline()
        for command in ({"execute": "qmp_capabilities", "id": 1}, {"execute": "balloon", "arguments": {"value": size}, "id": 2}):
            lines.write(json.dumps(command).encode() + b"\n")
            lines.flush()
            while "id" not in (answer := json.loads(lines.readline())):
                pass
            assert "return" in answer, answer


def age(guest: dict) -> float:
    """Of its newest statistics, in seconds."""
    sampled = datetime.fromisoformat(guest["stats"]["sampled_at"][:19]).replace(tzinfo=timezone.utc)
    return time.time() - sampled.timestamp()


class WithFakes(unittest.TestCase):
    def setUp(self):
        self.fakes = []
        self.addCleanup(lambda: [fake.kill() for fake in self.fakes])

    def fake(self, bed: Bed, name: str, **how) -> FakeQemu:
        self.fakes.append(FakeQemu(bed.sockets / f"{name}.qmp", name, **how))
        return self.fakes[-1]


class ErrorsTest(WithFakes):
    def check_every_way_to_misbehave(self, backends: str):
        shared = backends == SHARED
        with Bed(backends) as bed:
            self.fake(bed, "good")
            for name, (how, *_) in BAD_SOCKETS.items():
                self.fake(bed, name, **how)
            bed.guest("good", lambda guest: guest["stats"], "statistics")
            end = time.monotonic() + WATCHED_SECONDS
            oldest = 0.0
            while time.monotonic() < end:
                oldest = max(oldest, age(bed.guests()["good"]))
                time.sleep(0.2)
            # A shared socket is looked at every 8 s at rest; policy holds a guest after 10.
            self.assertLess(oldest, stretched(10 if shared else 5), "the neighbour's statistics grew old")
            for name, (_, *complaints) in BAD_SOCKETS.items():
                complaint = complaints[-1 if shared else 0]
                with self.subTest(name):
                    bed.until(lambda name=name, complaint=complaint: f"{name}.qmp: {complaint}" in bed.log(), f"{name}.qmp: {complaint}")
            bed.ctl("set", "good", "700MiB")
            bed.guest("good", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows a pin among bad neighbours")
            lines = bed.log().count("silent.qmp")
            self.assertLess(lines, 3, "a complaint is logged once, not at each try")

    def test_every_way_to_misbehave_is_named_and_the_good_neighbour_stays_controlled(self):
        self.check_every_way_to_misbehave(EXCLUSIVE)

    def test_on_shared_sockets_too_every_way_to_misbehave_is_named_and_harms_no_neighbour(self):
        self.check_every_way_to_misbehave(SHARED)

    def test_a_qemu_that_is_silent_for_ten_seconds_is_named_counts_as_it_was_and_is_controlled_after(self):
        hush = multiprocessing.Event()

        def blocks(_guest, _arguments):
            if hush.is_set():
                hush.clear()
                time.sleep(10)
            return [{"stats": {"rd_bytes": 5}}]
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "web", answers={"query-blockstats": blocks})
            self.fake(bed, "good")
            for name in ("web", "good"):
                bed.guest(name, lambda guest: guest["stats"], "statistics")
            bed.ctl("set", "web", "700MiB", "--for", "10m")
            bed.guest("web", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows its pin")
            with bed.on_time():
                hush.set()
                guest = bed.guest("web", lambda guest: guest["state"] == "disconnected", "is known not to be reached")
                self.assertEqual(guest["actual_bytes"], 700 * MIB, "it counts as it was")
                self.assertIn("web.qmp: no answer to query-blockstats within 5 s", bed.log())
                bed.ctl("set", "good", "800MiB")
                bed.guest("good", lambda guest: guest["actual_bytes"] == 800 * MIB, "the neighbour follows meanwhile")
                guest = bed.guest("web", lambda guest: guest["state"] == "pinned", "is back")
            self.assertEqual(guest["actual_bytes"], 700 * MIB, "no balloon has moved")

    def test_a_target_whose_answer_never_comes_is_refused_and_asked_for_again(self):
        times = multiprocessing.Value("i", 0)

        def balloon(guest, arguments):
            times.value += 1
            if times.value == 1:
                return None
            guest.target = guest.actual = arguments["value"]
            return {}
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "web", answers={"balloon": balloon})
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            bed.ctl("set", "web", "700MiB", "--for", "10m")
            bed.until(lambda: "web.qmp: no answer to balloon within 5 s" in bed.log(), "it is named")
            self.assertIn("guest web: its VMM refused target 700 MiB: its QMP socket was closed", bed.log())
            bed.guest("web", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows its pin in the end")

    def test_a_balloon_that_is_unplugged_is_missed_and_found_when_it_is_plugged_in_again(self):
        plugged = multiprocessing.Value("i", 1)
        balloon = [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}]

        def unless_unplugged(usual, error_class: str, words: str):
            return lambda guest, arguments: usual(guest, arguments) if plugged.value else LookupError(error_class, words)
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "web", answers={
                "qom-list": lambda _, arguments: balloon * (plugged.value if arguments["path"] == "/machine/peripheral" else 0),
                "query-balloon": unless_unplugged(lambda guest, _: {"actual": guest.actual}, "DeviceNotActive", "No balloon device has been activated"),
                ("qom-get", "guest-stats"): unless_unplugged(lambda guest, _: statistics(guest), "DeviceNotFound", "Device 'balloon0' not found")})
            bed.guest("web", lambda guest: guest["stats"] and not guest["obstacle"], "statistics")
            plugged.value = 0
            guest = bed.guest("web", lambda guest: guest["obstacle"] == "it has no balloon device", "is left alone")
            self.assertEqual(guest["actual_bytes"], 1024 * MIB, "it has all its memory back")
            plugged.value = 1
            bed.guest("web", lambda guest: not guest["obstacle"], "is not left alone any more")

    def test_a_guest_without_a_balloon_is_counted_and_left_alone_with_the_reason(self):
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "bare", answers={"qom-list": [{"name": "type", "type": "string"}]})
            guest = bed.guest("bare", lambda guest: guest["obstacle"], "a reason")
            self.assertEqual(guest["obstacle"], "it has no balloon device")
            self.assertEqual(guest["actual_bytes"], 1024 * MIB)
            bed.ctl("set", "bare", "700MiB")
            time.sleep(1)
            self.assertEqual(bed.guests()["bare"]["target_bytes"], 1024 * MIB)

    def test_guests_whose_memory_stays_where_it_is_are_left_alone_with_the_reason(self):
        def devices(folder: str, kind: str):
            return {"qom-list": lambda _, arguments: [{"name": "balloon0", "type": "child<virtio-balloon-pci>"}]
                    * (arguments["path"] == "/machine/peripheral") + [{"name": "x", "type": f"child<{kind}>"}] * (arguments["path"] == folder)}
        with Bed(EXCLUSIVE) as bed:
            # The types as qapi/qom.json names them: sev-guest of QEMU 7.2, sev-snp-guest of 9.1, tdx-guest of 10.1. The memory of
            # the latter two is guest_memfd's, which has no property of its own there.
            for name, folder, kind, reason in (("vfio", "/machine/peripheral", "vfio-pci", "its memory is pinned for a device of the host"),
                                               ("sev", "/objects", "sev-guest", "its memory is encrypted and stays where it is"),
                                               ("snp", "/objects", "sev-snp-guest", "its memory is encrypted and stays where it is"),
                                               ("tdx", "/objects", "tdx-guest", "its memory is encrypted and stays where it is")):
                self.fake(bed, name, answers=devices(folder, kind))
                guest = bed.guest(name, lambda guest: guest["obstacle"], "a reason")
                self.assertEqual((guest["obstacle"], guest["target_bytes"]), (f"{reason} ({kind})", 1024 * MIB))

    def test_a_guest_that_is_paused_migrated_or_put_into_a_snapshot_is_left_alone_with_the_reason(self):
        for answers, reason in (({"query-status": {"running": False, "status": "paused"}}, "it does not run: paused"),
                                ({"query-jobs": [job("snapshot-save")]}, "a snapshot of it is being saved, loaded or deleted"),
                                ({"query-migrate": {"status": "active"}}, "it is being migrated")):
            with self.subTest(reason), Bed(EXCLUSIVE) as bed:
                fake = self.fake(bed, "held", answers=answers)
                bed.guest("held", lambda guest, reason=reason: guest["obstacle"] == reason, reason)
                bed.ctl("set", "held", "700MiB")
                time.sleep(1)
                self.assertEqual([event for event in fake.events() if event[0] == "target"], [])

    def test_a_socket_that_may_not_be_used_is_named(self):
        with Bed(EXCLUSIVE, user=65534) as bed:
            self.fake(bed, "good")
            self.fake(bed, "closed", mode=0)
            bed.until(lambda: "closed.qmp: cannot connect: Permission denied" in bed.log(), "the refusal is named")
            bed.guest("good", lambda guest: guest["stats"], "statistics")

    def test_a_socket_that_nobody_serves_is_named_and_one_that_comes_later_is_found(self):
        with Bed(EXCLUSIVE) as bed:
            dead = socket.socket(socket.AF_UNIX)
            dead.bind(str(bed.sockets / "dead.qmp"))
            dead.close()
            bed.until(lambda: "dead.qmp: nobody listens" in bed.log(), "it is named")
            self.fake(bed, "late")
            bed.guest("late", lambda guest: guest["stats"], "statistics")

    def test_a_guest_whose_process_dies_is_gone_and_back_when_it_is_started_again(self):
        for backends in (EXCLUSIVE, SHARED):
            with self.subTest(backends), Bed(backends) as bed:
                self.fake(bed, "web")
                first = bed.guest("web", lambda guest: guest["stats"], "statistics")
                self.fakes[-1].kill()
                bed.until(lambda: "web" not in bed.guests(), "it is gone")
                self.fake(bed, "web")
                second = bed.guest("web", lambda guest: guest["stats"], "statistics")
                self.assertNotEqual(first["pid"], second["pid"])

    def test_two_sockets_of_one_process_are_one_guest(self):
        with Bed(EXCLUSIVE) as bed:
            fake = self.fake(bed, "web")
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            os.symlink(fake.path, bed.sockets / "other.qmp")
            bed.until(lambda: "other.qmp: another client has the socket" in bed.log(), "the second waits")
            self.assertEqual(list(bed.guests()), ["web"])

    def test_two_guests_of_one_name_are_told_apart_by_their_sockets(self):
        with Bed(EXCLUSIVE) as bed:
            for stem in ("100", "101"):
                self.fakes.append(FakeQemu(bed.sockets / f"{stem}.qmp", "same name"))
            names = bed.until(lambda: len(bed.guests()) == 2 and sorted(bed.guests()), "both are managed")
            self.assertEqual(names[0], "same_name")
            self.assertIn(names[1], ("same_name.100", "same_name.101"))


class ProxmoxTest(WithFakes):
    def test_what_proxmox_grants_its_guests_holds_where_policy_says_so(self):
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', proxmox: SOCKETS}]") as bed:
            bed.write_policy("guests: [{name: '*', limits: hypervisor}]")
            for number, text in (("100", "memory: 1024\nballoon: 768\nshares: 2000\n"), ("101", "memory: 1024\nballoon: 512\nshares: 0\n")):
                (bed.sockets / f"{number}.conf").write_text(text)
            for number in ("100", "101", "102"):
                self.fakes.append(FakeQemu(bed.sockets / f"{number}.qmp", f"vm{number}", mapped=True))
            guest = bed.guest("vm100", lambda guest: guest["stats"], "is managed")
            self.assertEqual((int(guest["min_bytes"]), guest["weight"]), (768 * MIB, 200))
            guest = bed.guest("vm101", lambda guest: guest["obstacle"], "is left alone")
            self.assertEqual(guest["obstacle"], "its policy leaves it alone (control: off)")
            bed.until(lambda: "102.qmp: its limits are unknown" in bed.log(), "a configuration that is not there is named")
            guest = bed.guest("vm102", lambda guest: guest["stats"], "has the policy's limits")
            self.assertEqual((int(guest["min_bytes"]), guest["weight"]), (512 * MIB, 100))
            bed.guest("vm100", lambda guest: guest["actual_bytes"] < 800 * MIB, "is shrunk to its minimum")
            time.sleep(3)
            self.assertGreaterEqual(bed.guests()["vm100"]["actual_bytes"], 768 * MIB)
            self.assertEqual(bed.guests()["vm101"]["actual_bytes"], 1024 * MIB)


UNKNOWN = 2 ** 64 - 1


def windows(used: int, service: bool = True):
    """Statistics of a Windows guest: its total stays while the balloon is inflated, and without its balloon service nothing is known."""
    def say(guest, _arguments):
        known = {"stat-total-memory": guest.memory, "stat-free-memory": guest.actual - used, "stat-available-memory": guest.actual - used,
                 "stat-major-faults": 9, "stat-minor-faults": 99}
        names = ("total-memory", "free-memory", "available-memory", "major-faults", "minor-faults", "swap-in", "swap-out", "disk-caches")
        return {"last-update": int(time.time()), "stats": {f"stat-{name}": UNKNOWN for name in names} | (known if service else {})}
    return {("qom-get", "guest-stats"): say}


def job(kind: str) -> dict:
    return {"id": kind, "type": kind, "status": "running", "current-progress": 0, "total-progress": 1}


class WindowsTest(WithFakes):
    def test_a_windows_guest_is_judged_by_what_it_has_available_and_keeps_the_minimum_of_its_rule(self):
        with Bed(EXCLUSIVE) as bed:
            bed.write_policy("guests: [{name: 'win*', min: 900MiB}]")
            self.fake(bed, "win-idle", answers=windows(200 * MIB), mapped=True)
            # A move of less than the deadband, 2 % of its size, is not worth it: from up to 918.4 MiB it stays.
            bed.guest("win-idle", lambda guest: guest["actual_bytes"] < 919 * MIB, "is shrunk to its minimum")
            time.sleep(3)
            self.assertGreaterEqual(bed.guests()["win-idle"]["actual_bytes"], 900 * MIB)
            self.assertNotIn("make no sense", bed.log())

    def test_a_windows_guest_without_its_service_is_held(self):
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "win", answers=windows(200 * MIB, service=False), mapped=True)
            bed.guest("win", lambda guest: guest["stats"] and guest["stats"]["available_bytes"] is None, "statistics without values")
            time.sleep(5)
            self.assertEqual(bed.guests()["win"]["actual_bytes"], 1024 * MIB)

    def test_a_windows_guest_is_judged_from_the_time_its_service_runs(self):
        runs = multiprocessing.Event()

        def say(guest, arguments):
            return windows(200 * MIB, service=runs.is_set())["qom-get", "guest-stats"](guest, arguments)
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "win", answers={("qom-get", "guest-stats"): say}, mapped=True)
            bed.guest("win", lambda guest: guest["stats"] and guest["stats"]["available_bytes"] is None, "statistics without values")
            self.assertEqual(bed.guests()["win"]["actual_bytes"], 1024 * MIB)
            runs.set()
            bed.guest("win", lambda guest: guest["stats"]["available_bytes"] is not None, "its values are known")
            bed.guest("win", lambda guest: guest["state"] == "controlled" and guest["actual_bytes"] < 919 * MIB, "is shrunk by what it uses")
            self.assertNotIn("make no sense", bed.log())


class SharedTest(WithFakes):
    def test_a_shared_socket_is_given_back_each_time_and_taken_every_8_s_at_rest(self):
        with Bed(SHARED) as bed:
            fake = self.fake(bed, "web")
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            bed.ctl("set", "web", "1GiB", "--for", "10m")
            time.sleep(25)
            events = fake.events()
            greeted = [at for what, at in events if what == "greeted"]
            closed = [at for what, at in events if what == "closed"]
            held = [end - begin for begin, end in zip(greeted, closed)]
            self.assertLess(max(held), stretched(1), "held for much longer than 200 ms")
            self.assertGreater(greeted[-1] - greeted[-2], 6, "at rest it is taken seldom")
            self.assertLess(greeted[-1] - greeted[-2], stretched(12))

    def test_while_a_guest_is_backed_up_or_migrated_its_socket_is_its_owners(self):
        with Bed(SHARED) as bed:
            fakes = [self.fake(bed, "saved", answers={"query-jobs": [job("backup")]}),
                     self.fake(bed, "moved", answers={"query-migrate": {"status": "active"}})]
            for name, reason in (("saved", "it is being backed up"), ("moved", "it is being migrated")):
                bed.guest(name, lambda guest, reason=reason: guest["obstacle"] == reason, reason)
                bed.ctl("set", name, "700MiB")
            for fake in fakes:
                fake.events()
            time.sleep(20)
            for fake in fakes:
                events = [what for what, _ in fake.events()]
                self.assertLessEqual(events.count("greeted"), 1, "it is looked at each 30 s")
                self.assertNotIn("target", events)

    def test_a_pin_reaches_a_shared_guest_and_its_owner_gets_the_socket_within_a_second(self):
        with Bed(SHARED) as bed:
            fake = self.fake(bed, "web")
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            bed.ctl("set", "web", "700MiB")
            waits = []
            for _ in range(10):
                begin = time.monotonic()
                with socket.socket(socket.AF_UNIX) as owner:
                    owner.settimeout(10)
                    owner.connect(str(fake.path))
                    owner.recv(4096)
                    waits.append(time.monotonic() - begin)
                time.sleep(1)
            self.assertLess(max(waits), stretched(1))
            bed.guest("web", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows the pin")

    def test_a_balloon_that_another_client_moves_is_left_alone_and_taken_back_once_a_minute_at_most(self):
        with Bed(SHARED) as bed:
            bed.write_policy("contested: {then: override, for: 1m}")
            fake = self.fake(bed, "web", mapped=True)
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            bed.settled("web")
            move(fake.path, 900 * MIB)
            moved_at = time.monotonic()
            guest = bed.guest("web", lambda guest: guest.get("contested"), "is contested")
            self.assertEqual(int(guest["contested"]["to_bytes"]), 900 * MIB)
            self.assertIn("somebody else moved its balloon from", bed.log())
            self.assertIn("contested", bed.ctl("list").stdout)
            self.assertIn("somebody else moved its balloon", bed.ctl("explain", "web").stdout)
            fake.events()
            bed.guest("web", lambda guest: guest["actual_bytes"] < 900 * MIB, "is taken back", patience=180)
            self.assertGreater(time.monotonic() - moved_at, 55)

    def test_a_balloon_that_another_client_moves_while_ours_is_on_its_way_is_contested(self):
        # Back up, further down, and a stop short of our target: each in the middle of our own move to 600 MiB. We ask for nothing
        # else meanwhile, which would undo the other's move before it is seen.
        for what, size in (("back up", 1000 * MIB), ("further down", 500 * MIB), ("a stop", 800 * MIB)):
            for backends in (EXCLUSIVE, SHARED):
                with self.subTest(what, backends=backends), Bed(backends) as bed:
                    bed.write_policy("guests: [{name: web, min: 600MiB, max: 600MiB}]")
                    fake = self.fake(bed, "web", mapped=True, speed=4 * MIB)
                    bed.guest("web", lambda guest: guest["target_bytes"] == 600 * MIB and guest["actual_bytes"] < 1020 * MIB,
                              "is on its way down")
                    self.assertGreater(bed.guests()["web"]["actual_bytes"], 800 * MIB, "is not there yet")
                    fake.move(size)
                    bed.guest("web", lambda guest: guest.get("contested"), "is contested")
                    self.assertIn("is left alone for", bed.ctl("explain", "web").stdout)
                    fake.events()
                    bed.guest("web", lambda guest, size=size: guest["actual_bytes"] == size, "has what the other gave it")

    def test_a_balloon_that_is_told_to_stay_where_it_was_seen_goes_back_there_and_is_nobody_elses(self):
        with Bed(EXCLUSIVE) as bed:
            self.fake(bed, "web", mapped=True, speed=30 * MIB)
            bed.guest("web", lambda guest: guest["stats"], "statistics")
            for least in (950, 900, 850, 800, 750, 700):
                bed.ctl("set", "web", "512MiB", "--for", "5m")
                seen = bed.guest("web", lambda guest, least=least: guest["actual_bytes"] < least * MIB, "is on its way")["actual_bytes"]
                bed.ctl("set", "web", f"{seen >> 10}KiB", "--for", "5m")
                bed.guest("web", lambda guest, seen=seen: guest["actual_bytes"] == seen >> 10 << 10, "is back")
                self.assertIsNone(bed.guests()["web"]["contested"], bed.log())


if __name__ == "__main__":
    unittest.main()
