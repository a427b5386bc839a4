// SPDX-License-Identifier: Apache-2.0
// All hosts at once: is anything wrong anywhere, and where is room.
local b = import 'lib/balloond.libsonnet';
local query = b.query;

b.dashboard('fleet', 'Fleet', 'All hosts with balloond: is anything wrong, and where is room.', b.fleet, [
  b.stat('Hosts', 'Hosts whose balloond is scraped.', 'short', 'sum(up{@})', w=3),
  b.stat(
    'Unreachable',
    'Scrapes of balloond that fail now. Its guests keep the sizes that they have.',
    'short',
    'count(up{@} == 0) or vector(0)',
    [{ value: 1, color: 'red' }],
    w=3
  ),
  b.stat('Guests', 'Guests that balloond knows, in any state.', 'short', 'sum(balloon_guests{@})', w=3),
  b.stat(
    'Overcommit',
    "Boot memory of all guests, as a part of the hosts' memory: above 100 % guests could ask for more than there is.",
    'percentunit',
    'sum(balloon_host_memory_configured_bytes{@}) / sum(balloon_host_memory_total_bytes{@})',
    w=3
  ),
  b.stat(
    'Satisfaction',
    'Of what guests need together, the part that they have, on the worst host.',
    'percentunit',
    'min(balloon_guests_satisfaction_ratio{@})',
    [{ value: 0, color: 'red' }, { value: 0.9, color: 'yellow' }, { value: 0.99, color: 'green' }],
    w=3
  ),
  b.stat(
    'Free for guests',
    'What new guests could be given at once: the budgets, less what guests have and what is reserved.',
    'bytes',
    'sum(balloon_host_headroom_bytes{@})',
    w=3
  ),
  b.stat(
    'Reclaimable',
    'What guests have beyond their need and could give within 30 s, if others needed it.',
    'bytes',
    'sum(balloon_host_reclaimable_bytes{@,horizon="30s"})',
    w=3
  ),
  b.stat(
    'Alerts',
    'Alerts of balloond that fire now.',
    'short',
    'count(ALERTS{alertname=~"Balloon.+",alertstate="firing",@}) or vector(0)',
    [{ value: 1, color: 'red' }],
    w=3
  ),
  b.table(
    'Hosts',
    'One line a host. Follow a host by its name.',
    ['instance'],
    [
      { title: 'State', unit: 'short', states: b.hostStates, expr: b.stateNumber('balloon_host_state', 'job, instance', b.hostStates) },
      { title: 'Guests', unit: 'short', expr: 'sum by (job, instance) (balloon_guests{@})' },
      { title: 'Memory', unit: 'bytes', expr: 'balloon_host_memory_total_bytes{@}' },
      { title: 'Overcommit', unit: 'percentunit', expr: 'balloon:host_overcommit_ratio{@}' },
      { title: 'Budget', unit: 'bytes', expr: 'balloon_host_memory_budget_bytes{@}' },
      { title: 'Guests have', unit: 'bytes', expr: 'balloon_host_memory_committed_bytes{@}' },
      { title: 'Free for guests', unit: 'bytes', expr: 'balloon_host_headroom_bytes{@}' },
      { title: 'Reclaimable', unit: 'bytes', expr: 'sum by (job, instance) (balloon_host_reclaimable_bytes{@,horizon="30s"})' },
      { title: 'Satisfaction', unit: 'percentunit', expr: 'balloon_guests_satisfaction_ratio{@}' },
      { title: 'Under pressure', unit: 'short', expr: 'sum by (job, instance) (balloon_guests_pressed{@})' },
      { title: 'Waits for memory', unit: 'percentunit', expr: 'balloon_host_memory_pressure_some_ratio{@}' },
      { title: 'Swapped in', unit: 'binBps', expr: 'balloon:host_swap_in_bytes:rate5m{@}' },
    ],
    b.hostLink
  ),
  b.stateTimeline(
    'Hosts: state of memory',
    'tight: needs exceed the budget; critical and emergency: the host itself is short; infeasible: what is guaranteed does not fit.',
    query(b.stateNumber('balloon_host_state', 'instance', b.hostStates), '{{instance}}'),
    b.hostStates
  ),
  b.timeseries(
    'Satisfaction by host',
    'Of what the guests of a host need together, the part that they have.',
    'percentunit',
    [query('balloon_guests_satisfaction_ratio{@}', '{{instance}}')]
  ) { fieldConfig+: { defaults+: { max: 1 } } },
  b.timeseries(
    'Memory of all hosts',
    "What guests need and have, and what the hosts' budgets are.",
    'bytes',
    [
      query('sum(balloon_host_memory_total_bytes{@})', 'hosts have'),
      query('sum(balloon_host_memory_budget_bytes{@})', 'budget'),
      query('sum(balloon_host_memory_configured_bytes{@})', 'guests booted with'),
      query('sum(balloon_host_memory_committed_bytes{@})', 'guests have'),
      query('sum(balloon_host_memory_needed_bytes{@})', 'guests need'),
      query('sum(balloon_guest_used_bytes{@})', 'guests use'),
    ]
  ),
  b.timeseries(
    'Room for new guests',
    'What new guests could be given at once, and within 30 s of what others do not need.',
    'bytes',
    [query('balloon:host_capacity_bytes{@,horizon=~"now|30s"}', '{{instance}} {{horizon}}')]
  ),
  b.timeseries(
    'Hosts swap in',
    'Memory that hosts read back from their swap. Above zero for minutes a budget is too large.',
    'binBps',
    [query('balloon:host_swap_in_bytes:rate5m{@}', '{{instance}}')]
  ),
  b.timeseries(
    'Programs wait for memory',
    'Part of the time in which some task of a host waited for memory (PSI).',
    'percentunit',
    [query('rate(balloon_host_memory_pressure_waiting_seconds_total{@}[$__rate_interval])', '{{instance}}')]
  ),
  b.table(
    'Guests that lack most',
    'The ten guests that have least of what they need. Follow a guest by its name.',
    ['instance', 'guest'],
    [
      { title: 'Satisfaction', unit: 'percentunit', expr: 'bottomk(10, balloon_guest_satisfaction_ratio{@})' },
      { title: 'Need', unit: 'bytes', expr: 'balloon_guest_need_bytes{@} and bottomk(10, balloon_guest_satisfaction_ratio{@})' },
      { title: 'Has', unit: 'bytes', expr: 'balloon_guest_actual_bytes{@} and bottomk(10, balloon_guest_satisfaction_ratio{@})' },
    ],
    b.guestLink,
    w=12
  ),
  b.table(
    'Who should leave',
    'On each host whose guests need more than there is: the smallest guest whose leaving would be enough (else the largest), and what that frees.',
    ['instance', 'guest'],
    [{ title: 'Frees', unit: 'bytes', expr: 'balloon:guest_should_leave_bytes{@}' }],
    b.guestLink,
    w=12
  ),
])
