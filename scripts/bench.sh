#!/usr/bin/env bash
# Benchmarks that compare with others.
#   scripts/bench.sh vmm [options]     balloon-vmm beside Debian's QEMU (-M pc and -M microvm), in one run of the testbed: same guest
#                                      kernel, initramfs and disks, in turn; a table with medians, ratios and what is asked of them
#     --output FILE     figures and samples as JSON (default bench-vmm.json)
#     --against OLD     beside balloon-vmm of another revision (or that program) instead of QEMU
#     --quick           one round of each part
#     --only PARTS      of boot,memory,idle,balloon,reporting,statistics,block,net,vhost,durability
#     --repeats N       rounds of each part (default 5), if its time allows
#     --minutes N       how long all parts together may take (default 40)
#   scripts/bench.sh workloads [options]   redis, PostgreSQL, a reader of files and stress-ng in Debian guests, in three mixes, with
#                                      balloond, without a controller and in a static partition, in turn; their own figures and counters
#     --output FILE     all of it as JSON (default bench-workloads.json)
#     --report FILE     a page with curves, events and figures of the parts (default bench-workloads.html)
#     --results DIR     where each part's result is kept (default bench-workloads)
#     --resume          go on: keep the parts that are there
#     --quick           one round (default 3: --rounds N)
#     --only PARTS      parts whose names begin so: MIX, MIX/CONTROLLER or MIX/CONTROLLER/ROUND, separated by commas
#     --mix FILE        this mix instead of those in tests/scenarios/workloads/; may be given again
#     --controllers LIST    of balloond,none,static
#     --devices CLASS   of nvme, disk, zram, unlimited (default: as the mix says)
#     --help            this text
#   scripts/bench.sh controllers [options]   libvirt's guests with balloond, with oVirt's MOM (Debian's, by its own example rules), without a
#                                      controller and in a static partition, in turn: what they waited for, what swapped, what it cost
#     --output FILE     figures as JSON (default bench-controllers.json)
#     --report FILE     a page with curves and figures (default bench-controllers.html)
#     --scenario FILE   another scenario (default tests/scenarios/controllers.yaml)
#     --controllers LIST    of balloond,none,static,mom
#     --quick           one round (default 3: --rounds N)
#   scripts/bench.sh daemon [options]  what balloond costs in instructions, the kernel's for it among them, on a host that is short of memory
#                                      for long: six guests that are only a link, in a plain guest whose clock is its instructions;
#                                      the same on a busy machine as on a quiet one; options as tests/testbed/daemon_cost --help tells
#   scripts/bench.sh scrape [GUESTS [SECONDS]]   what a scrape of the metrics costs a daemon with many guests (default 1000) that are
#                                      only a link, and whether its decisions begin later for it (default 30 s without scrapes, then 30 s
#                                      with one a second); a line of JSON
#   scripts/bench.sh backends [GUESTS [SECONDS]]   what many guests of QEMU (default 1000) that are only a QMP socket cost a daemon, and how
#                                      late its decisions begin: on sockets of its own, asked each second, then on shared ones, asked
#                                      every 8 s (default 30 s each); a line of JSON of each. Exit status 1 when it decides late or
#                                      takes too much
#   scripts/bench.sh start [ROUNDS]    CPU from exec to the guest's first instructions on this machine's own KVM, beside QEMU's microvm
#                                      (default 21 rounds); a line of JSON. Exit status 1 when ours takes more than 8 ms
#   scripts/bench.sh crowd [GUESTS [HZ [SECONDS]]]   a daemon in a crowd: guests (default 1000) that are only a link and send HZ messages
#                                      a second (1), 50 watchers of which five never read, a stopped `balloonctl watch`, a log that nobody
#                                      reads, 4,000 silent connections, 200 calls a second, for 60 s; a line of JSON. Exit status 1
#                                      when it decides or answers late, takes too much, keeps others out, or does not end
#   scripts/bench.sh facts [options]   facts about Linux that the simulator must meet, measured in plain guests and one emulated host
#                                      (docs/linux-facts.md); options as tests/testbed/facts --help tells
# Exit status: 0 when all could be measured, 1 when a step failed (the others still run), 3 when the machine was too slow for one. The host
# is emulated and 10 to 20 times slower than hardware: compare figures of one run with each other.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

# The emulated host's 8 GiB, its translation cache, and some room for the build machine itself.
memory_mib=11264
# Mixes of real programs have smaller hosts; whether there is room for each is asked once the mixes are read.
workloads_memory_mib=4096
controllers_memory_mib=5120

die() { echo "bench: $*" >&2; exit 1; }

measure_facts() {
  case " $* " in *" --help "* | *" -h "*) exec tests/testbed/facts --help ;; esac
  echo "bench: installing what is missing (Debian 12 packages)"
  scripts/install-deps.sh
  echo "bench: building"
  cmake --preset release >/dev/null || die "cmake --preset release failed"
  cmake --build --preset release --target balloon-vmm balloond balloonctl
  exec tests/testbed/facts --build-dir build "$@"
}

measure_daemon() {
  case " $* " in *" --help "* | *" -h "*) exec tests/testbed/daemon_cost --help ;; esac
  echo "bench: installing what is missing (Debian 12 packages)"
  scripts/install-deps.sh
  echo "bench: building"
  cmake --preset release >/dev/null || die "cmake --preset release failed"
  cmake --build --preset release --target balloond balloonctl daemon_load
  exec tests/testbed/daemon_cost --build-dir build "$@"
}

# Of the program's name, its arguments.
measure_load() {
  local program=$1
  shift
  echo "bench: building"
  cmake --preset release >/dev/null || die "cmake --preset release failed"
  cmake --build --preset release --target balloond balloonctl "$program"
  exec "build/bench/$program" build/bin "$@"
}

measure_start() {
  echo "bench: building"
  cmake --preset release >/dev/null || die "cmake --preset release failed"
  cmake --build --preset release --target balloon-vmm start_bench
  exec build/bench/start_bench build/bin "$@"
}

measure_backends() {
  echo "bench: building"
  cmake --preset release >/dev/null || die "cmake --preset release failed"
  cmake --build --preset release --target balloond backends_load
  local status=0 sockets
  for sockets in exclusive shared; do build/bench/backends_load build/bin "$sockets" "$@" || status=1; done
  exit $status
}

usage() { sed -n '2,/^# SPDX/{/^# SPDX/d;s/^# \?//p}' "$0"; }

case "${1:-}" in
  vmm) values="--output --only --repeats --minutes --against" switches="--quick" program=bench ;;
  workloads)
    values="--output --report --results --only --rounds --mix --controllers --devices" switches="--quick --resume" program=workloads
    memory_mib=$workloads_memory_mib ;;
  controllers)
    values="--output --report --scenario --rounds --controllers" switches="--quick" program=controllers
    memory_mib=$controllers_memory_mib ;;
  facts) shift; measure_facts "$@" ;;
  daemon) shift; measure_daemon "$@" ;;
  crowd | scrape) measure_load "$1_load" "${@:2}" ;;
  start) shift; measure_start "$@" ;;
  backends) shift; measure_backends "$@" ;;
  -h | --help | "") usage; [ $# -gt 0 ] || exit 2; exit 0 ;;
  *) die "unknown benchmark '$1' (see --help)" ;;
esac
shift
has() { case " $1 " in *" $2 "*) return 0 ;; *) return 1 ;; esac; }
options=() against=
while [ $# -gt 0 ]; do
  case "$1" in -h | --help) usage; exit 0 ;; esac
  if has "$values" "$1"; then
    [ $# -ge 2 ] || die "$1 takes a value (see --help)"
    case "$1" in --against) against=$2 ;; *) options+=("$1" "$2") ;; esac
    shift
  elif has "$switches" "$1"; then
    options+=("$1")
  else
    die "unknown option '$1' (see --help)"
  fi
  shift
done
available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
[ $((available + 512)) -ge "$memory_mib" ] || die "too little memory: $available MiB, the testbed needs $memory_mib MiB"

echo "bench: installing what is missing (Debian 12 packages)"
scripts/install-deps.sh
echo "bench: building"
cmake --preset release >/dev/null || die "cmake --preset release failed"
cmake --build --preset release --target balloon-vmm balloond balloonctl stats-probe
if [ -n "$against" ]; then
  against=$(scripts/program-of.sh balloon-vmm "$against") || exit 1
  options+=(--against "$against")
fi
exec "tests/testbed/$program" --build-dir build "${options[@]}"
