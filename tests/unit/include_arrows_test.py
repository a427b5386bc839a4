# SPDX-License-Identifier: Apache-2.0
"""Includes go one way: each room uses only the rooms that it is listed with. A new room, or a new arrow, is a line here."""
import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Room -> what its files may include beside themselves. A file belongs to the longest room that its path begins with.
PROTO = {"balloon/v1"}
ARROWS = {
    "base": set(),
    "policy": {"base"},
    "policy/peers": {"base", "policy"},
    "policy/recording": {"base", "policy"},
    "policy/rules": {"base", "policy"},
    "policy/sim": {"base", "policy", "policy/peers", "policy/recording", "policy/rules"},
    "vmm": {"base", *PROTO},
    "balloond": {"base", "policy", "policy/recording", "policy/rules", "balloon/state", "balloond/guests/libvirt",
                 "balloond/guests/proxmox", "grpc/health", *PROTO},
    "balloond/guests/libvirt": {"base", "balloond", "policy/rules"},
    "balloond/guests/proxmox": {"base", "balloond", "policy/rules"},
    # balloonctl decides recordings again, as balloon-sim does, and reads domains' XML and Proxmox' files, as the daemon does.
    "balloond/ctl": {"base", "balloond/guests/libvirt", "balloond/guests/proxmox", "policy", "policy/rules", "policy/sim", *PROTO},
}
ROOMS = sorted([*ARROWS, *PROTO, "balloon/state", "grpc/health"], key=len, reverse=True)
INCLUDE = re.compile(r'^#include "([^"]+)"', re.MULTILINE)


def room_of(path: str) -> str | None:
    return next((room for room in ROOMS if path.startswith(room + "/")), None)


def arrows_of(path: str, text: str) -> list[tuple[str, str | None]]:
    """The rooms, and the files, that a source file includes from outside its own room."""
    here = room_of(path)
    return [(included, room_of(included)) for included in INCLUDE.findall(text) if room_of(included) != here]


def wrong_arrows(path: str, text: str) -> list[str]:
    allowed = ARROWS[room_of(path)]
    return [f"{path} includes {included}" for included, room in arrows_of(path, text) if room not in allowed]


class IncludeArrowsTest(unittest.TestCase):
    def test_every_file_includes_only_rooms_that_its_own_may_use(self):
        files = [file for top in ("base", "policy", "vmm", "balloond") for file in (ROOT / top).rglob("*")
                 if file.suffix in (".h", ".cc")]
        self.assertGreater(len(files), 400, "the tree is not where this test looks for it")
        wrong = [arrow for file in files for arrow in wrong_arrows(str(file.relative_to(ROOT)), file.read_text())]
        self.assertEqual(wrong, [])

    def test_an_arrow_up_is_noticed(self):
        self.assertEqual(wrong_arrows("policy/engine.cc", '#include "balloond/clock.h"\n'),
                         ["policy/engine.cc includes balloond/clock.h"])
        self.assertEqual(wrong_arrows("policy/engine.cc", '#include "policy/sim/world.h"\n'),
                         ["policy/engine.cc includes policy/sim/world.h"])
        self.assertEqual(wrong_arrows("vmm/link/outbox.cc", '#include "policy/types.h"\n'),
                         ["vmm/link/outbox.cc includes policy/types.h"])

    def test_a_file_of_no_known_room_is_noticed(self):
        self.assertEqual(wrong_arrows("base/log.cc", '#include "helpers/x.h"\n'), ["base/log.cc includes helpers/x.h"])


if __name__ == "__main__":
    unittest.main()
