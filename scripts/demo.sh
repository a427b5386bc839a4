#!/usr/bin/env bash
# The main job, shown: six 2 GiB guests on one 8 GiB host, memory going to whoever needs it.
#   scripts/demo.sh [options]
#     --full            the same at length (tests/scenarios/demo-full.yaml): more is read, and everything settles for longer
#     --compare         run the same without balloond too (host swap only), and print both side by side
#     --backend NAME    who runs the guests: vmm (balloon-vmm, the default), qemu, libvirt, or mixed (two of each)
#     --scale half      all memory halved: six 1 GiB guests on one 4 GiB host
#     --scenario FILE   another scenario (default tests/scenarios/demo.yaml)
#     --output FILE     where time series and figures go (default demo.json)
#     --report FILE     where the report goes, a page with curves, events and figures (default demo.html)
#     --direct          this machine's own KVM, or nothing
#     --testbed         the emulated KVM host, even when this machine has KVM
#     --help            this text
# Installs what it needs from Debian 12, builds, then runs: on this machine's own KVM if it has hardware support, else in the
# testbed (an emulated KVM host). It says which. A run takes 8 minutes on the quick day of docs/figures.md, and the factor that it prints
# times as long on another.
# Exit status: 0 all checks passed, 1 one failed, 2 the run could not begin, 3 this machine is too slow to judge, 4 the emulated host was
# lost each time.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

# The emulated host's 8 GiB, its translation cache, and some room for the build machine itself.
testbed_memory_mib=11264
direct_memory_mib=8192
# Images, the build, and the swap files that a run may fill.
disk_mib=20480

say() { echo "demo: $*"; }
die() { echo "demo: $*" >&2; exit 2; }

where=auto compare=() backend=() scale=() scenario=tests/scenarios/demo.yaml output=demo.json report=demo.html
while [ $# -gt 0 ]; do
  case "$1" in
    --full) scenario=tests/scenarios/demo-full.yaml ;;
    --compare) compare=(--compare) ;;
    --scenario | --output | --report)
      [ $# -ge 2 ] || die "$1 takes a file (see --help)"
      case "$1" in --scenario) scenario=$2 ;; --output) output=$2 ;; *) report=$2 ;; esac
      shift ;;
    --backend)
      case "${2:-}" in vmm | qemu | libvirt | mixed) backend=(--backend "$2") ;; *) die "--backend is vmm, qemu, libvirt or mixed (see --help)" ;; esac
      shift ;;
    --scale)
      case "${2:-}" in full | half) scale=(--scale "$2") ;; *) die "--scale is full or half (see --help)" ;; esac
      shift ;;
    --direct) where=direct ;;
    --testbed) where=testbed ;;
    -h | --help) sed -n '2,18s/^# \?//p' "$0"; exit 0 ;;
    *) die "unknown option '$1' (see --help)" ;;
  esac
  shift
done
[ -r "$scenario" ] || die "cannot read scenario $scenario"

why_not_direct() {
  if [ "$(uname -m)" != x86_64 ]; then echo "it is $(uname -m), balloon-vmm runs on x86_64";
  elif [ ! -e /dev/kvm ]; then echo "there is no /dev/kvm";
  elif [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then echo "no permission on /dev/kvm (is the user in group kvm?)";
  elif ! grep -qwE 'vmx|svm' /proc/cpuinfo; then echo "its CPU shows no vmx or svm, so that its KVM cannot run Linux guests";
  fi
}

mib_of() { awk -v key="$1:" '$1 == key { print int($2 / 1024) }' /proc/meminfo; }

reason=$(why_not_direct)
case "$where" in
  direct) [ -z "$reason" ] || die "cannot run directly on this machine: $reason" ;;
  auto) if [ -z "$reason" ]; then where=direct; else where=testbed; fi ;;
esac
if [ "$where" = direct ]; then
  say "running directly on this machine's KVM"
  needed=$direct_memory_mib available=$(mib_of MemTotal)
  [ "$(mib_of SwapTotal)" -gt 0 ] || say "note: this machine has no swap; phase 3 relies on the guests' own"
  flags=(--direct)
else
  if [ -n "$reason" ]; then say "running in the testbed, an emulated KVM host: $reason"; else say "running in the testbed, an emulated KVM host"; fi
  needed=$testbed_memory_mib available=$(mib_of MemAvailable)
  flags=(--fast-clock)
fi
# An "8 GiB" machine shows a little less than that.
[ $((available + 512)) -ge "$needed" ] || die "too little memory: $available MiB, the demo needs $needed MiB"
cache=${XDG_CACHE_HOME:-$HOME/.cache}
mkdir -p "$cache"
for place in . "$cache"; do
  free=$(df --output=avail -m "$place" | tail -n 1 | tr -d ' ')
  [ "$free" -ge "$disk_mib" ] || die "too little disk: $free MiB free in $(cd "$place" && pwd), the demo needs $disk_mib MiB"
done

say "installing what is missing (Debian 12 packages)"
scripts/install-deps.sh

logs=build/demo
mkdir -p "$logs"
jobs=()
# Runs a command beside the others, its output in a log; its number is the job's.
beside() {
  local log=$logs/$1.log
  shift
  "$@" >"$log" 2>&1 &
  jobs+=($!)
}
finish() {
  local name=$1 job=$2
  wait "$job" || { tail -n 20 "$logs/$name.log" >&2; die "$name failed; all that it said: $logs/$name.log"; }
}
trap '[ ${#jobs[@]} -eq 0 ] || kill "${jobs[@]}" 2>/dev/null || true' EXIT

cmake --preset release >/dev/null || die "cmake --preset release failed"
say "building balloond, balloon-vmm, balloonctl and balloon-sim"
beside build cmake --build --preset release --target balloond balloon-vmm balloonctl balloon-sim
if [ "$where" = testbed ]; then
  say "making the testbed's images meanwhile (the first time downloads a Debian kernel)"
  beside images tests/testbed/testbed build
  tests/testbed/progress "$logs/build.log:${jobs[0]}" "$logs/images.log:${jobs[1]}"
  finish images "${jobs[1]}"
else
  tests/testbed/progress "$logs/build.log:${jobs[0]}"
fi
finish build "${jobs[0]}"
jobs=()

say "running $scenario"
exec tests/testbed/scenario --scenario "$scenario" --build-dir build --output "$output" --report "$report" \
  "${compare[@]}" "${backend[@]}" "${scale[@]}" "${flags[@]}"
