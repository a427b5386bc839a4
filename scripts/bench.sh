#!/usr/bin/env bash
# Benchmarks that compare with others.
#   scripts/bench.sh vmm [options]     balloon-vmm beside Debian's QEMU (-M pc and -M microvm), in one run of the testbed: same guest
#                                      kernel, initramfs and disks, in turn; a table with medians, ratios and what is asked of them
#     --output FILE     figures and samples as JSON (default bench-vmm.json)
#     --quick           one round of each part
#     --only PARTS      of boot,memory,idle,balloon,reporting,statistics,block,net,vhost,durability
#     --repeats N       rounds of each part (default 5), if its time allows
#     --minutes N       how long all parts together may take (default 40)
#     --help            this text
#   scripts/bench.sh facts [options]   facts about Linux that the simulator must meet, measured in plain guests and one emulated host
#                                      (docs/linux-facts.md); options as tests/testbed/facts --help tells
# Exit status: 0 when all could be measured, 1 when a step failed (the others still run). The host is emulated and 10 to 20 times slower
# than hardware: compare figures of one run with each other.
set -euo pipefail
cd "$(dirname "$0")/.."

# The emulated host's 8 GiB, its translation cache, and some room for the build machine itself.
memory_mib=11264

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

case "${1:-}" in
  vmm) shift ;;
  facts) shift; measure_facts "$@" ;;
  -h | --help | "") sed -n '2,15s/^# \?//p' "$0"; [ $# -gt 0 ] || exit 2; exit 0 ;;
  *) die "unknown benchmark '$1' (see --help)" ;;
esac
options=()
while [ $# -gt 0 ]; do
  case "$1" in
    --quick) options+=("$1") ;;
    --output | --only | --repeats | --minutes)
      [ $# -ge 2 ] || die "$1 takes a value (see --help)"
      options+=("$1" "$2")
      shift ;;
    -h | --help) sed -n '2,15s/^# \?//p' "$0"; exit 0 ;;
    *) die "unknown option '$1' (see --help)" ;;
  esac
  shift
done
available=$(awk '$1 == "MemAvailable:" { print int($2 / 1024) }' /proc/meminfo)
[ $((available + 512)) -ge "$memory_mib" ] || die "too little memory: $available MiB, the testbed needs $memory_mib MiB"

echo "bench: installing what is missing (Debian 12 packages)"
scripts/install-deps.sh
echo "bench: building"
cmake --preset release >/dev/null || die "cmake --preset release failed"
cmake --build --preset release --target balloon-vmm balloond balloonctl stats-probe
exec tests/testbed/bench --build-dir build "${options[@]}"
