#!/bin/sh
# Gives a program in a Debian guest an amount of work, waits for its end, and says one JSON line: how long it took, the program's own
# figures, and by how much the guest's counters went up meanwhile.
#   work redis fill SIZE            so much of incompressible values, of 8 KiB each, in place of what was there
#   work redis get REQUESTS         reads of scattered keys among those, the same ones in each run
#   work postgres fill SIZE         pgbench's table of accounts, of so much, and its smaller ones, in place of what was there
#   work postgres run COUNT         pgbench's TPC-B-like transactions, from two clients
#   work postgres select COUNT      its read-only ones
#   work files read SIZE PASSES     read(2) of so much of /data, pass after pass
#   work stress SIZE PASSES         stress-ng: so much memory is filled, and checked, so many times
# SIZE is in MiB, as 300M. Any amount: nothing here ends by the clock.
# SPDX-License-Identifier: Apache-2.0
set -u
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin LANG=C
# The agent's protection against the OOM killer is not for programs.
echo 0 >/proc/self/oom_score_adj

database=/var/lib/postgresql/work
out=/run/work.out

fail() {
  printf '{"error":"%s"}\n' "$(printf '%s' "$*" | tr -c 'A-Za-z0-9 .,:;=()/%_+-' ' ' | cut -c1-300)"
  exit 1
}
is_count() { case "$1" in "" | *[!0-9]* | 0*) return 1 ;; esac; }
need_size() {
  mib=${1%M}
  { [ "$mib" != "$1" ] && is_count "$mib"; } || fail "not a size in MiB, such as 300M: ${1:-nothing}"
}
need_count() {
  count=$1
  is_count "$count" || fail "not a number: ${1:-nothing}"
}
now() { cut -d' ' -f1 /proc/uptime; }

# Name and value of each counter, a line each. Sectors are of 512 bytes (Documentation/admin-guide/iostats.rst).
counters() {
  while read -r name value; do
    case "$name" in pgmajfault | pswpin | pswpout | oom_kill | workingset_refault_file | workingset_refault_anon) echo "$name $value" ;; esac
  done </proc/vmstat
  disk_bytes
  echo "disk_read_bytes $disk_read"
  echo "disk_written_bytes $disk_written"
}
# By the shell alone: to start programs would itself read, on a guest that is short of memory.
disk_bytes() {
  disk_read=0 disk_written=0
  for disk in /sys/block/vd*; do
    serial=""
    read -r serial <"$disk/serial" # which has no end of line
    [ "$serial" = swap ] && continue
    read -r _ _ sectors_read _ _ _ sectors_written _ <"$disk/stat"
    disk_read=$((disk_read + sectors_read * 512)) disk_written=$((disk_written + sectors_written * 512))
  done
}

redis_start() {
  [ -e /run/redis.pid ] && return
  redis-server --save '' --appendonly no --daemonize yes --pidfile /run/redis.pid --logfile /run/redis.log --dir /run >/dev/null ||
    fail "redis-server did not start"
  until redis-cli ping >/dev/null 2>&1; do sleep 0.1; done
}

# Values are windows, each at its own place, in random text: neither KSM nor compression can fold a page of them.
redis_fill() {
  redis_start
  keys=$(($1 * 128))
  perl -e 'my ($keys, $noise, $seed) = (shift, "", 12345);
    for (1 .. 24576) {
      $seed = $seed * 16807 % 2147483647;
      $noise .= substr(pack("V", $seed), 0, 3);
    }
    sub set { "*3\r\n\$3\r\nSET\r\n\$" . length($_[0]) . "\r\n$_[0]\r\n\$" . length($_[1]) . "\r\n$_[1]\r\n" }
    print "*1\r\n\$8\r\nFLUSHALL\r\n", set("place", 0);
    for my $key (0 .. $keys - 1) {
      my $name = sprintf("%012d", $key);
      print set("key:$name", $name . substr($noise, $key * 40503 % 65536, 8000));
    }' "$keys" | redis-cli --pipe >"$out" 2>&1
  grep -q "errors: 0, replies: $((keys + 2))" "$out" || fail "redis fill: $(tail -n 1 "$out")"
  redis-cli script load "local place = redis.call('INCR', 'place')
    return redis.call('GET', string.format('key:%012d', place * 16807 % 2147483647 * 48271 % 2147483647 % $keys))" >/run/redis.script
}

# redis-benchmark's own random keys are others each time. These go on where the last ones ended ("place"), scattered by a generator's step.
redis_get() {
  [ -s /run/redis.script ] || fail "redis has no keys: fill it first"
  redis-benchmark -n "$1" -c 4 -P 4 --csv evalsha "$(cat /run/redis.script)" 0 >"$out" 2>&1 || fail "redis-benchmark: $(tail -n 1 "$out")"
  # "evalsha ...","1234.56",...: requests a second
  figures=$(awk -F'","' '$1 ~ /^"evalsha / { print $2 }' "$out")
  [ -n "$figures" ] || fail "redis-benchmark: $(tail -n 1 "$out")"
  unit=requests/s
}

as_postgres() { setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; }
postgres_start() {
  [ -e "$database/postmaster.pid" ] && return
  mkdir -p /run/postgresql
  chown -R postgres:postgres "$database" /run/postgresql
  as_postgres pg_ctl --pgdata="$database" --wait --timeout=3600 --log=/run/postgresql/log start >"$out" 2>&1 ||
    fail "postgres did not start: $(tail -n 1 /run/postgresql/log)"
}
# Few rows on many pages: a row costs an emulated CPU, and pages are what memory is for. So pgbench -i does not make the tables (it makes
# 100,000 rows of 100 bytes at least): two rows of 1,000 bytes are on a page, which leaves room for their new versions.
# max_wal_size and wal_level (guest/postgresql.conf) keep the log out of it: the table is made and filled in one transaction.
postgres_fill() {
  postgres_start
  rows=$(($1 * 256)) # 128 pages of 8 KiB in a MiB
  cat >/run/fill.sql <<END
DROP TABLE IF EXISTS pgbench_accounts, pgbench_tellers, pgbench_branches, pgbench_history;
BEGIN;
CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));
CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));
CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
CREATE TABLE pgbench_accounts (aid int, bid int, abalance int, filler char(1000)) WITH (fillfactor = 30);
INSERT INTO pgbench_branches VALUES (1, 0, '');
INSERT INTO pgbench_tellers SELECT n, 1, 0, '' FROM generate_series(1, 10) n;
INSERT INTO pgbench_accounts SELECT n, 1, 0, '' FROM generate_series(1, $rows) n;
ALTER TABLE pgbench_accounts ADD PRIMARY KEY (aid);
COMMIT;
END
  pgbench -U postgres -n -f /run/fill.sql -t 1 postgres >"$out" 2>&1 || fail "postgres fill: $(tail -n 1 "$out")"
  echo "$rows" >/run/rows
}
# pgbench's own scripts count on the rows of pgbench -i: these are the same, with the rows that there are.
postgres_run() {
  run_pgbench "$1" '\set aid random(1, :rows)
\set tid random(1, 10)
\set delta random(-5000, 5000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + :delta WHERE aid = :aid;
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
UPDATE pgbench_tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE pgbench_branches SET bbalance = bbalance + :delta WHERE bid = 1;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (:tid, 1, :aid, :delta, CURRENT_TIMESTAMP);
END;'
}
postgres_select() {
  run_pgbench "$1" '\set aid random(1, :rows)
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;'
}
run_pgbench() {
  postgres_start
  [ -s /run/rows ] || fail "PostgreSQL has no accounts: fill it first"
  echo "$2" >/run/script.sql
  pgbench -U postgres -n -M prepared -f /run/script.sql -D rows="$(cat /run/rows)" -c 2 -t $((($1 + 1) / 2)) --random-seed=1 postgres \
    >"$out" 2>&1 || fail "pgbench: $(tail -n 1 "$out")"
  figures=$(awk '$1 == "tps" { print $3 }' "$out")
  [ -n "$figures" ] || fail "pgbench: $(tail -n 1 "$out")"
  unit=transactions/s
}

files_read() {
  size=$1 passes=$2 unit='s a pass'
  while [ "$passes" -gt 0 ]; do
    left=$((size << 20)) begun=$(now)
    disk_bytes
    read_before=$disk_read
    for file in /data/*; do
      [ "$left" -gt 0 ] || break
      [ -f "$file" ] || continue
      bytes=$(stat -c %s "$file")
      [ "$bytes" -le "$left" ] || bytes=$left
      head -c "$bytes" "$file" >/dev/null
      left=$((left - bytes))
    done
    [ "$left" -eq 0 ] || fail "/data has less than ${size} MiB"
    figures="$figures $(awk -v a="$begun" -v b="$(now)" 'BEGIN { printf "%.2f", b - a }')"
    disk_bytes
    pass_bytes="$pass_bytes $((disk_read - read_before))"
    passes=$((passes - 1))
  done
}

stress() {
  # The method counts 64 operations for each MiB that it has filled and checked (seen with stress-ng 0.15.06).
  stress-ng --vm 1 --vm-bytes "${1}m" --vm-keep --vm-method zero-one --vm-ops $((${1} * 64 * ${2})) --oomable >"$out" 2>&1 ||
    fail "stress-ng: $(tail -n 1 "$out")"
}

list() { echo "$1" | sed 's/^ *//; s/  */,/g'; }

[ $# -ge 2 ] || fail "work takes a program and what it shall do"
figures="" unit="" pass_bytes=""
before=$(counters)
started=$(now)
case "$1 $2" in
  "redis fill") need_size "${3:-}" && redis_fill "$mib" ;;
  "redis get") need_count "${3:-}" && redis_get "$count" ;;
  "postgres fill") need_size "${3:-}" && postgres_fill "$mib" ;;
  "postgres run") need_count "${3:-}" && postgres_run "$count" ;;
  "postgres select") need_count "${3:-}" && postgres_select "$count" ;;
  "files read") need_size "${3:-}" && need_count "${4:-1}" && files_read "$mib" "$count" ;;
  "stress "*) need_size "$2" && need_count "${3:-1}" && stress "$mib" "$count" ;;
  *) fail "unknown work: $*" ;;
esac
ended=$(now)
printf '{"seconds":%s,"unit":"%s","figures":[%s],"pass_bytes":[%s],"counters":{%s}}\n' \
  "$(awk -v a="$started" -v b="$ended" 'BEGIN { printf "%.2f", b - a }')" "$unit" \
  "$(list "$figures")" "$(list "$pass_bytes")" \
  "$({ echo "$before"; echo --; counters; } | awk '$1 == "--" { after = 1; next } !after { was[$1] = $2; next }
     { printf "%s\"%s\":%.0f", separator, $1, $2 - was[$1]; separator = "," }')"
