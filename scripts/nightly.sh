#!/usr/bin/env bash
# What takes too long for each change: run it each night, and before a release. It goes on after a failure and says at the end what failed.
#   scripts/nightly.sh            all stages
#   scripts/nightly.sh NAME ...   some of: cases, tidy, threads, ledger, reboots, sweep, demo, bench, workloads
# SPDX-License-Identifier: Apache-2.0
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

all=(cases tidy threads ledger reboots sweep demo bench workloads)
case "${1:-}" in
  -h | --help) sed -n '2,4s/^# \?//p' "$0"; exit 0 ;;
esac
wanted=("$@")
[ ${#wanted[@]} -gt 0 ] || wanted=("${all[@]}")
for name in "${wanted[@]}"; do
  [[ " ${all[*]} " == *" $name "* ]] || { echo "nightly: unknown stage '$name' (of ${all[*]})" >&2; exit 2; }
done
wants() { [[ " ${wanted[*]} " == *" $1 "* ]]; }

# shellcheck source=scripts/stages.sh
. scripts/stages.sh
broken=()
must() { "$@" || { echo "nightly: '$*' failed; nothing after it can run" >&2; exit 1; }; }
note() { "$@" || broken+=("$*"); }

stage 15 "Installing and building"
must scripts/install-deps.sh
must cmake --preset release
must cmake --build --preset release --target host_tests

if wants cases; then
  stage 30 "Testbed: further guest kernels, variants of devices, facts"
  note ctest --preset release -L nightly
fi
if wants tidy; then
  stage 45 "clang-tidy, with its static analyzer, and mutexes, on all programs"
  note scripts/lint.sh --tidy-all
fi
if wants threads; then
  stage 30 "Unit tests with the thread sanitizer"
  note cmake --preset tsan
  note cmake --build --preset tsan --target unit_tests
  note ctest --preset tsan -L unit -j "$(nproc)"
fi
if wants ledger; then
  stage 30 "A million histories of reservations, and 500 rounds of two schedulers"
  note cmake --build --preset release --target balloond_test
  note env BALLOON_LEDGER_ROUNDS=1000000 build/tests/balloond_test --gtest_filter='ReservationLedgerTest.*'
  note env BALLOON_SCHEDULER_ROUNDS=500 build/tests/balloond_integration_test --gtest_filter='SchedulersTest.*'
fi
if wants reboots; then
  stage 5 "A guest that reboots a thousand times"
  note env BALLOON_REBOOTS=1000 build/tests/bare_metal_test --gtest_filter='ManyRebootsTest.*'
fi
if wants sweep; then
  stage 20 "A thousand random scenarios in the simulator"
  note build/bin/balloon-sim sweep --seeds 1000
fi
if wants demo; then
  stage 30 "The demo at length, with and without balloond"
  note scripts/demo.sh --full --compare --output build/nightly-demo.json
fi
if wants bench; then
  stage 50 "Benchmarks beside QEMU"
  note scripts/bench.sh vmm --output build/nightly-bench-vmm.json
fi
if wants workloads; then
  stage 30 "Real programs under each controller"
  note scripts/bench.sh workloads --quick --results build/nightly-workloads --output build/nightly-workloads.json
fi
report_stages 285
echo
for what in "${broken[@]}"; do echo "nightly: FAILED: $what"; done
[ ${#broken[@]} -eq 0 ] && echo "nightly: all passed"
[ ${#broken[@]} -eq 0 ]
