// SPDX-License-Identifier: Apache-2.0
// The daemon itself: does it decide in time, from what, and does it record what it decides.
local b = import 'lib/balloond.libsonnet';
local query = b.query;

local quantile(q, family, by='') =
  // What nobody asked for has no quantile: not a number is not above 0.
  'histogram_quantile(%g, sum by (le%s) (rate(%s_bucket{@}[$__rate_interval]))) >= 0' % [q, by, family];
local quantiles(family) = [
  query(quantile(0.5, family), 'half below'),
  query(quantile(0.99, family), '99 % below'),
];

b.dashboard('controller', 'Controller', 'The daemon: does it decide in time, from what, and does it record it.', b.host, [
  b.alarm('Scrapes', 'Whether Prometheus reaches the daemon.', '1 - up{@}', 'answer', 'fail', w=3),
  b.alarm(
    'Control',
    '0 in a dry run and while control is paused: everything is decided and nothing applied.',
    '1 - balloon_control_applied{@}',
    'applied',
    'not applied',
    w=3
  ),
  b.alarm('Configuration', 'Whether the newest configuration was taken.', '1 - balloon_config_last_reload_successful{@}', 'taken', 'refused', w=3),
  b.stateStat(
    'Recording of decisions',
    'Whether decisions are recorded, where a journal is configured.',
    'balloon_journal_enabled{@} + balloon_journal_failing{@} + 1',
    [{ name: 'none', color: 'text' }, { name: 'works', color: 'green' }, { name: 'fails', color: 'red' }],
    w=3
  ),
  b.stat(
    'Last decision',
    'Time since the newest decision. Above five periods the loop stands still.',
    's',
    'time() - balloon_control_last_decision_timestamp_seconds{@}',
    w=4
  ) { options+: { graphMode: 'none' } },
  b.stat('Runs for', 'Time since the daemon started.', 's', 'time() - process_start_time_seconds{@}') { options+: { graphMode: 'none' } },
  b.stat('Version', 'The running version.', 'short', 'balloond_build_info{@}') + b.named
  + { targets: [t { legendFormat: '{{version}}' } for t in super.targets] },
  b.timeseries(
    'Late',
    'How long after the moment it was due a round of control began. Above 50 ms the host has no CPU time for the daemon.',
    's',
    quantiles('balloon_control_loop_lateness_seconds')
  ),
  b.timeseries(
    'A round of control takes',
    'Sampling, deciding and moving. It must stay far below the period (control.period).',
    's',
    quantiles('balloon_control_loop_duration_seconds')
  ),
  b.timeseries(
    'Rounds of control',
    'A second; more than one a period when something urgent comes between. Those that fail could not sample the host.',
    'ops',
    [
      query('rate(balloon_control_loop_duration_seconds_count{@}[$__rate_interval])', 'rounds'),
      query('rate(balloon_failed_ticks_total{@}[$__rate_interval])', 'failed'),
    ]
  ),
  b.timeseries(
    'Decisions by what bound them',
    'Decisions for one guest, by the constraint that bound its target.',
    'ops',
    [query('rate(balloon_decisions_total{@}[$__rate_interval]) > 0', '{{reason}}')]
  ) + b.stacked,
  b.timeseries(
    'Targets changed',
    'A second; reversals are changes against the last one of the same guest within a minute.',
    'ops',
    [
      query('rate(balloon_moves_total{@}[$__rate_interval])', '{{direction}}'),
      query('rate(balloon_reversals_total{@}[$__rate_interval])', 'reversals'),
    ]
  ),
  b.timeseries(
    'Guests that cannot be controlled',
    'Stuck: balloons that free nothing. Without statistics: none that can be judged by. Contested: somebody else moves the balloon.',
    'short',
    [
      query('balloon_guests{@,state="stuck"}', 'stuck'),
      query('balloon_guests{@,state="stale"}', 'stale'),
      query('balloon_guests{@,state="disconnected"}', 'disconnected'),
      query('balloon_guests_blind{@}', 'without statistics'),
      query('balloon_guests_contested{@}', 'contested'),
    ]
  ),
  b.timeseries(
    'Statistics: age',
    'Of the newest statistics of each guest.',
    's',
    [query('time() - balloon_guest_stats_timestamp_seconds{@}', '{{guest}}')]
  ) + b.links([b.guestOfLegendLink]),
  b.timeseries(
    'What kept targets from being other',
    'Decisions for one guest, by what would have changed their target.',
    'ops',
    [query('rate(balloon_decisions_blocked_total{@}[$__rate_interval]) > 0', '{{by}}')]
  ) + b.stacked,
  b.row('Backends'),
  b.stateTimeline(
    'Backends: reached',
    'Whether all that is configured of a backend can be reached.',
    query('balloon_backend_up{@} + 1', '{{backend}}'),
    [{ name: 'not reached', color: 'red' }, { name: 'reached', color: 'green' }]
  ),
  b.timeseries(
    'Connections',
    'Guest links, QMP sockets, libvirt daemons.',
    'short',
    [query('balloon_backend_connections{@}', '{{backend}} {{state}}')]
  ),
  b.timeseries(
    'Errors of backends',
    'Connections that failed or spoke nonsense, and requests that were refused.',
    'ops',
    [query('rate(balloon_backend_errors_total{@}[$__rate_interval])', '{{backend}} {{reason}}')]
  ),
  b.timeseries(
    'Answers of backends: 99 % below',
    'From asking to the answer; for statistics, the round trip of guests. Near the statistics interval a guest has no CPU time.',
    's',
    [query(quantile(0.99, 'balloon_backend_request_duration_seconds', ', backend, request'), '{{backend}} {{request}}')]
  ),
  b.timeseries(
    'Guests by backend',
    'Guests whose hypervisor is connected.',
    'short',
    [query('balloon_backend_guests{@}', '{{backend}}')]
  ),
  b.timeseries(
    'Asked for fresh statistics',
    'Times a second that guests were asked out of turn, because the host was short of memory.',
    'ops',
    [query('rate(balloon_fresh_stats_requests_total{@}[$__rate_interval])', 'asked')]
  ),
  b.row('Calls (gRPC)'),
  b.timeseries(
    'Calls by method',
    'Calls that ended, a second.',
    'ops',
    [query('sum by (grpc_method) (rate(grpc_server_handled_total{@}[$__rate_interval])) > 0', '{{grpc_method}}')],
    w=8
  ),
  b.timeseries(
    'Calls that failed',
    'By what they ended with.',
    'ops',
    [query('sum by (grpc_method, grpc_code) (rate(grpc_server_handled_total{@,grpc_code!="OK"}[$__rate_interval]))', '{{grpc_method}} {{grpc_code}}')],
    w=8
  ),
  b.timeseries(
    'Calls: 99 % below',
    'How long unary calls took. Reserve waits for its memory.',
    's',
    [query(quantile(0.99, 'grpc_server_handling_seconds', ', grpc_method'), '{{grpc_method}}')],
    w=8
  ),
  b.row('Journal and log'),
  b.timeseries(
    'Decisions recorded',
    'Lost: they could not be written, or not in time.',
    'ops',
    [
      query('rate(balloon_journal_decisions_total{@}[$__rate_interval])', 'recorded'),
      query('rate(balloon_journal_lost_decisions_total{@}[$__rate_interval])', 'lost'),
    ],
    w=8
  ),
  b.timeseries('Written to recordings', 'Bytes a second.', 'binBps', [query('rate(balloon_journal_written_bytes_total{@}[$__rate_interval])', 'written')], w=8),
  b.timeseries(
    'Lines missing in the log',
    'Standard error did not take them, or their source wrote too many.',
    'short',
    [query('increase(balloon_log_lost_lines_total{@}[$__rate_interval])', '{{reason}}')],
    w=8
  ),
  b.row('The process'),
  b.timeseries('CPU', 'Part of one CPU that the daemon takes.', 'percentunit', [query('rate(process_cpu_seconds_total{@}[$__rate_interval])', 'CPU')], w=8),
  b.timeseries('Memory', "The daemon's own.", 'bytes', [query('process_resident_memory_bytes{@}', 'resident')], w=8),
  b.timeseries(
    'File descriptors',
    'Open ones, and how many there may be.',
    'short',
    [query('process_open_fds{@}', 'open'), query('process_max_fds{@}', 'at most')],
    w=8
  ),
])
