# SPDX-License-Identifier: Apache-2.0
"""What is no libvirtd, or one that does not talk, is said clearly and harms no neighbour."""

import socket
import struct
import sys
import threading
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "qmp"))

from bed import MIB, PATIENCE, Bed, stretched  # noqa: E402
from fake_qemu import FakeQemu  # noqa: E402

NOBODY = 65534
# Of libvirt's driver for tests, which tells only the states of its domains.
DOMAINS = """<node><domain type='test'><name>web</name><uuid>6d1fda3c-3a57-4c55-8a2e-33f2b6ea0c10</uuid><memory>262144</memory>
<os><type>hvm</type></os><devices><memballoon model='virtio'/></devices></domain></node>
"""


def header(length: int) -> bytes:
    """Of a message of libvirt's remote protocol: its length, then whose program, version, procedure, type, serial and status it is."""
    return struct.pack(">IIIiiIi", length, 0x20008086, 1, 66, 1, 0, 0)


class FakeLibvirtd:
    """Serves a socket: says `text` to each client, or nothing, and keeps the connection, or `closes` it. One that does not
    `listen` is what an ended libvirtd leaves."""

    def __init__(self, path: Path, text: bytes = b"", mode: int = 0o666, listens: bool = True, closes: bool = False):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        path.chmod(mode)
        self.clients = []
        self.text, self.closes = text, closes
        if listens:
            self.listener.listen(64)
            threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
                self.clients.append(client)
                threading.Thread(target=self._say, args=(client,), daemon=True).start()
            except OSError:
                return

    def _say(self, client: socket.socket):
        try:
            client.sendall(self.text)
        except OSError:
            return  # who does not listen to the end
        if self.closes:
            client.recv(65536)  # what is read leaves an end, and no reset
            client.close()


class HostsTest(unittest.TestCase):
    def check(self, *complaints: str, patience: float = PATIENCE, user: int | None = None, watched: float = 0, **how):
        """A neighbour is controlled all the while, and each complaint is logged once, for `watched` seconds more, too."""
        with Bed("{libvirt: [{uri: 'qemu+unix:///system?socket=SOCKETS/libvirt-sock'}], qmp: [{directory: SOCKETS, pattern: '*.qmp', "
                 "exclusive: true}]}", user=user) as bed:
            fake = FakeLibvirtd(bed.sockets / "libvirt-sock", **how)
            self.addCleanup(fake.listener.close)
            neighbour = FakeQemu(bed.sockets / "neighbour.qmp", "neighbour")
            self.addCleanup(neighbour.kill)
            bed.guest("neighbour", lambda guest: guest["stats"], "statistics")
            newest, changed, oldest = None, time.monotonic(), 0.0
            deadline = time.monotonic() + patience
            while any(complaint not in bed.log() for complaint in complaints) and time.monotonic() < deadline:
                stats = bed.guests()["neighbour"]["stats"]["sampled_at"]
                if stats != newest:
                    newest, changed = stats, time.monotonic()
                oldest = max(oldest, time.monotonic() - changed)
                time.sleep(0.2)
            for complaint in complaints:
                self.assertIn(complaint, bed.log())
            self.assertLess(oldest, stretched(5), "the neighbour's statistics grew old")
            done = bed.ctl("set", "neighbour", "700MiB")
            self.assertEqual(done.returncode, 0, done.stderr)
            bed.guest("neighbour", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows a pin meanwhile")
            time.sleep(watched)
            for complaint in complaints:
                self.assertLess(bed.log().count(complaint), 3)
            bed.daemon.terminate()
            bed.daemon.wait(timeout=30)  # it waits for nobody: libvirt's calls would not return at all

    def test_one_that_says_nothing_is_named_and_gets_no_more_than_eight_calls(self):
        self.check("it did not answer within 5 s", "8 calls to it have not returned: no more are made until one does",
                   patience=240, watched=16)  # it is looked at each 5 s

    def test_one_that_says_garbage(self):
        self.check("received from server too large", text=b"SSH-2.0-OpenSSH_9.2p1 Debian\r\n")

    def test_one_that_has_ended_and_left_its_socket(self):
        self.check("Connection refused", listens=False)

    def test_one_that_closes_each_connection(self):
        self.check("End of file while reading data", closes=True)

    def test_one_that_says_half_of_a_message(self):
        self.check("it did not answer within 5 s", text=header(4096) + b"half")

    def test_one_that_says_64_mib_as_one_message(self):
        self.check("received from server too large", text=header(64 * MIB) + bytes(64 * MIB))

    def test_one_whose_driver_tells_nothing_of_balloons(self):
        with Bed("{libvirt: [{uri: 'test://SOCKETS/domains.xml'}], qmp: [{directory: SOCKETS, pattern: '*.qmp', exclusive: true}]}") as bed:
            (bed.sockets / "domains.xml").write_text(DOMAINS)
            neighbour = FakeQemu(bed.sockets / "neighbour.qmp", "neighbour")
            self.addCleanup(neighbour.kill)
            bed.guest("web", lambda guest: guest["state"] == "left_alone" and guest["actual_bytes"] == 256 * MIB, "is left alone")
            self.assertIn("its balloon is left alone: libvirt does not tell the size of its balloon: it, or its driver, may be too old",
                          bed.ctl("explain", "web").stdout)
            bed.guest("neighbour", lambda guest: guest["stats"], "statistics")
            self.assertEqual(bed.ctl("set", "neighbour", "700MiB").returncode, 0)
            bed.guest("neighbour", lambda guest: guest["actual_bytes"] == 700 * MIB, "follows a pin meanwhile")

    def test_one_that_may_not_be_used(self):
        self.check("Permission denied", user=NOBODY, mode=0)


if __name__ == "__main__":
    unittest.main()
