#!/usr/bin/env bash
# Makes the tables of docs/comparison.md: scenarios, cases, random hosts by swap device, the bound, rivals with our timing,
# constants of the plant at half and double.
#   scripts/baseline.sh [--law LAW] [--seeds N] [OUT]
# LAW is the one that rivals are held against (balloond); N random hosts are run for each device (100). Rivals with
# their own and with our timing are run on 100 hosts, constants on 20, the bound on 1,000 a device. Results are kept in
# OUT (build/baseline); what is there already is not made again. All runs are on one seed and the same on every machine.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
cd "$(dirname "$0")/.."

law=balloond seeds=100 out=build/baseline
timing_seeds=100 constants_seeds=20 bound_seeds=1000
while [ $# -gt 0 ]; do
  case "$1" in
    --law) law=$2; shift 2 ;;
    --seeds) seeds=$2; shift 2 ;;
    -h | --help) sed -n '2,7s/^# \?//p' "$0"; exit 0 ;;
    -*) echo "baseline: unknown option '$1'" >&2; exit 2 ;;
    *) out=$1; shift ;;
  esac
done
rivals=none,static,mom,mom-vdsm,proxmox,proxmox-95,squeezed,qmemman,esx,hypeman,pi,vm0
at_ours=$(echo "$rivals" | sed 's/none,static,//; s/,/@1s,/g; s/$/@1s/')
sim=build/bin/balloon-sim
first_seed=7700000
mkdir -p "$out"

# part NAME ARGUMENTS...: balloon-sim's JSON in OUT/NAME.json, and the command in OUT/tables.md above its tables.
part() {
  local name=$1
  shift
  if [ ! -s "$out/$name.json" ]; then
    echo "baseline: $name" >&2
    nice -n 10 "$sim" "$@" -o json >"$out/$name.partial" || [ $? -eq 4 ] # 4: less cost than any law can have; the table says so
    mv "$out/$name.partial" "$out/$name.json"
  fi
  {
    printf '\n## %s\n\n    balloon-sim %s -o json |\n      scripts/compare-laws.py --ours %s\n\n' "$name" \
      "$(sed -E 's#(tests/scenarios/[a-z]+/)[^ ]+( tests[^ ]+)*#\1*.yaml#' <<<"$*")" "$law"
    scripts/compare-laws.py --ours "$law" <"$out/$name.json"
  } >>"$out/tables.md"
}

: >"$out/tables.md"
part scenarios compare tests/scenarios/sim/*.yaml --laws "$law,$rivals,foresight-2s"
part cases compare tests/scenarios/cases/*.yaml --laws "$law,$rivals,foresight-2s"
for device in nvme hdd zram; do
  part "random-$device" sweep --swap "$device" --first-seed $first_seed --seeds "$seeds" --laws "$law,$rivals,foresight-2s"
done
part own-timing sweep --first-seed $first_seed --seeds $timing_seeds --laws "$law,$rivals"
part our-timing sweep --first-seed $first_seed --seeds $timing_seeds --laws "$law,$at_ours"
part constants sensitivity --first-seed $first_seed --seeds $constants_seeds --laws "$law,none,static,squeezed,qmemman,esx,vm0,foresight-2s"
for device in nvme hdd zram; do
  part "bound-$device" sweep --swap "$device" --seeds $bound_seeds --laws "$law,none,qmemman,esx,foresight-2s"
done
echo "$out/tables.md"
