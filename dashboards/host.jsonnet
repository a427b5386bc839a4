// SPDX-License-Identifier: Apache-2.0
// One host: where its memory is, what its guests need and have of it, and what the host suffers.
local b = import 'lib/balloond.libsonnet';
local query = b.query;

// Pages that KSM shares are resident in every guest that has them, and there once.
local guests = 'sum(balloon_guest_resident_bytes{@}) - (sum(balloon_host_ksm_saved_bytes{@}) or vector(0))';
// Of a host with few files in its cache less is available than is free: the kernel keeps some for itself.
local caches = 'clamp_min(balloon_host_memory_available_bytes{@} - balloon_host_memory_free_bytes{@}, 0)';

b.dashboard('host', 'Host', 'One host: where its memory is, and what its guests need and have of it.', b.host, [
  b.stateStat(
    'State of memory',
    'tight: needs exceed the budget; critical and emergency: the host itself is short; infeasible: what is guaranteed does not fit.',
    b.stateNumber('balloon_host_state', 'instance', b.hostStates),
    b.hostStates
  ),
  b.stat(
    'Satisfaction',
    'Of what guests need together, the part that they have.',
    'percentunit',
    'balloon_guests_satisfaction_ratio{@}',
    [{ value: 0, color: 'red' }, { value: 0.9, color: 'yellow' }, { value: 0.99, color: 'green' }]
  ),
  b.stat(
    'Overcommit',
    "Boot memory of all guests, as a part of the host's memory.",
    'percentunit',
    'balloon:host_overcommit_ratio{@}'
  ),
  b.stat(
    'Free for guests',
    'What a new guest could be given at once: the budget, less what guests have and what is reserved.',
    'bytes',
    'balloon_host_headroom_bytes{@}'
  ),
  b.stat(
    'Guests',
    'Guests that balloond knows, in any state.',
    'short',
    'sum(balloon_guests{@})'
  ),
  b.stat(
    'Guests to look at',
    'Guests that are stuck, contested or critical, or have no statistics that can be judged by.',
    'short',
    'sum(balloon_guests{@,state="stuck"}) + sum(balloon_guests_blind{@}) + sum(balloon_guests_contested{@}) + sum(balloon_guests_pressed{@,level="critical"})',
    [{ value: 1, color: 'orange' }]
  ),
  b.timeseries(
    'What guests have',
    'Sizes of guests, one on the other, below what they may have together.',
    'bytes',
    [
      query('balloon_guest_actual_bytes{@}', '{{guest}}'),
      query('balloon_host_memory_budget_bytes{@}', 'budget'),
      query('balloon_host_memory_total_bytes{@}', 'host has'),
    ]
  ) + b.stacked + b.links([b.guestOfLegendLink])
  + b.line('budget', 'orange') + b.line('host has', 'red', dashed=true),
  b.timeseries(
    'Needed and given',
    'What guests use, need and have together, between the least that they can be brought to (floors) and what they may have (budget).',
    'bytes',
    [
      query('balloon_host_memory_needed_bytes{@}', 'need'),
      query('balloon_host_memory_committed_bytes{@}', 'have'),
      query('sum(balloon_guest_used_bytes{@})', 'use'),
      query('sum(balloon_guest_floor_bytes{@})', 'floors'),
      query('balloon_host_memory_budget_bytes{@}', 'budget'),
      query('balloon_host_memory_configured_bytes{@}', 'booted with'),
    ]
  ) + b.line('budget', 'orange') + b.line('booted with', 'red', dashed=true) + b.line('floors', 'purple', dashed=true),
  b.timeseries(
    "Where the host's memory is",
    "Guests' memory in RAM, what the host's own programs and kernel hold, and what is available. The reserve is kept from guests.",
    'bytes',
    [
      query(guests, 'guests'),
      query('clamp_min(sum(balloon_host_memory_total_bytes{@} - balloon_host_memory_free_bytes{@} - %s) - (%s), 0)' % [caches, guests], 'host'),
      query(caches, 'caches that can go'),
      query('balloon_host_memory_free_bytes{@}', 'free'),
      query('balloon_host_memory_reserve_bytes{@}', 'reserve'),
    ]
  ) + b.stacked + b.line('reserve', 'red', dashed=true),
  b.stateTimeline(
    'Guests: state',
    'What the daemon does with each guest: controlled is healthy.',
    query(b.stateNumber('balloon_guest_state', 'guest', b.guestStates), '{{guest}}'),
    b.guestStates
  ),
  b.timeseries(
    'Room for new guests',
    'What they could be given at once, and within a time of what guests do not need.',
    'bytes',
    [query('balloon:host_capacity_bytes{@}', '{{horizon}}')]
  ),
  b.timeseries(
    'Guests under pressure',
    'Pressed: little is available, or they read back what they lost. Critical: next to nothing is available.',
    'short',
    [query('balloon_guests_pressed{@}', '{{level}}')]
  ) + b.stacked,
  b.stateTimeline(
    'State of memory over time',
    'tight: needs exceed the budget; critical and emergency: the host itself is short; infeasible: what is guaranteed does not fit.',
    query(b.stateNumber('balloon_host_state', 'instance', b.hostStates), '{{instance}}'),
    b.hostStates,
    h=6
  ),
  b.timeseries(
    'Programs wait for memory',
    'Part of the time in which some task, and all tasks, of the host waited for memory (PSI).',
    'percentunit',
    [
      query('rate(balloon_host_memory_pressure_waiting_seconds_total{@}[$__rate_interval])', 'some wait'),
      query('rate(balloon_host_memory_pressure_stalled_seconds_total{@}[$__rate_interval])', 'all wait'),
    ],
    h=6
  ),
  b.timeseries(
    'Swap of the host: traffic',
    'Memory read back from swap and written to it. Read back for minutes: the budget is too large, raise host.reserve.',
    'binBps',
    [
      query('rate(balloon_host_swap_in_bytes_total{@}[$__rate_interval])', 'in'),
      query('rate(balloon_host_swap_out_bytes_total{@}[$__rate_interval])', 'out'),
    ],
    h=6
  ),
  b.timeseries(
    'Swap of the host: use',
    'Swap space in use, and how much of it guests are in.',
    'bytes',
    [
      query('balloon_host_swap_total_bytes{@} - balloon_host_swap_free_bytes{@}', 'in use'),
      query('sum(balloon_guest_swapped_bytes{@})', 'guests'),
      query('balloon_host_swap_total_bytes{@}', 'there is'),
    ],
    h=6
  ) + b.line('there is', 'red', dashed=true),
  b.table(
    'Guests',
    'One line a guest. Follow a guest by its name.',
    ['guest'],
    [
      { title: 'State', unit: 'short', states: b.guestStates, expr: b.stateNumber('balloon_guest_state', 'guest', b.guestStates) },
      { title: 'Guaranteed', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_min_bytes{@})' },
      { title: 'Uses', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_used_bytes{@})' },
      { title: 'Available', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_available_bytes{@})' },
      { title: 'Needs', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_need_bytes{@})' },
      { title: 'Target', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_target_bytes{@})' },
      { title: 'Has', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_actual_bytes{@})' },
      { title: 'At most', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_max_bytes{@})' },
      { title: 'Booted with', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_configured_bytes{@})' },
      { title: 'In host swap', unit: 'bytes', expr: 'sum by (guest) (balloon_guest_swapped_bytes{@})' },
    ],
    b.guestOfHostLink
  ),
  b.row('Balloons'),
  b.timeseries(
    'Moved by decisions',
    'Memory by which targets were changed.',
    'binBps',
    [query('rate(balloon_moved_bytes_total{@}[$__rate_interval])', '{{direction}}')]
  ),
  b.timeseries(
    'Released by guests, and really freed',
    'What balloons and free page reporting released, and what of it the host got back: pages that were never touched free nothing.',
    'binBps',
    [
      query('sum(rate(balloon_guest_inflated_bytes_total{@}[$__rate_interval]))', 'inflated'),
      query('sum(rate(balloon_guest_reported_bytes_total{@}[$__rate_interval]))', 'reported'),
      query('sum(rate(balloon_guest_freed_bytes_total{@}[$__rate_interval]))', 'freed'),
      query('sum(rate(balloon_guest_deflated_bytes_total{@}[$__rate_interval]))', 'given back to guests'),
    ]
  ),
  b.timeseries(
    'What kept targets from being other',
    'Decisions for one guest, by what would have changed their target.',
    'ops',
    [query('rate(balloon_decisions_blocked_total{@}[$__rate_interval]) > 0', '{{by}}')]
  ) + b.stacked,
  b.timeseries(
    'What guests lack and who could leave',
    'What guests and reservations need beyond the budget, and what is guaranteed beyond it (infeasible).',
    'bytes',
    [
      query('balloon:host_shortage_bytes{@}', 'needed beyond the budget'),
      query('balloon_host_deficit_bytes{@}', 'guaranteed beyond the budget'),
      query('balloon:guest_should_leave_bytes{@}', '{{guest}} should leave: frees'),
    ]
  ),
  b.row('Samepage merging (KSM)'),
  b.timeseries(
    'KSM: memory',
    'What it saves, what is left of that after its bookkeeping, and what it looked at in vain.',
    'bytes',
    [
      query('balloon_host_ksm_saved_bytes{@}', 'saved'),
      query('balloon_host_ksm_profit_bytes{@}', 'profit'),
      query('balloon_host_ksm_shared_bytes{@}', 'stands for several'),
      query('balloon_host_ksm_unshared_bytes{@}', 'looked at in vain'),
      query('balloon_host_ksm_volatile_bytes{@}', 'changes too fast'),
    ]
  ) + b.negative,
  b.timeseries(
    'KSM: speed',
    'Memory that it scans a second while it runs: pages each time it wakes, over how long it sleeps in between.',
    'binBps',
    [
      query(
        'balloon_host_ksm_running{@} * balloon_host_ksm_scan_pages{@} * 4096 / balloon_host_ksm_sleep_seconds{@}',
        'scanned, at most'
      ),
    ],
    w=6
  ),
  b.timeseries(
    'KSM: full scans',
    'Scans of all memory that may be shared, an hour.',
    'short',
    [query('increase(balloon_host_ksm_full_scans_total{@}[1h])', 'an hour')],
    w=4
  ),
  b.stateStat(
    'KSM',
    'Whether it runs, and whether balloond runs it (host.ksm).',
    '1 + balloon_host_ksm_running{@} + 2 * balloon_host_ksm_controllable{@}',
    [
      { name: 'stopped', color: 'text' },
      { name: 'runs', color: 'green' },
      { name: 'stopped by balloond', color: 'text' },
      { name: 'run by balloond', color: 'green' },
    ],
    w=2,
    h=8
  ),
])
