#!/usr/bin/env bash
# In a host whose PID 1 is systemd: a line "PASS what" or "FAIL what: why" for each thing that should hold, then "END", and power-off.
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8
PATIENCE=600 # seconds for what only takes time: the host is emulated

said=/run/said
pass() { echo "PASS $1"; }
check() { # WHAT COMMAND...
  local what=$1
  shift
  if "$@" >$said 2>&1; then pass "$what"; else echo "FAIL $what: $(tail -c 700 $said | tr '\n' '/')"; fi
}
# Whether COMMAND succeeds within SECONDS; what it said last stays.
within() { # SECONDS COMMAND...
  local end=$((SECONDS + $1))
  shift
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 1
  done
}
property() { systemctl show --value -p "$2" "$1"; }
is_active() { [ "$(property "$1" ActiveState)" = active ]; }
is() { [ "$1" = "$2" ] || { echo "it is '$1', not '$2'"; return 1; }; }
log_has() { journalctl -b -o cat -u "$1" --no-pager | grep -F -- "$2"; }
log_lacks() { ! log_has "$@"; }
lists() { balloonctl list -o json | grep -F "\"$1\""; }
actual_mib() { balloonctl show web-1 -o json | grep -oE '"actual_bytes" *: *[0-9]+' | grep -oE '[0-9]+$' | head -1 | awk '{ print int($1 / 1048576) }'; }
at_most() { [ "$("$1")" -le "$2" ] || { echo "it is $("$1"), not at most $2: $(balloonctl explain web-1)"; return 1; }; }
is_alone() { # CGROUP PROCESS
  local process others=0
  while read -r process; do
    # The kernel's threads for a guest have no memory, and no command line.
    if [ "$process" = "$2" ] || ! grep -q . "/proc/$process/cmdline"; then continue; fi
    echo "there is $process, $(cat "/proc/$process/comm")"
    others=1
  done <"/sys/fs/cgroup$1/cgroup.procs"
  return $others
}
another_daemon() { is_active balloond && [ "$(property balloond MainPID)" != "$daemon" ]; }

check "apt installs the packages from a directory" apt-get install -y /packages/balloon*.deb
check "the daemon runs after its installation, and systemd knows that it serves" within $PATIENCE is_active balloond
check "systemd shows where it serves" is "$(property balloond StatusText)" "serving on /run/balloond/balloond.sock"
check "the daemon starts with the host" systemctl is-enabled balloond
check "balloonctl reaches it" within $PATIENCE balloonctl host
check "its socket is for root and its group" is "$(stat -c %U:%G:%a /run/balloond/balloond.sock)" root:balloond:660
check "it is told of the host's pressure by events" log_lacks balloond "no events on host pressure"
check "its memory is locked" log_lacks balloond "memory is not locked"
check "KSM's settings are open to it, and other settings of the kernel are not" \
  nsenter -t "$(property balloond MainPID)" -m sh -c 'echo 0 >/sys/kernel/mm/ksm/run && ! echo 60 2>/dev/null >/proc/sys/vm/swappiness'
check "metrics are there for this host" bash -c 'exec 3<>/dev/tcp/127.0.0.1/9477 && printf "GET /metrics HTTP/1.0\r\n\r\n" >&3 && grep -q balloon_ <&3'

cat >/etc/balloond/guests/web-1.yaml <<'EOF'
name: web-1
memory: 256MiB
kernel: /guest/vmlinuz
initrd: /guest/initramfs.cpio
cmdline: console=ttyS0 panic=-1
serial: unix:/run/balloon-vmm/web-1.console
link: /run/balloond/balloond.sock
EOF
check "a guest's configuration is judged before its start" balloon-vmm --check-config --config /etc/balloond/guests/web-1.yaml
check "a guest is started by its name" systemctl start balloon-vmm@web-1
check "the daemon has it, with driver and statistics" within $PATIENCE bash -c 'balloonctl show web-1 -o json | grep -F "\"controlled\""'
guest=$(property balloon-vmm@web-1 MainPID)
check "its VMM runs as a user of its own" is "$(stat -c %U "/proc/$guest")" balloon-vmm
check "it is alone in its cgroup" is_alone "$(property balloon-vmm@web-1 ControlGroup)" "$guest"
check "balloonctl moves its balloon" bash -c 'balloonctl set web-1 160MiB --for 1h'
check "the guest gives its memory" within $PATIENCE at_most actual_mib 168
check "memory is reserved for a guest to be" balloonctl reserve later 16MiB --lease 2h

systemd-run --unit=q-1 -p User=balloon-vmm -p SupplementaryGroups=kvm balloon-vmm --name q-1 --memory 128M --kernel /guest/vmlinuz \
  --initrd /guest/initramfs.cpio --cmdline "console=ttyS0 panic=-1" --serial none --monitor /run/balloon-vmm/q-1.qmp
printf 'backends: {qmp: [{directory: /run/balloon-vmm, pattern: "*.qmp", exclusive: true}]}\n' >>/etc/balloond/balloond.yaml
check "the configuration is loaded again" systemctl reload balloond
check "a guest is found by a QMP socket that is another user's alone" within $PATIENCE lists q-1
systemctl kill -s TERM q-1

daemon=$(property balloond MainPID)
watchdog=$(($(property balloond WatchdogUSec | tr -dc 0-9) + 0))
kill -STOP "$daemon"
stopped=$SECONDS
within $PATIENCE log_has balloond "Watchdog timeout" >$said
took=$((SECONDS - stopped))
check "the watchdog (${watchdog} s) notices a stopped daemon within twice its time: after ${took} s" [ $took -le $((2 * watchdog)) ]
check "another daemon is started" within $PATIENCE another_daemon
check "it has the guest again, and the reservation" within $PATIENCE bash -c 'balloonctl list -o json | grep -F web-1 && balloonctl reservations | grep later'
check "the guest has lived on" is "$(property balloon-vmm@web-1 MainPID)" "$guest"

daemon=$(property balloond MainPID)
check "apt upgrades the packages" apt-get install -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold /packages/next/*.deb
check "the upgraded daemon runs" within $PATIENCE another_daemon
check "an upgrade leaves guests alone" is "$(property balloon-vmm@web-1 MainPID)" "$guest"
check "an upgrade leaves reservations alone" within $PATIENCE bash -c 'balloonctl reservations | grep later'
check "an upgrade leaves the guest's size alone" within $PATIENCE at_most actual_mib 168

daemon=$(property balloond MainPID)
check "apt removes the packages" apt-get remove -y balloond balloon-vmm balloonctl balloon-sim
check "a removal stops the daemon" bash -c "! test -d /proc/$daemon && ! systemctl is-active balloond"
check "a removal leaves guests alone" test -d "/proc/$guest"
check "and reservations" test -s /var/lib/balloond/reservations.json
check "apt installs them again" apt-get install -y /packages/balloon*.deb
check "the guest comes back by itself" within $PATIENCE lists web-1

mkdir -p /run/systemd/system/balloon-vmm@.service.d
printf '[Service]\nTimeoutStopSec=20\n' >/run/systemd/system/balloon-vmm@.service.d/patience.conf
systemctl daemon-reload
systemctl stop balloon-vmm@web-1
check "stopping a guest presses its power button first" log_has balloon-vmm@web-1 "power button is pressed"
check "a guest that does not listen is ended" bash -c "! test -d /proc/$guest"

check "apt purges the packages" apt-get purge -y balloond balloon-vmm balloonctl balloon-sim
check "what the daemon kept is gone" bash -c '! test -e /var/lib/balloond && ! test -e /etc/balloond/balloond.yaml && ! test -e /run/balloond'
check "the guest's file is there still" test -f /etc/balloond/guests/web-1.yaml
check "no unit has failed but the guest that was ended" \
  is "$(systemctl list-units --failed --plain --no-legend | awk '{ print $1 }' | grep -v '^balloon-vmm@web-1' | tr '\n' ' ')" ""
echo END
sync
systemctl poweroff --force --force
