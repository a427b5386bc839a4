#!/bin/sh
# Gives a program in a Debian guest an amount of work, waits for its end, and says one JSON line: how long it took, the program's own
# figures, and by how much the guest's counters went up meanwhile.
#   work redis fill SIZE            so much of incompressible values, of 4 KiB each, in place of what was there
#   work redis get REQUESTS         reads of random keys among those
#   work postgres fill SCALE        pgbench's tables with their pages a tenth full; 1 is some 130 MiB
#   work postgres run COUNT         pgbench's own transactions, from two clients
#   work postgres select COUNT      its read-only ones
#   work files read SIZE PASSES     read(2) of so much of /data, pass after pass
#   work stress SIZE PASSES         stress-ng: so much memory is filled, and checked, so many times
# SIZE is in MiB, as 300M. Any amount: nothing here ends by the clock.
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
  awk '$1 ~ /^(pgmajfault|pswpin|pswpout|oom_kill|workingset_refault_file|workingset_refault_anon)$/ { print $1, $2 }' /proc/vmstat
  for disk in /sys/block/vd*; do
    [ "$(cat "$disk/serial")" = swap ] || cat "$disk/stat"
  done | awk '{ read += $3; written += $7 } END { printf "disk_read_bytes %.0f\ndisk_written_bytes %.0f\n", read * 512, written * 512 }'
}
disk_read_bytes() { counters | awk '$1 == "disk_read_bytes" { print $2 }'; }

redis_start() {
  redis-cli ping >/dev/null 2>&1 && return
  redis-server --save '' --appendonly no --daemonize yes --logfile /run/redis.log --dir /run >/dev/null ||
    fail "redis-server did not start"
  until redis-cli ping >/dev/null 2>&1; do sleep 0.1; done
}

# Values are windows, each at its own place, in random text: neither KSM nor compression can fold a page of them.
redis_fill() {
  redis_start
  redis-cli flushall >/dev/null
  keys=$((${1} * 256)) from=0
  while [ "$from" -lt "$keys" ]; do
    to=$((from + 2048))
    [ "$to" -le "$keys" ] || to=$keys
    redis-cli eval 'local noise = redis.call("GET", "noise")
      if not noise then
        local words, seed = {}, 12345
        for i = 1, 24576 do
          seed = (seed * 16807) % 2147483647
          words[i] = struct.pack("I3", seed % 16777216)
        end
        noise = table.concat(words)
        redis.call("SET", "noise", noise)
      end
      for i = ARGV[1], ARGV[2] - 1 do
        local at = (i * 40503) % (#noise - 4096)
        redis.call("SET", string.format("key:%012d", i), string.format("%012d", i) .. string.sub(noise, at + 1, at + 4000))
      end
      return ARGV[2] - ARGV[1]' 0 "$from" "$to" >"$out" 2>&1 || fail "redis fill: $(cat "$out")"
    [ "$(cat "$out")" = $((to - from)) ] || fail "redis fill: $(cat "$out")"
    from=$to
  done
}

redis_get() {
  keys=$(($(redis-cli dbsize) - 1))
  [ "$keys" -gt 0 ] || fail "redis has no keys: fill it first"
  redis-benchmark -t get -n "$1" -r "$keys" -c 4 -P 4 --csv >"$out" 2>&1 || fail "redis-benchmark: $(tail -n 1 "$out")"
  # "GET","1234.56",...: requests a second
  figures=$(awk -F'"' '$2 == "GET" { print $4 }' "$out")
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
postgres_fill() {
  postgres_start
  # The server makes the rows. Few of them on many pages: rows cost an emulated CPU, and pages are what memory is for.
  pgbench -U postgres -i -I dtGvp -F 10 -s "$1" postgres >"$out" 2>&1 || fail "pgbench -i: $(tail -n 1 "$out")"
}
postgres_run() {
  transactions=$1
  shift
  postgres_start
  pgbench -U postgres -n -c 2 -t $(((transactions + 1) / 2)) --random-seed=1 "$@" postgres >"$out" 2>&1 ||
    fail "pgbench: $(tail -n 1 "$out")"
  figures=$(awk '$1 == "tps" { print $3 }' "$out")
  [ -n "$figures" ] || fail "pgbench: $(tail -n 1 "$out")"
  unit=transactions/s
}

files_read() {
  size=$1 passes=$2 unit='s a pass'
  while [ "$passes" -gt 0 ]; do
    left=$((size << 20)) begun=$(now) read_before=$(disk_read_bytes)
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
    pass_bytes="$pass_bytes $(awk -v a="$read_before" -v b="$(disk_read_bytes)" 'BEGIN { printf "%.0f", b - a }')"
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
  "postgres fill") need_count "${3:-}" && postgres_fill "$count" ;;
  "postgres run") need_count "${3:-}" && postgres_run "$count" ;;
  "postgres select") need_count "${3:-}" && postgres_run "$count" -S ;;
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
