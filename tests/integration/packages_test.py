# SPDX-License-Identifier: Apache-2.0
"""The Debian packages in a fresh Debian 12 root: installed by apt from a directory, upgraded, removed, purged.

Needs root (for chroot and overlay mounts) and, the first time, the package mirror; the root is kept in the testbed's cache.
"""
import gzip
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/testbed"))
from builder.cache import Cache, default_cache_dir  # noqa: E402
from builder.packages import NEXT, PACKAGES, PROGRAMS, debian_root, field, next_version  # noqa: E402
from builder.shell import run_tool  # noqa: E402

# Runs a command in the root: on an overlay, so that the next test finds the root as it was.
ENTER = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mkdir -p "$2/root/packages" && mount --bind "$3" "$2/root/packages"
root=$2/root
shift 3
exec chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 "$@"
"""


class ManPagesTest(unittest.TestCase):
    """As they were built with the programs."""
    PAGES = ROOT / "build/packaging/man"

    def text(self, page: str) -> str:
        with gzip.open(self.PAGES / f"{page}.gz") as packed:
            return packed.read().decode()

    def test_mandoc_has_no_complaint_about_any(self):
        pages = sorted(self.PAGES.glob("*.gz"))
        self.assertEqual(len(pages), 7)
        for page in pages:
            with self.subTest(page.name):
                said = subprocess.run(["mandoc", "-T", "lint", "-W", "warning"], input=self.text(page.stem), capture_output=True, text=True)
                self.assertEqual(said.stdout + said.stderr, "")

    def test_each_program_has_all_of_its_options_and_commands_in_its_page(self):
        for page in ("balloond.8", "balloon-vmm.8", "balloonctl.1", "balloon-sim.1"):
            shown = subprocess.run(["mandoc", "-T", "ascii"], input=self.text(page), capture_output=True, text=True).stdout
            shown = re.sub(r".\x08", "", shown)  # bold and underlined
            said = subprocess.run([ROOT / "build/bin" / page.rpartition(".")[0], "--help"], capture_output=True, text=True).stdout
            options = re.findall(r"(?m)^  (?:-\w,)?(--[\w-]+)", said)
            self.assertIn("--version", options)
            commands = re.findall(r"(?m)^  ([a-z]+) ", said)
            for name in [*options, *commands]:
                with self.subTest(f"{page}: {name}"):
                    self.assertRegex(shown, rf"(?m)^ +(-\w, )?{name}\b")


class PackagesTest(unittest.TestCase):
    said: str  # by scripts/package.sh
    work: Path
    debs: list[Path]

    @classmethod
    def setUpClass(cls):
        made = subprocess.run([ROOT / "scripts/package.sh"], capture_output=True, text=True)
        if made.returncode != 0:
            raise AssertionError(f"scripts/package.sh: status {made.returncode}:\n{made.stdout}{made.stderr}")
        cls.said = made.stdout
        cls.work = Path(tempfile.mkdtemp(prefix="balloond-packages-"))
        cls.addClassCleanup(shutil.rmtree, cls.work)
        cls.debs = sorted((ROOT / "build/packages").glob("*.deb"))
        (cls.work / "packages/next").mkdir(parents=True)
        for deb in cls.debs:
            shutil.copy(deb, cls.work / "packages")
        next_version(cls.debs, cls.work / "packages/next")
        cache = Cache(default_cache_dir())
        with cache.locked():
            cache.begin(1)
            root = debian_root(cache, cls.debs)
        (cls.work / "base").mkdir()
        run_tool("tar", "-x", "-C", cls.work / "base", "-f", root, "--exclude=./dev/*")

    def setUp(self):
        self.layer = Path(tempfile.mkdtemp(dir=self.work))
        for name in ("upper", "work", "root"):
            (self.layer / name).mkdir()

    def run_in(self, command: str) -> subprocess.CompletedProcess:
        return subprocess.run(["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-ec", ENTER, "sh", self.work / "base",
                               self.layer, self.work / "packages", "sh", "-c", command], capture_output=True, text=True)

    def must(self, command: str) -> str:
        done = self.run_in(command)
        self.assertEqual(done.returncode, 0, f"{command}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def install(self):
        return self.must("apt-get install -y /packages/*.deb")

    def files(self) -> set[str]:
        return set(self.must("find /etc /usr /var/lib /opt /srv -xdev ! -path '/var/lib/dpkg/*' ! -path '/var/lib/apt/*'").split("\n"))

    def write(self, path: str, text: str):
        self.must(f"mkdir -p {os.path.dirname(path)} && printf '%s' '{text}' >{path}")

    def test_package_sh_names_the_packages_that_it_made(self):
        self.assertEqual([field(deb, "Package") for deb in self.debs], PACKAGES)
        for deb in self.debs:
            self.assertIn(str(deb.relative_to(ROOT)), self.said)

    def test_each_package_says_in_one_line_what_it_is(self):
        synopses = {package: field(deb, "Description").splitlines()[0] for package, deb in zip(PACKAGES, self.debs)}
        self.assertEqual(synopses["balloond-libvirt"], "memory overcommit for KVM guests - guests of libvirt")
        self.assertEqual(len(set(synopses.values())), len(PACKAGES), synopses)

    def test_apt_installs_them_and_each_program_says_the_same_version(self):
        self.install()
        version = field(self.debs[0], "Version")
        for program in PROGRAMS:
            self.assertEqual(self.must(f"{program} --version").strip(), f"{program} {version}")

    def test_what_is_installed_works_where_it_is(self):
        self.install()
        self.assertEqual(self.must("balloond --check-config").strip(), "ok")
        self.must("balloonctl policy check /etc/balloond/policy.yaml")
        self.assertIn("s02-single-step", self.must("balloon-sim run /usr/share/doc/balloon-sim/examples/s02-single-step.yaml"))
        self.must("systemd-analyze verify balloond.service balloon-vmm@web-1.service 2>&1")
        for page in ("8 balloond", "8 balloon-vmm", "1 balloonctl", "1 balloon-sim", "5 balloond.yaml", "5 balloond-policy",
                     "5 balloon-guest"):
            self.assertIn("NAME", self.must(f"man {page} | col -b"))
        self.assertIn("Schema", self.must("cat $(sed -n '1s/.*schema=//p' /etc/balloond/balloond.yaml)").title())
        self.assertEqual(self.must("stat -c %U:%G:%a /var/lib/balloon-vmm").strip(), "balloon-vmm:balloon-vmm:750")
        groups = set(self.must("getent group balloond kvm | cut -d: -f1").split())
        self.assertEqual(groups, {"balloond", "kvm"})
        self.assertEqual(self.must("systemctl is-enabled balloond.service").strip(), "enabled")

    def test_dashboards_and_rules_are_where_documentation_says_and_their_runbooks_where_they_say(self):
        self.install()
        self.must("cd /usr/share/balloond/grafana && ls fleet.json host.json guest.json controller.json reservations.json")
        self.must("ls $(sed -n 's/^ *path: //p' /usr/share/balloond/grafana/provisioning/dashboards/balloond.yaml)/fleet.json")
        self.must("ls $(sed -n 's/^  - \\(.*rules.yml\\)/\\1/p' /usr/share/balloond/prometheus/prometheus.yml)")
        runbooks = self.must("sed -n 's,.*runbook_url: file://,,p' /usr/share/balloond/prometheus/alerts.rules.yml | xargs ls").split()
        self.assertGreater(len(runbooks), 12)

    def test_each_program_is_installed_without_the_others(self):
        for package in PROGRAMS:
            with self.subTest(package):
                self.must(f"apt-get install -y --no-install-recommends /packages/{package}_*.deb && {package} --version && "
                          f"apt-get purge -y {package}")

    def test_each_package_has_the_schemas_that_its_files_name(self):
        found = 0
        for deb in self.debs:
            files = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb], check=True, capture_output=True).stdout
            with tarfile.open(fileobj=io.BytesIO(files)) as archive:
                names = archive.getnames()
                for name in names:
                    if not re.fullmatch(r"\./(etc/balloond|usr/share/doc/balloon-vmm/examples)/.*\.yaml", name):
                        continue
                    first = archive.extractfile(name).readline().decode()
                    self.assertIn("." + re.fullmatch(r"# yaml-language-server: \$schema=(.*)\n", first)[1], names, f"{deb.name}: {name}")
                    found += 1
        self.assertEqual(found, 3)

    def test_the_backend_for_libvirt_is_a_package_of_its_own_that_balloond_names_where_it_is_missing(self):
        daemon, backend = (next(deb for deb in self.debs if field(deb, "Package") == name) for name in ("balloond", "balloond-libvirt"))
        self.assertIn("libvirt0", field(backend, "Depends"))
        self.assertIn(f"balloond (= {field(daemon, 'Version')})", field(backend, "Depends"))
        self.assertNotIn("libvirt", field(daemon, "Depends"))

        # Of libvirt the root has its client library, which is not enough, and no libvirtd, which a check does not ask for.
        self.must("apt-get install -y --no-install-recommends /packages/balloond_*.deb")
        self.write("/etc/balloond/balloond.yaml", "backends: {libvirt: [{uri: \"qemu:///system\"}]}\n")
        self.assertIn("needs the package balloond-libvirt", self.must("! balloond --check-config 2>&1"))
        before = self.files()
        self.must("apt-get install -y --no-install-recommends /packages/balloond-libvirt_*.deb")
        self.assertEqual(self.must("balloond --check-config").strip(), "ok")
        self.must("systemd-analyze verify balloond.service 2>&1")
        self.assertIn("libvirtd.service", self.must("cat /lib/systemd/system/balloond.service.d/libvirt.conf"))

        self.assertIn("needs the package balloond-libvirt", self.must("apt-get purge -y balloond-libvirt 2>&1"),
                      "who removes it is told that the daemon's configuration wants it")
        self.assertEqual(self.files() - before, set())
        self.assertIn("qemu:///system", self.must("cat /etc/balloond/balloond.yaml"))

    def test_an_upgrade_keeps_what_the_administrator_wrote_and_what_the_daemon_holds(self):
        self.install()
        kept = {"/etc/balloond/policy.yaml": "host: {reserve: 1GiB}\n", "/etc/balloond/guests/web-1.yaml": "name: web-1\n",
                "/var/lib/balloond/reservations.json": "{}", "/var/lib/balloon-vmm/web-1.img": "a disk"}
        for path, text in kept.items():
            self.write(path, text)
        self.must("apt-get install -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold /packages/next/*.deb")
        for package in PACKAGES:
            self.assertEqual(self.must(f"dpkg-query -W -f '${{Version}}' {package}"), NEXT)
        for path, text in kept.items():
            self.assertEqual(self.must(f"cat {path}"), text)
        self.assertIn("# of the next version", self.must("cat /etc/balloond/balloond.yaml"), "nobody had changed this one")

    def test_a_removal_keeps_configuration_reservations_guests_and_disks(self):
        self.install()
        kept = ["/etc/balloond/balloond.yaml", "/etc/balloond/policy.yaml", "/etc/balloond/guests/web-1.yaml",
                "/var/lib/balloond/reservations.json", "/var/lib/balloon-vmm/web-1.img"]
        for path in kept[2:]:
            self.write(path, "mine")
        self.must(f"apt-get remove -y {' '.join(PACKAGES)}")
        self.must("! command -v balloond")
        self.must(f"ls {' '.join(kept)}")

    def test_purging_leaves_guests_and_disks_and_nothing_else(self):
        self.must("apt-get install -y --no-install-recommends /packages/balloonctl_*.deb && apt-get purge -y balloonctl")
        before = self.files()
        self.install()
        for path in ("/etc/balloond/guests/web-1.yaml", "/var/lib/balloond/reservations.json", "/var/lib/balloon-vmm/web-1.img"):
            self.write(path, "mine")
        self.must(f"apt-get purge -y {' '.join(PACKAGES)}")
        self.assertEqual(sorted(self.files() - before), [
            "/etc/balloond", "/etc/balloond/guests", "/etc/balloond/guests/web-1.yaml", "/var/lib/balloon-vmm",
            "/var/lib/balloon-vmm/web-1.img"])


if __name__ == "__main__":
    unittest.main()
