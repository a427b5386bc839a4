# SPDX-License-Identifier: Apache-2.0
"""The daemon is killed in the middle of something, and started again: real QEMUs with real guests."""

import time
import unittest

from bed import MIB, Bed
from real_qemu import BOOT_PATIENCE, MEMORY, Monitor, RealQemu, WithQemus

MINIMUM = MEMORY // 2  # the bed's policy


class KilledTest(WithQemus):
    def kill_and_start(self, bed: Bed, *qemus: RealQemu):
        """Afterwards check() looks at what it tells these QEMUs from here on."""
        bed.stop()
        self.told = {qemu: len(qemu.commands()) for qemu in qemus}
        bed.start()

    def check(self):
        """No balloon went below its minimum, and none was moved before its guest had said how it is."""
        for qemu, before in self.told.items():
            commands = qemu.commands()[before:]
            asked = [at for at, command in enumerate(commands) if command.get("arguments", {}).get("property") == "guest-stats"]
            moved = [at for at, command in enumerate(commands) if command["execute"] == "balloon"]
            self.assertTrue(asked, "it is asked for statistics")
            self.assertGreater(min(moved, default=len(commands)), asked[0], "a target is set before the first statistics")
            self.assertGreaterEqual(min(commands[at]["arguments"]["value"] for at in moved) if moved else MEMORY, MINIMUM)

    def check_move_and_reset(self, backends: str):
        with Bed(backends) as bed:
            qemu = self.qemu(bed, more=("-qmp", f"unix:{bed.path}/second.qmp,server=on,wait=off"))
            self.controlled(bed)
            person = Monitor(bed.path / "second.qmp")
            self.addCleanup(person.close)
            low, high = 264 * MIB, 500 * MIB
            # Its balloon may be there before the daemon is dead: as often as it takes.
            for _ in range(50):
                self.pin(bed, high)
                self.assertEqual(bed.ctl("set", "web", f"{low // MIB}MiB", "--for", "10m").returncode, 0)
                deadline = time.monotonic() + BOOT_PATIENCE
                while person.actual() >= high:
                    self.assertLess(time.monotonic(), deadline, "it never begins to move")
                    time.sleep(0.001)
                bed.stop()
                if (size := person.actual()) > low:
                    break
                bed.start()
                self.controlled(bed)
            else:
                self.fail("it was never killed in time")
            self.kill_and_start(bed, qemu)
            self.controlled(bed)
            self.assertLessEqual(bed.guests()["web"]["actual_bytes"], size)
            self.assertEqual(list(bed.guests()), ["web"])
            self.check()
            self.pin(bed, 300 * MIB)

            person("system_reset")
            person("stop")  # it does not boot before the daemon has looked
            self.kill_and_start(bed, qemu)
            guest = bed.guest("web", lambda guest: guest["obstacle"] == "it does not run: paused", "is left alone")
            self.assertEqual(guest["actual_bytes"], MEMORY, "it counts in full until its driver is back")
            person("cont")
            self.controlled(bed)
            self.assertEqual(list(bed.guests()), ["web"])
            self.check()
            self.pin(bed, 320 * MIB)

    def test_in_the_middle_of_a_move_of_its_own_and_of_a_reset(self):
        self.check_move_and_reset("[{directory: SOCKETS, exclusive: true}]")

    def test_on_a_shared_socket_in_the_middle_of_a_move_of_its_own_and_of_a_reset(self):
        self.check_move_and_reset("[{directory: SOCKETS}]")

    def test_in_the_middle_of_a_migration(self):
        with Bed("[{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]") as bed:
            source = self.qemu(bed, more=("-qmp", f"unix:{bed.path}/source,server=on,wait=off"))
            self.controlled(bed)
            self.pin(bed, 300 * MIB)
            target = self.qemu(bed, "target.qmp", more=("-incoming", f"unix:{bed.path}/migration"))
            bed.guest("web.target", lambda guest: guest["obstacle"], "waits for its guest")
            person = Monitor(bed.path / "source")
            self.addCleanup(person.close)
            person("migrate-set-parameters", **{"max-bandwidth": 1 * MIB})
            person("migrate", uri=f"unix:{bed.path}/migration")
            bed.guest("web", lambda guest: guest["obstacle"] == "it is being migrated", "is left alone")

            self.kill_and_start(bed, source, target)
            # Which of the two has the name alone is decided by who joins first.
            self.until_both(bed, lambda web, other: web["obstacle"] == other["obstacle"] == "it is being migrated", "are left alone")
            guests = self.by_socket(bed)
            self.assertEqual((guests["web"]["actual_bytes"], guests["target"]["actual_bytes"]), (person.actual(), MEMORY), "both count")
            self.assertEqual(person("query-migrate")["status"], "active")
            person("migrate-set-parameters", **{"max-bandwidth": 1024 * MIB})
            self.until_both(bed, lambda _, other: other["state"] == "controlled" and other["stats"], "is controlled where it is now")
            self.assertEqual(self.by_socket(bed)["web"]["obstacle"], "it does not run: postmigrate")
            self.assertEqual(source.targets()[-1], 300 * MIB)
            self.check()
            self.pin(bed, 280 * MIB, self.by_socket(bed)["target"]["name"])
            source.kill()
            self.running.remove(source)
            bed.until(lambda: list(self.by_socket(bed)) == ["target"], "the one that was left is gone")

    @staticmethod
    def by_socket(bed: Bed) -> dict[str, dict]:
        return {guest["labels"]["socket"]: guest for guest in bed.guests().values()}

    def until_both(self, bed: Bed, condition, what: str):
        def met():
            guests = self.by_socket(bed)
            return len(guests) == 2 and condition(guests["web"], guests["target"])
        bed.until(met, f"both: {what}", BOOT_PATIENCE)


if __name__ == "__main__":
    unittest.main()
