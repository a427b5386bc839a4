// SPDX-License-Identifier: Apache-2.0
// What schedulers have reserved, whether it is there, and how much more could be.
local b = import 'lib/balloond.libsonnet';
local query = b.query;

b.dashboard('reservations', 'Reservations', 'What schedulers have reserved, whether it is there, and how much more could be.', b.fleet, [
  b.stat('Granted', 'Reservations whose memory is kept for them.', 'short', 'sum(balloon_reservations{@,state="granted"})', w=3),
  b.stat(
    'Waiting',
    'Reservations whose memory is not there yet.',
    'short',
    'sum(balloon_reservations{@,state="pending"})',
    [{ value: 1, color: 'yellow' }],
    w=3
  ),
  b.stat(
    'At risk',
    'Reservations that wait with less than half of their time left.',
    'short',
    'sum(balloon_reservations_at_risk{@})',
    [{ value: 1, color: 'orange' }],
    w=3
  ),
  b.stat('Kept', 'Of the budgets, memory that is kept for reservations.', 'bytes', 'sum(balloon_host_memory_reserved_bytes{@})', w=3),
  b.stat('Free for guests', 'What a reservation could be granted at once.', 'bytes', 'sum(balloon_host_headroom_bytes{@})'),
  b.stat('Longest lease', 'How long the longest lease of a grant still runs.', 's', 'max(balloon_reservations_longest_lease_seconds{@})'),
  b.alarm('Written down', 'Whether what is reserved can be written to reservations.file.', 'max(balloon_reservations_failing{@})', 'yes', 'no'),
  b.timeseries(
    'Reservations',
    'By whether their memory is there.',
    'short',
    [query('balloon_reservations{@}', '{{instance}} {{state}}')]
  ) + b.stacked,
  b.timeseries(
    'Memory of reservations',
    'The minimum of those that wait, and what those that are granted have.',
    'bytes',
    [query('balloon_reservations_bytes{@}', '{{instance}} {{state}}')]
  ) + b.stacked,
  b.timeseries(
    'Room for new guests',
    'What could be granted at once, and within a time of what guests do not need.',
    'bytes',
    [query('balloon:host_capacity_bytes{@}', '{{instance}} {{horizon}}')]
  ),
  b.timeseries(
    'Room for guarantees',
    'What new guests could be guaranteed: the budget less all floors and reservations.',
    'bytes',
    [query('balloon_host_bookable_bytes{@}', '{{instance}}')]
  ),
  b.timeseries(
    'Granted and used',
    'Memory of grants, and of those whose guest came, in the time that is shown.',
    'bytes',
    [
      query('increase(balloon_reservations_granted_bytes_total{@}[$__range])', '{{instance}} granted'),
      query('increase(balloon_reservations_used_bytes_total{@}[$__range])', '{{instance}} used'),
    ]
  ),
  b.timeseries(
    'How reservations ended',
    'joined: the guest came. lapsed: a grant was not used in its lease. expired: its memory was not there in time. refused: it never will be.',
    'short',
    [
      query('sum by (outcome) (increase(balloon_reservations_ended_total{@}[$__range]))', '{{outcome}}'),
      query('sum(increase(balloon_reservations_granted_total{@}[$__range]))', 'granted'),
    ]
  ),
  b.timeseries(
    'Waiting: what is missing',
    'What pending reservations still lack of their minimum.',
    'bytes',
    [query('balloon_reservations_lacking_bytes{@}', '{{instance}}')]
  ),
  b.timeseries(
    'Oldest reservation',
    'Since it was asked for, and since it was granted.',
    's',
    [query('balloon_reservations_oldest_age_seconds{@}', '{{instance}} {{state}}')]
  ),
  b.timeseries(
    'What is missing',
    'What guests and reservations need beyond the budget: as much should leave the host.',
    'bytes',
    [query('balloon:host_shortage_bytes{@}', '{{instance}}')]
  ),
  b.timeseries(
    'Longest lease',
    'That of a scheduler which renews what it does not use never ends.',
    's',
    [query('balloon_reservations_longest_lease_seconds{@}', '{{instance}}')]
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
