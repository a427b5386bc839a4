# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Sourced by acceptance.sh: a line "PASS what" or "FAIL what: why" for each thing that should hold.
# PATIENCE: seconds for what only takes time, by the machine's speed; acceptance.sh sets it.

said=/run/said
pass() { echo "PASS $1 ($SECONDS s)"; }
check() { # WHAT COMMAND...
  local what=$1
  shift
  if "$@" >$said 2>&1; then pass "$what"; else echo "FAIL $what: $(tail -c 900 $said | tr '\n' '/')"; fi
}
# Whether COMMAND succeeds before patience ends; what it said last stays.
within_patience() { # COMMAND...
  local end=$((SECONDS + PATIENCE))
  until "$@"; do
    [ $SECONDS -lt $end ] || return 1
    sleep 1
  done
}
is() { [ "$1" = "$2" ] || { echo "it is '$1', not '$2'"; return 1; }; }

# systemd
property() { systemctl show --value -p "$2" "$1"; }
is_active() { [ "$(property "$1" ActiveState)" = active ]; }
is_inactive() { [ "$(property "$1" ActiveState)" = inactive ]; }
log_has() { journalctl -b -o cat -u "$1" --no-pager | grep -F -- "$2"; }
log_lacks() { ! log_has "$@"; }
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
another_daemon() { # THAN
  is_active balloond && [ "$(property balloond MainPID)" != "$1" ]
}

# Guests
lists() { balloonctl list -o json | grep -F "\"$1\""; }
number() { # GUEST FIELD
  balloonctl show "$1" -o json | grep -oE "\"$2\" *: *\"?[0-9]+" | grep -oE '[0-9]+$' | head -1
}
mib() { # GUEST FIELD
  local bytes
  bytes=$(number "$1" "$2")
  [ -n "$bytes" ] || { echo "no $2 of $1" >&2; return 1; }
  echo $((bytes >> 20))
}
is_controlled() { balloonctl show "$1" -o json | grep -F '"controlled"'; }
is_pinned() { balloonctl show "$1" -o json | grep -F '"pinned"'; }
has_at_most() { # GUEST MIB
  local has
  has=$(mib "$1" actual_bytes) || return 1
  [ "$has" -le "$2" ] || { echo "it has $has MiB, not at most $2: $(balloonctl explain "$1")"; return 1; }
}
holds_more_than() { # GUEST MIB: its process, by the host's count
  local holds
  holds=$(mib "$1" resident_bytes) || return 1
  [ "$holds" -gt "$2" ] || { echo "it holds $holds MiB"; return 1; }
}
is_balanced() { # GUEST: driver and statistics are there, and its balloon has what memory the host has not
  is_controlled "$1" && [ "$(number "$1" actual_bytes)" -lt "$(number "$1" memory_bytes)" ]
}

# The newcomer's page (builder/walk.py made its scripts), by a shell that ends at the first command that fails.
page() { # SECTION
  bash -e "/installed/page-$1.sh"
}
