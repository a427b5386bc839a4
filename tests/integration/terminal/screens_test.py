# SPDX-License-Identifier: Apache-2.0
"""What balloonctl shows on a terminal: screens of tmux, compared letter by letter with those in screens/.

After a wanted change: UPDATE_SCREENS=1 ctest -R balloonctl.screens, and look at what differs.
"""
import itertools
import os
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
BALLOONCTL = os.environ["BALLOONCTL"]
DAEMON = os.environ["STILL_DAEMON"]
LONG_NAME = "db-" + "x" * 59 + "-2"
NOT_FOUND = 3


class Daemon:
    """One that always says the same, with so many guests."""

    def __init__(self, directory, guests):
        self.socket = f"{directory}/{guests}.sock"
        self.process = subprocess.Popen([DAEMON, self.socket, str(guests)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.process.stdout.close()


class Terminal:
    """A terminal of tmux in which a shell runs one command."""

    NUMBERS = itertools.count()

    def __init__(self, directory, columns, rows, command, environment=()):
        number = next(self.NUMBERS)
        settings_file = Path(directory) / "tmux.conf"
        settings_file.write_text("set -g status off\nset -g escape-time 0\n")
        self.server = ["tmux", "-S", f"{directory}/tmux-{number}.sock", "-f", str(settings_file)]
        self.done = Path(directory) / f"done-{number}"
        settings = " ".join(["LC_ALL=C.UTF-8", *environment])
        # Asked where its cursor is, the terminal answers once it has shown all that came before.
        shown = r"stty -echo -icanon; printf '\033[6n'; IFS= read -rsd R _"
        script = f"{settings} {command}; status=$?; {shown}; echo $status >{self.done}; exec sleep 600"
        subprocess.run([*self.server, "new-session", "-d", "-x", str(columns), "-y", str(rows), "bash", "-c", script],
                       check=True)

    def tmux(self, *words):
        return subprocess.run([*self.server, *words], check=True, capture_output=True, text=True).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def screen(self, colours=False):
        text = self.tmux("capture-pane", "-p", *(["-e"] if colours else []))
        return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n") + "\n"

    def wait_for(self, condition, what):
        deadline = time.monotonic() + 120
        while not condition():
            if time.monotonic() > deadline:
                raise AssertionError(f"{what} did not come; the screen:\n{self.screen()}")
            time.sleep(0.05)

    def wait_for_text(self, text):
        self.wait_for(lambda: text in self.screen(), f"'{text}'")

    def end(self):
        """The command's exit status."""
        self.wait_for(lambda: self.done.exists() and self.done.read_text().endswith("\n"), "the end")
        return int(self.done.read_text())

    def close(self):
        subprocess.run([*self.server, "kill-server"], check=False, capture_output=True)


class ScreenTest(unittest.TestCase):
    SIZES = [(80, 24), (200, 50)]

    @classmethod
    def setUpClass(cls):
        cls.directory = tempfile.TemporaryDirectory()
        cls.daemons = {guests: Daemon(cls.directory.name, guests) for guests in (0, 6, 200)}

    @classmethod
    def tearDownClass(cls):
        for daemon in cls.daemons.values():
            daemon.close()
        cls.directory.cleanup()

    def open(self, columns, rows, guests, arguments, environment=()):
        terminal = Terminal(self.directory.name, columns, rows,
                            f"{BALLOONCTL} --socket {self.daemons[guests].socket} {arguments}", environment)
        self.addCleanup(terminal.close)
        return terminal

    def expect_screen(self, name, screen):
        file = HERE / "screens" / f"{name}.txt"
        if os.environ.get("UPDATE_SCREENS"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(screen)
        self.assertEqual(screen, file.read_text(), f"the screen is not that of {file.name}")

    def expect_live(self, name, terminal):
        """It may be half drawn when it is looked at: what the command wrote last is on its way through tmux, or it draws again and again."""
        if os.environ.get("UPDATE_SCREENS"):
            time.sleep(1)
        else:
            kept = (HERE / "screens" / f"{name}.txt").read_text()
            deadline = time.monotonic() + 120
            while terminal.screen() != kept and time.monotonic() < deadline:
                time.sleep(0.1)
        self.expect_screen(name, terminal.screen())


class Tables(ScreenTest):
    def test_list_fits_the_terminal_whatever_the_guests(self):
        for columns, rows in self.SIZES:
            for guests in (0, 6, 200):
                with self.subTest(columns=columns, guests=guests):
                    terminal = self.open(columns, rows, guests, "list")
                    self.assertEqual(terminal.end(), 0)
                    self.expect_live(f"list-{guests}-{columns}x{rows}", terminal)
                    terminal.close()

    def test_watch_shows_as_many_guests_as_have_room_and_tells_of_the_others(self):
        for columns, rows in self.SIZES:
            for guests in (0, 6, 200):
                with self.subTest(columns=columns, guests=guests):
                    terminal = self.open(columns, rows, guests, "watch --count 2")
                    self.assertEqual(terminal.end(), 0)
                    self.expect_live(f"watch-{guests}-{columns}x{rows}", terminal)
                    terminal.close()

    def test_explain_breaks_lines_at_words_and_names_a_guest_that_is_not_there(self):
        for columns, rows in self.SIZES:
            for guests, status in ((0, NOT_FOUND), (6, 0), (200, 0)):
                with self.subTest(columns=columns, guests=guests):
                    terminal = self.open(columns, rows, guests, f"explain {LONG_NAME}")
                    self.assertEqual(terminal.end(), status)
                    self.expect_live(f"explain-{guests}-{columns}x{rows}", terminal)
                    terminal.close()

    def test_show_and_host_break_lines_at_words(self):
        for columns, rows in self.SIZES:
            for command in (f"show {LONG_NAME}", "host"):
                with self.subTest(columns=columns, command=command):
                    terminal = self.open(columns, rows, 200, command)
                    self.assertEqual(terminal.end(), 0)
                    self.expect_live(f"{command.split()[0]}-{columns}x{rows}", terminal)
                    terminal.close()

    def test_needs_fit_the_terminal_whatever_the_guests(self):
        for columns, rows in self.SIZES:
            for name, guests, command in (
                ("needs-0", 0, "needs"), ("needs-6", 6, "needs"), ("needs-200", 200, "needs"), ("needs-days", 200, f"needs {LONG_NAME}"),
            ):
                with self.subTest(columns=columns, name=name):
                    terminal = self.open(columns, rows, guests, command)
                    self.assertEqual(terminal.end(), 0)
                    self.expect_live(f"{name}-{columns}x{rows}", terminal)
                    terminal.close()

    def test_states_have_colours_unless_nobody_wants_them(self):
        coloured = self.open(80, 24, 6, "list")
        coloured.wait_for(lambda: "\033[33mstale" in coloured.screen(colours=True), "'stale' in colour")
        coloured.close()
        plain = self.open(80, 24, 6, "list", ["NO_COLOR=1"])
        plain.wait_for_text("stale")
        self.assertEqual(plain.end(), 0)
        self.assertNotIn("\033[33m", plain.screen(colours=True))


# A host on which much is amiss, as files of /proc and /sys.
HOST = {
    "proc/pressure/memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    "proc/swaps": "Filename\tType\t\tSize\t\tUsed\t\tPriority\n/dev/zram0\tpartition\t4194300\t0\t100\n",
    "proc/sys/vm/overcommit_memory": "2\n",
    "proc/meminfo": "MemTotal: 65536000 kB\nHugePages_Total: 512\nHugePages_Free: 12\nHugepagesize: 2048 kB\n",
    "proc/net/route": "Iface\tDestination\tGateway\n",
    "proc/cpuinfo": "flags\t\t: fpu svm\n",
    "proc/spl/kstat/zfs/arcstats": "name type data\nsize 4 21474836480\nc_max 4 33554432000\n",
    "proc/812/comm": "ksmtuned\n",
    "proc/812/cmdline": "/bin/bash\0/usr/sbin/ksmtuned\0",
    "sys/kernel/mm/ksm/run": "0\n",
    "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
    "sys/kernel/mm/transparent_hugepage/defrag": "[always] defer defer+madvise madvise never\n",
    "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
    "sys/devices/system/node/online": "0-1\n",
    "sys/module/kvm_amd/parameters/nested": "1\n",
    "sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory pids\n",
}
# Only there, in a mount namespace: its devices are /dev/null, which KVM's is not.
ON_THAT_HOST = """unshare --mount sh -ec '
mount --bind {tree}/dev /dev && mount --bind {tree}/sys /sys && mount --bind {tree}/proc /proc && exec "$@"' sh"""


class HostCheck(ScreenTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.tree = Path(cls.directory.name) / "host"
        for name, text in HOST.items():
            file = cls.tree / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        device = os.makedev(1, 3)
        for name in ("null", "kvm", "net/tun"):
            file = cls.tree / "dev" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            os.mknod(file, 0o20666, device)

    def test_host_check_breaks_its_advice_at_words_whatever_the_guests(self):
        for (columns, rows), daemon in itertools.product(self.SIZES, self.daemons.values()):
            with self.subTest(columns=columns, daemon=daemon.socket):
                terminal = Terminal(self.directory.name, columns, rows,
                                    f"{ON_THAT_HOST.format(tree=self.tree)} {BALLOONCTL} host check", [f"BALLOOND_SOCKET={daemon.socket}"])
                self.addCleanup(terminal.close)
                self.assertEqual(terminal.end(), 1, "there are problems")
                self.expect_live(f"host-check-{columns}x{rows}", terminal)
                terminal.close()


class Top(ScreenTest):
    """The screen says "q quit" in its last line once it is drawn."""

    def open_top(self, columns, rows, guests, arguments="", environment=()):
        terminal = self.open(columns, rows, guests, f"top {arguments}", environment)
        terminal.wait_for_text("q quit")
        return terminal

    def test_it_fits_the_terminal_whatever_the_guests(self):
        for columns, rows in self.SIZES:
            for guests in (0, 6, 200):
                with self.subTest(columns=columns, guests=guests):
                    terminal = self.open_top(columns, rows, guests)
                    self.expect_live(f"top-{guests}-{columns}x{rows}", terminal)
                    terminal.keys("q")
                    self.assertEqual(terminal.end(), 0)
                    terminal.close()

    def test_it_follows_a_resize(self):
        terminal = self.open_top(80, 24, 6)
        terminal.resize(200, 50)
        self.expect_live("top-6-200x50", terminal)
        terminal.resize(80, 24)
        self.expect_live("top-6-80x24", terminal)

    def test_keys_select_sort_filter_and_explain(self):
        terminal = self.open_top(80, 24, 200)
        terminal.keys("s")
        terminal.wait_for_text("sorted by used")
        terminal.keys("r")
        terminal.wait_for_text("sorted by used, reversed")
        terminal.keys("s", "s", "s", "s", "s", "r")
        terminal.wait_for_text("sorted by name\n")
        terminal.keys("/")
        terminal.wait_for_text("filter: _")
        terminal.keys("web-11", "Enter")
        terminal.wait_for_text("11 of 200 guests")
        terminal.keys("Down", "Enter")
        terminal.wait_for_text("--- web-110")
        self.expect_live("top-detail-80x24", terminal)
        terminal.keys("Escape")
        terminal.wait_for_text("200 of 200 guests")
        terminal.keys("C-c")
        self.assertEqual(terminal.end(), 0)

    def test_without_colours_it_has_none(self):
        coloured = self.open_top(80, 24, 6)
        self.assertIn("\033[32m", coloured.screen(colours=True))
        coloured.close()
        plain = self.open_top(80, 24, 6, environment=["NO_COLOR=1"])
        self.assertNotIn("\033[32m", plain.screen(colours=True))

    def test_it_leaves_the_terminal_as_it_was(self):
        terminal = self.open_top(80, 24, 6)
        terminal.keys("q")
        self.assertEqual(terminal.end(), 0)
        terminal.wait_for(lambda: "q quit" not in terminal.screen(), "the screen of before")

    def test_a_terminal_that_cannot_is_told_so(self):
        terminal = self.open(80, 24, 6, "top", ["TERM=nothing"])
        self.assertEqual(terminal.end(), 1)
        self.assertIn("this terminal cannot show a whole screen", terminal.screen())

    def test_a_daemon_that_goes_away_is_told_and_awaited(self):
        daemon = Daemon(self.directory.name, 3)
        self.daemons[3] = daemon
        terminal = self.open_top(80, 24, 3)
        daemon.close()
        del self.daemons[3]
        terminal.wait_for(lambda: "has stopped" in terminal.screen() or "no daemon can be reached" in terminal.screen(),
                          "a word on the daemon")
        again = Daemon(self.directory.name, 3)
        terminal.wait_for_text("q quit")
        terminal.keys("q")
        self.assertEqual(terminal.end(), 0)
        again.close()

    def test_once_prints_all_guests_anywhere(self):
        def top(*arguments):
            return subprocess.run([BALLOONCTL, "--socket", self.daemons[200].socket, "top", *arguments],
                                  capture_output=True, text=True, timeout=60)
        done = top("--once")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(len([line for line in done.stdout.splitlines() if line.startswith("web-")]), 199)
        self.assertNotIn("\033", done.stdout)
        only = top("--once", "--filter", "web-20", "--sort", "used")
        self.assertEqual([line.split()[0] for line in only.stdout.splitlines() if line.startswith("web-")],
                         ["web-20", "web-200"])
        self.assertEqual(top().returncode, 2, "it is no terminal")

    def test_a_broken_pipe_ends_it_quietly(self):
        command = f"set -o pipefail; {BALLOONCTL} --socket {self.daemons[200].socket} top --once | head -n 1"
        done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60)
        self.assertTrue(done.stdout.startswith("host"), done.stdout)
        self.assertEqual(done.stderr, "")


if __name__ == "__main__":
    unittest.main()
