#!/usr/bin/env bash
# In a host whose PID 1 is systemd: docs/install.md as it stands, then what the packages promise. "END" at the end, and power-off.
# SPDX-License-Identifier: Apache-2.0
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
# shellcheck source=tests/testbed/installed/checks.sh
. /installed/checks.sh

speed=$(python3 /installed/speed.py)
echo "SPEED $speed"
PATIENCE=$(python3 -c 'import json, sys; print(round(200 * max(1.0, json.loads(sys.argv[1])["factor"])))' "$speed")

# What a host has that the page does not speak of: a user, a bridge. All guests on one CPU: see Pitfalls in the testbed's README.
useradd --create-home ann
ip link add br0 type bridge && ip link set br0 up
mkdir -p /etc/systemd/system/balloon-vmm@.service.d /etc/systemd/system/balloon-vmm@deaf.service.d
printf '[Service]\nCPUAffinity=1\nTimeoutStopSec=%s\n' "$PATIENCE" >/etc/systemd/system/balloon-vmm@.service.d/testbed.conf
printf '[Service]\nTimeoutStopSec=5\n' >/etc/systemd/system/balloon-vmm@deaf.service.d/testbed.conf
systemctl daemon-reload

# On a busy machine systemd gives up on the swap's disk before udev has seen it.
within_patience bash -c 'swapon --show=NAME --noheadings | grep -qx /dev/vdb || systemctl start dev-vdb.swap' >$said

# The newcomer's path.
cd /root/balloond || exit
began=$SECONDS
check "docs/install.md, Install: apt installs the packages from a directory" page install
check "the daemon runs after its installation, and systemd knows that it serves" within_patience is_active balloond
check "docs/install.md, Check the host: nothing is a problem" page check-the-host
check "docs/install.md, The first guest: its commands" page the-first-guest
check "the guest is balanced: driver and statistics are there, and its balloon moved" within_patience is_balanced web-1
echo "WALK $((SECONDS - began))"
echo "SPEED $(python3 /installed/speed.py)"
check "the page's user may ask" su ann -c "balloonctl list"
check "docs/install.md, The first policy: its commands" page the-first-policy
check "docs/install.md, Why is this guest small: the answer" page why-is-this-guest-small
check "docs/install.md, The first guest: root logs in at its console, and 'free' shows what the balloon leaves" \
  python3 /installed/type_at_console.py "$(cat /installed/page-console.sh)" "$PATIENCE" "$(mib web-1 memory_bytes)"

# The daemon and its unit.
check "systemd shows where it serves" is "$(property balloond StatusText)" "serving on /run/balloond/balloond.sock"
check "the daemon starts with the host" systemctl is-enabled balloond
check "its socket is for root and its group" is "$(stat -c %U:%G:%a /run/balloond/balloond.sock)" root:balloond:660
check "it is told of the host's pressure by events" log_lacks balloond "no events on host pressure"
check "its memory is locked" log_lacks balloond "memory is not locked"
check "its exposure is 2.0 at most, as systemd counts" systemd-analyze security --no-pager --threshold=20 balloond
check "KSM's settings are open to it, and other settings of the kernel are not" \
  nsenter -t "$(property balloond MainPID)" -m sh -c 'echo 0 >/sys/kernel/mm/ksm/run && ! echo 60 2>/dev/null >/proc/sys/vm/swappiness'
check "metrics are there for this host" bash -c 'exec 3<>/dev/tcp/127.0.0.1/9477 && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 && grep -q balloon_ <&3'

# Guests of each hypervisor. Emulation resets one now and then (Pitfalls): it boots again, as on a host after a crash.
useradd --system --groups kvm machine
systemd-run --quiet --unit=q-1 --slice=machine.slice -p User=machine -p RuntimeDirectory=qemu -p UMask=0077 -p CPUAffinity=1 \
  qemu-system-x86_64 -name q-1 -accel kvm -cpu host -M pc -m 256M -nodefaults -display none \
  -kernel /guest/vmlinuz -initrd /guest/initramfs.cpio -append "console=ttyS0 quiet panic=-1" -serial null \
  -device virtio-balloon-pci,deflate-on-oom=on,free-page-reporting=on -qmp unix:/run/qemu/q-1.qmp,server=on,wait=off
check "libvirtd starts" systemctl start libvirtd
check "libvirt starts a domain" virsh --connect qemu:///system create /installed/d-1.xml
cat >/etc/balloond/guests/deaf.yaml <<'END'
memory: 128MiB
kernel: /guest/vmlinuz
initrd: /guest/initramfs.cpio
cmdline: console=ttyS0 quiet panic=-1
serial: unix:/run/balloon-vmm/deaf.console
link: /run/balloond/balloond.sock
END
systemctl start balloon-vmm@deaf
printf 'backends:\n  qmp: [{directory: /run/qemu, pattern: "*.qmp", exclusive: true}]\n  libvirt: [{uri: "qemu:///system"}]\n' >>/etc/balloond/balloond.yaml
check "the configuration is loaded again" systemctl reload balloond
guest=$(property balloon-vmm@web-1 MainPID)
check "balloon-vmm runs as a user of its own" is "$(stat -c %U "/proc/$guest")" balloon-vmm
check "it is alone in its cgroup" is_alone "$(property balloon-vmm@web-1 ControlGroup)" "$guest"
check "the daemon has QEMU's guest, by a socket that is another user's alone" within_patience is_controlled q-1
check "the daemon has libvirt's guest" within_patience is_controlled d-1
for name in web-1:1000 q-1:160 d-1:160; do
  check "balloonctl moves the balloon of ${name%:*}" balloonctl set "${name%:*}" "${name#*:}MiB" --for 2h
done
for name in web-1:1008 q-1:168 d-1:168; do
  check "${name%:*} gives its memory" within_patience has_at_most "${name%:*}" "${name#*:}"
  check "the daemon reads what the process of ${name%:*} holds" within_patience holds_more_than "${name%:*}" 16
done
check "memory is reserved for a guest to be" balloonctl reserve later 16MiB --lease 2h

# The watchdog, by the log's own times: whoever looks may be late.
daemon=$(property balloond MainPID)
watchdog=$(systemctl show -p WatchdogUSec --value balloond | sed -n 's/^\([0-9]*\)s$/\1/p')
stopped=$(date +%s)
kill -STOP "$daemon"
within_patience log_has balloond "Watchdog timeout" >$said
noticed=$(journalctl -b -o short-unix -u balloond --no-pager | grep -F "Watchdog timeout" | tail -1 | cut -d. -f1)
check "the watchdog (${watchdog} s) notices a stopped daemon within twice its time: after $((noticed - stopped)) s" \
  [ $((noticed - stopped)) -le $((2 * watchdog)) ]
check "another daemon is started" within_patience another_daemon "$daemon"
for name in web-1 q-1 d-1; do
  check "it has $name again, and its pin" within_patience is_pinned "$name"
done
check "it has the reservation again" bash -c 'balloonctl reservations | grep later'
check "the guest has lived on" is "$(property balloon-vmm@web-1 MainPID)" "$guest"

# Upgrade, removal, purge.
daemon=$(property balloond MainPID)
keep_changed_files=(-o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold)
check "apt upgrades the packages" apt-get install -y "${keep_changed_files[@]}" /packages/next/*.deb
check "the upgraded daemon runs" within_patience another_daemon "$daemon"
check "an upgrade leaves guests alone" is "$(property balloon-vmm@web-1 MainPID)" "$guest"
check "an upgrade leaves reservations alone" within_patience bash -c 'balloonctl reservations | grep later'
check "the guest comes back to it, and its pin is kept" within_patience is_pinned web-1
check "an upgrade leaves the guest's size alone" has_at_most web-1 1008
check "libvirt's guest comes back to it, by the upgraded backend" within_patience is_pinned d-1

daemon=$(property balloond MainPID)
check "apt removes the backend for libvirt, and who does that is told what the configuration wants" \
  bash -o pipefail -c 'apt-get remove -y balloond-libvirt 2>&1 | grep "needs the package balloond-libvirt"'
check "libvirt's guest lives on" is "$(virsh --connect qemu:///system domstate d-1 | head -1)" running
check "the daemon goes on" is "$(property balloond MainPID)" "$daemon"

check "apt removes the packages" apt-get remove -y balloond balloond-libvirt balloon-vmm balloonctl balloon-sim
check "a removal stops the daemon" bash -c "! test -d /proc/$daemon && ! systemctl is-active balloond"
check "a removal leaves guests alone" test -d "/proc/$guest"
check "and reservations" test -s /var/lib/balloond/reservations.json
check "apt installs them again" apt-get install -y "${keep_changed_files[@]}" /packages/next/*.deb
check "the guest comes back by itself" within_patience lists web-1

check "the guest powers off when its unit is stopped" systemctl stop balloon-vmm@web-1
check "by its power button" log_has balloon-vmm@web-1 "power button is pressed"
check "and by itself" is "$(property balloon-vmm@web-1 Result)" success
check "a guest that does not listen is ended" bash -c 'systemctl stop balloon-vmm@deaf; ! systemctl is-active balloon-vmm@deaf'
check "the network that the page gave the guest is taken" balloon-vmm --check-config --config /etc/balloond/guests/web-1.yaml
check "the guest starts with it" systemctl start balloon-vmm@web-1
check "its tap is in use" within_patience bash -c 'ip link show tap0 | grep LOWER_UP'
# It boots, and does not listen to its power button yet.
systemctl kill -s TERM balloon-vmm@web-1
check "a guest that boots is ended by SIGTERM" within_patience is_inactive balloon-vmm@web-1

check "apt purges the packages" apt-get purge -y balloond balloond-libvirt balloon-vmm balloonctl balloon-sim
check "what the daemon kept is gone" bash -c '! test -e /var/lib/balloond && ! test -e /etc/balloond/balloond.yaml && ! test -e /run/balloond'
check "the guest's files are there still" test -f /etc/balloond/guests/web-1.yaml -a -f /var/lib/balloon-vmm/web-1.img

# A host with libvirt and nothing else.
check "libvirt's guest has all its memory" virsh --connect qemu:///system setmem d-1 256M --live
check "docs/libvirt.md, Five commands" page five-commands
check "libvirt's guest is balanced" within_patience is_balanced d-1
check "no unit has failed but the guest that was ended" \
  is "$(systemctl list-units --failed --plain --no-legend | awk '{ print $1 }' | grep -v '^balloon-vmm@deaf' | tr '\n' ' ')" ""
echo END
sync
systemctl poweroff --force --force
