// SPDX-License-Identifier: Apache-2.0
// One guest: what it has between its floor and its ceiling, whether that hurts, and why it was moved.
local b = import 'lib/balloond.libsonnet';
local query = b.query;

// A move that a person would want explained: a tenth of boot memory within a minute.
local moved = '(balloon_guest_target_bytes{@} - balloon_guest_target_bytes{@} offset 1m) / balloon_guest_configured_bytes{@}';

local what(size) = 'sum by (guest, backend, vmm_version, vcpus, merging) (balloon_guest_info{@} * on (guest) group_left () %s{@})' % size;

b.dashboard('guest', 'Guest', 'One guest: what it has between its floor and its ceiling, and whether that hurts.', b.guest, [
  b.stateStat(
    'State',
    'What the daemon does with the guest: controlled is healthy.',
    b.stateNumber('balloon_guest_state', 'guest', b.guestStates),
    b.guestStates
  ),
  b.stat(
    'Satisfaction',
    'Of what it needs, the part that it has.',
    'percentunit',
    'balloon_guest_satisfaction_ratio{@}',
    [{ value: 0, color: 'red' }, { value: 0.9, color: 'yellow' }, { value: 0.99, color: 'green' }]
  ),
  b.stat('Has', 'Size: boot memory less what its balloon holds.', 'bytes', 'balloon_guest_actual_bytes{@}'),
  b.stat(
    'Needed for 95 % of the time',
    'What it should have been given for 95 % of the time that is shown: its right size.',
    'bytes',
    'quantile_over_time(0.95, balloon_guest_need_bytes{@}[$__range])'
  ),
  b.stat(
    'Available',
    'Of what it has, what its programs can still take. Below 5 % it is under pressure, below 2 % critical.',
    'percentunit',
    'balloon_guest_available_bytes{@} / balloon_guest_actual_bytes{@}',
    [{ value: 0, color: 'red' }, { value: 0.02, color: 'orange' }, { value: 0.05, color: 'green' }]
  ),
  b.stat(
    'Out of memory',
    'Invocations of its OOM killer in the time that is shown (guests with Linux 6.12 or later).',
    'short',
    'increase(balloon_guest_oom_kills_total{@}[$__range])',
    [{ value: 1, color: 'red' }]
  ),
  b.timeseries(
    'Memory',
    'Between the dashed floor (the least that it can be brought to now) and ceiling (the most that policy allows) the guest has what the thick line says. The target is where its balloon is going.',
    'bytes',
    [
      query('balloon_guest_configured_bytes{@}', 'booted with'),
      query('balloon_guest_max_bytes{@}', 'ceiling'),
      query('balloon_guest_target_bytes{@}', 'target'),
      query('balloon_guest_actual_bytes{@}', 'actual'),
      query('balloon_guest_need_bytes{@}', 'need'),
      query('balloon_guest_used_bytes{@}', 'used'),
      query('balloon_guest_available_bytes{@}', 'available'),
      query('balloon_guest_floor_bytes{@}', 'floor'),
    ],
    w=24,
    h=11
  ) + b.line('booted with', 'text') + b.line('ceiling', 'red', dashed=true) + b.line('floor', 'purple', dashed=true)
  + b.line('actual', 'blue') + b.look('actual', { 'custom.fillOpacity': 15, 'custom.lineWidth': 3 })
  + b.line('target', 'light-blue', dashed=true) + b.line('need', 'orange') + b.line('used', 'green') + b.line('available', 'yellow'),
  b.stateTimeline(
    'State over time',
    'controlled: its balloon is moved as policy decides. blind: by what the host sees of it. stale: its statistics cannot be used. stuck: its balloon frees nothing. contested: somebody else moves its balloon.',
    query(b.stateNumber('balloon_guest_state', 'guest', b.guestStates), '{{guest}}'),
    b.guestStates,
    w=24,
    h=4
  ),
  b.row('Does it hurt?'),
  b.stateTimeline(
    'Pressure',
    'pressed: little is available, or it reads back what it lost. critical: next to nothing is available.',
    query('balloon_guest_pressure{@} + 1', '{{guest}}'),
    [{ name: 'none', color: 'green' }, { name: 'pressed', color: 'yellow' }, { name: 'critical', color: 'red' }],
    w=24,
    h=4
  ),
  b.timeseries(
    'Major faults',
    'Pages that programs had to wait for, read from disk or swap.',
    'ops',
    [query('rate(balloon_guest_major_faults_total{@}[$__rate_interval])', 'major faults')],
    w=8
  ),
  b.timeseries(
    'Its own swap',
    'Memory that the guest wrote to its swap, and read back. Read back: it lacks what it had.',
    'binBps',
    [
      query('rate(balloon_guest_swap_in_bytes_total{@}[$__rate_interval])', 'in'),
      query('rate(balloon_guest_swap_out_bytes_total{@}[$__rate_interval])', 'out'),
    ],
    w=8
  ),
  b.timeseries(
    'Read from its disks',
    'By its hypervisor: files that were pushed out of its page cache are read again.',
    'binBps',
    [query('rate(balloon_guest_disk_read_bytes_total{@}[$__rate_interval])', 'read')],
    w=8
  ),
  b.row('The host'),
  b.timeseries(
    'What it holds on the host',
    'Memory of its hypervisor process, in RAM and in swap of the host, beside the size that it has.',
    'bytes',
    [
      query('balloon_guest_resident_bytes{@}', 'in RAM'),
      query('balloon_guest_swapped_bytes{@}', 'in swap'),
      query('balloon_guest_actual_bytes{@}', 'size'),
      query('balloon_guest_disk_caches_bytes{@}', 'its page cache'),
    ],
    w=8
  ) + b.line('size', 'blue', dashed=true),
  b.timeseries(
    'Released, and really freed',
    'What its balloon and free page reporting released, and what of it the host got back.',
    'binBps',
    [
      query('rate(balloon_guest_inflated_bytes_total{@}[$__rate_interval])', 'inflated'),
      query('rate(balloon_guest_reported_bytes_total{@}[$__rate_interval])', 'reported'),
      query('rate(balloon_guest_freed_bytes_total{@}[$__rate_interval])', 'freed'),
      query('rate(balloon_guest_deflated_bytes_total{@}[$__rate_interval])', 'given back to it'),
    ],
    w=8
  ),
  b.timeseries(
    'Its share',
    'What it is given when not everybody can have what they need.',
    'bytes',
    [query('balloon_guest_share_bytes{@}', 'share'), query('balloon_guest_need_bytes{@}', 'need')],
    w=8
  ),
  b.row('Its right size'),
  b.timeseries(
    'What it needed',
    'What was enough for 95 and 99 % of the last day, week and month, beside its boot memory and its guaranteed minimum. balloonctl needs says the same.',
    'bytes',
    [
      query('balloon_guest_needed_bytes{@}', '{{window}}, {{percentile}} %'),
      query('balloon_guest_configured_bytes{@}', 'booted with'),
      query('balloon_guest_min_bytes{@}', 'guaranteed'),
    ],
    w=24
  ) + b.line('booted with', 'text') + b.line('guaranteed', 'purple', dashed=true),
  b.row('The balloon and its driver'),
  b.timeseries(
    'Changes of mind',
    'Targets that were changed in the other direction than the time before, within a minute.',
    'short',
    [query('increase(balloon_guest_reversals_total{@}[$__rate_interval])', 'reversals')],
    w=8
  ),
  b.timeseries(
    'Statistics: age',
    'How old the newest statistics are.',
    's',
    [query('time() - balloon_guest_stats_timestamp_seconds{@}', 'age')],
    w=8
  ),
  b.timeseries(
    'Refused and impossible',
    'Each should stay at zero: stalls of its balloon, targets that its hypervisor refused, messages that make no sense, moves by somebody else.',
    'short',
    [
      query('increase(balloon_guest_stalls_total{@}[$__rate_interval])', 'stalls'),
      query('increase(balloon_guest_refused_targets_total{@}[$__rate_interval])', 'refused targets'),
      query('increase(balloon_guest_rejected_messages_total{@}[$__rate_interval])', 'rejected messages'),
      query('increase(balloon_guest_contests_total{@}[$__rate_interval])', 'moved by others'),
    ],
    w=8
  ),
  b.table(
    'What it is',
    'What is constant about the guest.',
    ['guest', 'backend', 'vmm_version', 'vcpus', 'merging'],
    [
      { title: 'Booted with', unit: 'bytes', expr: what('balloon_guest_configured_bytes') },
      { title: 'Guaranteed', unit: 'bytes', expr: what('balloon_guest_min_bytes') },
      { title: 'At most', unit: 'bytes', expr: what('balloon_guest_max_bytes') },
    ],
    b.guestOfHostLink,
    w=16,
    h=4
  ),
], [
  b.annotation('Shrunk', 'blue', moved + ' < -0.1', 'target lowered by a tenth or more'),
  b.annotation('Grown', 'orange', moved + ' > 0.1', 'target raised by a tenth or more'),
  b.annotation('Out of memory', 'red', 'increase(balloon_guest_oom_kills_total{@}[1m]) > 0', 'its OOM killer was called'),
])
