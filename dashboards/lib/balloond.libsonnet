// SPDX-License-Identifier: Apache-2.0
// What the dashboards share: variables, links, panels of each kind, and how panels flow into Grafana's grid.
// In a query `@` stands for the labels that the dashboard's variables choose: balloon_guests{@,state="stuck"}.
local datasource = { type: 'prometheus', uid: '${datasource}' };

// The variables, each chosen among what the ones before it leave.
local variable(name, label, query, all=false) = {
  name: name,
  label: label,
  type: 'query',
  datasource: datasource,
  query: { query: query, refId: name },
  definition: query,
  refresh: 2,  // with the time range: hosts and guests come and go
  sort: 7,  // web-2 before web-10
  multi: all,
  includeAll: all,
  [if all then 'allValue']: '.+',
  [if all then 'current']: { text: 'All', value: '$__all' },
};
local datasourceVariable = { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus' };
local job = variable('job', 'Job', 'label_values(balloond_build_info, job)');
local instance(all) = variable('instance', 'Host', 'label_values(balloond_build_info{job="$job"}, instance)', all);
local guest = variable(
  'guest', 'Guest', 'label_values(balloon_guest_info{job="$job",instance="$instance"}, guest)'
);

local hostDashboard = '/d/balloond-host/balloond-host?${datasource:queryparam}&${job:queryparam}&${__url_time_range}';
local guestDashboard = '/d/balloond-guest/balloond-guest?${datasource:queryparam}&${job:queryparam}&${__url_time_range}';

local target(query, index) = {
  refId: std.char(std.codepoint('A') + index),
  datasource: datasource,
  editorMode: 'code',
  expr: query.expr,
  legendFormat: query.legend,
  instant: query.instant,
  range: !query.instant,
  [if query.instant then 'format']: 'table',
};

local panel(type, title, description, unit, queries, w, h) = {
  type: type,
  title: title,
  description: description,
  datasource: datasource,
  w:: w,
  h:: h,
  targets: std.mapWithIndex(function(i, query) target(query, i), queries),
  fieldConfig: { defaults: { unit: unit }, overrides: [] },
};

local leastAxis = { short: 1, ops: 1, percentunit: 0.05, bytes: 1048576, binBps: 1048576 };

local mapping(states) = [{
  type: 'value',
  options: {
    [std.toString(i + 1)]: { index: i, text: states[i].name, color: states[i].color }
    for i in std.range(0, std.length(states) - 1)
  },
}];

{
  // Where @ points to: hosts of the fleet that are chosen, one host, one guest.
  fleet:: 'job="$job",instance=~"$instance"',
  host:: 'job="$job",instance="$instance"',
  guest:: 'job="$job",instance="$instance",guest="$guest"',

  hostLink:: { title: 'Open host', url: hostDashboard + '&var-instance=${__data.fields.instance}' },
  guestLink:: {
    title: 'Open guest',
    url: guestDashboard + '&var-instance=${__data.fields.instance}&var-guest=${__data.fields.guest}',
  },
  guestOfHostLink:: {
    title: 'Open guest',
    url: guestDashboard + '&${instance:queryparam}&var-guest=${__data.fields.guest}',
  },
  guestOfLegendLink:: {
    title: 'Open guest',
    url: guestDashboard + '&${instance:queryparam}&var-guest=${__field.labels.guest}',
  },

  query(expr, legend=''):: { expr: expr, legend: legend, instant: false },

  // States are families with one series a state, 1 for the one that holds. As one number, mildest first.
  hostStates:: [
    { name: 'normal', color: 'green' },
    { name: 'tight', color: 'yellow' },
    { name: 'critical', color: 'orange' },
    { name: 'emergency', color: 'red' },
    { name: 'infeasible', color: 'purple' },
  ],
  guestStates:: [
    { name: 'controlled', color: 'green' },
    { name: 'booting', color: 'blue' },
    { name: 'pinned', color: 'purple' },
    { name: 'paused', color: 'light-blue' },
    { name: 'left_alone', color: 'light-purple' },
    { name: 'blind', color: 'light-yellow' },
    { name: 'stale', color: 'yellow' },
    { name: 'contested', color: 'dark-yellow' },
    { name: 'stuck', color: 'orange' },
    { name: 'disconnected', color: 'red' },
  ],
  stateNumber(metric, by, states)::
    'sum by (%s) (%s)' % [by, std.join(' or ', [
      '%d * %s{@,state="%s"}' % [i + 1, metric, states[i].name]
      for i in std.range(0, std.length(states) - 1)
    ])],

  // Panels. `unit` is Grafana's: bytes and binBps are binary, percentunit is of 1.
  timeseries(title, description, unit, queries, w=12, h=8)::
    panel('timeseries', title, description, unit, queries, w, h) {
      fieldConfig+: { defaults+: {
        min: 0,
        custom: { drawStyle: 'line', lineWidth: 1, fillOpacity: 0, showPoints: 'never', spanNulls: false } +
                // So that next to nothing looks like it, and nothing has an axis with words that mean something.
                if std.objectHas(leastAxis, unit) then { axisSoftMax: leastAxis[unit] } else {},
      } },
      options: {
        legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
        tooltip: { mode: 'multi', sort: 'desc' },
      },
    },
  stacked:: {
    fieldConfig+: { defaults+: { custom+: { fillOpacity: 40, stacking: { mode: 'normal', group: 'A' } } } },
  },
  negative:: { fieldConfig+: { defaults+: { min:: null } } },
  links(links):: { fieldConfig+: { defaults+: { links: links } } },
  // One series of a panel looks other than the rest, by its legend.
  look(series, properties):: {
    fieldConfig+: { overrides+: [{
      matcher: { id: 'byName', options: series },
      properties: [{ id: id, value: properties[id] } for id in std.objectFields(properties)],
    }] },
  },
  line(series, color, dashed=false):: self.look(series, {
    color: { mode: 'fixed', fixedColor: color },
    'custom.fillOpacity': 0,
    'custom.lineWidth': 2,
    'custom.stacking': { mode: 'none', group: 'A' },
    [if dashed then 'custom.lineStyle']: { fill: 'dash', dash: [10, 10] },
  }),

  stat(title, description, unit, expr, thresholds=[], w=4, h=4)::
    panel('stat', title, description, unit, [self.query(expr)], w, h) {
      fieldConfig+: { defaults+: { thresholds: {
        mode: 'absolute',
        steps: [{ value: null, color: 'green' }] + thresholds,
      } } },
      options: {
        colorMode: 'value',
        graphMode: 'area',
        justifyMode: 'auto',
        textMode: 'value',
        reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      },
    },
  named:: { options+: { textMode: 'name', graphMode: 'none' } },
  // 1 is bad news, 0 is none.
  alarm(title, description, expr, good, bad, w=4, h=4)::
    self.stat(title, description, 'short', expr, [{ value: 1, color: 'red' }], w, h) {
      fieldConfig+: { defaults+: { mappings: [
        { type: 'value', options: { '0': { index: 0, text: good, color: 'green' }, '1': { index: 1, text: bad, color: 'red' } } },
      ] } },
      options+: { graphMode: 'none' },
    },
  stateStat(title, description, expr, states, w=4, h=4)::
    self.stat(title, description, 'short', expr, [], w, h) {
      fieldConfig+: { defaults+: { mappings: mapping(states) } },
      options+: { graphMode: 'none' },
    },
  stateTimeline(title, description, query, states, w=12, h=8)::
    panel('state-timeline', title, description, 'short', [query], w, h) {
      fieldConfig+: { defaults+: { mappings: mapping(states), custom: { fillOpacity: 80, lineWidth: 0 } } },
      options: {
        mergeValues: true,
        showValue: 'auto',
        alignValue: 'left',
        rowHeight: 0.9,
        legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
        tooltip: { mode: 'single', sort: 'none' },
      },
    },

  // Columns: {title, expr, unit, states?}. Rows are what `keys`, labels all of them, have in common.
  table(title, description, keys, columns, link, w=24, h=8)::
    panel('table', title, description, 'bytes', [
      { expr: column.expr, legend: '', instant: true }
      for column in columns
    ], w, h) {
      fieldConfig+: { overrides: [
        {
          matcher: { id: 'byName', options: column.title },
          properties: [{ id: 'unit', value: column.unit }] +
                      (if std.objectHas(column, 'states') then [
                         { id: 'mappings', value: mapping(column.states) },
                         { id: 'custom.cellOptions', value: { type: 'color-text' } },
                       ] else []),
        }
        for column in columns
      ] + [
        { matcher: { id: 'byName', options: key }, properties: [{ id: 'links', value: [link] }] }
        for key in keys
      ] },
      transformations: [
        { id: 'merge', options: {} },
        { id: 'organize', options: {
          excludeByName: { Time: true, job: true, __name__: true },
          indexByName: { [keys[i]]: i for i in std.range(0, std.length(keys) - 1) } + {
            ['Value #' + std.char(std.codepoint('A') + i)]: std.length(keys) + i
            for i in std.range(0, std.length(columns) - 1)
          },
          renameByName: {
            ['Value #' + std.char(std.codepoint('A') + i)]: columns[i].title
            for i in std.range(0, std.length(columns) - 1)
          },
        } },
      ],
      options: { showHeader: true, cellHeight: 'sm' },
    },

  row(title):: { type: 'row', title: title, collapsed: false, panels: [], w:: 24, h:: 1 },

  annotation(name, color, expr, text):: {
    name: name,
    datasource: datasource,
    enable: true,
    hide: false,
    iconColor: color,
    expr: expr,
    step: '60s',
    titleFormat: text,
    tagKeys: '',
    textFormat: '',
    useValueForTime: false,
  },

  dashboard(name, title, description, selector, panels, annotations=[])::
    local fill(text) = std.strReplace(text, '@', selector);
    // Left to right as long as there is room; a panel that has none begins below all that stand. [x, y, bottom] of
    // what is free, and panels: arrays, since an object's fields are made anew each time that they are read.
    local here(free, width) = if free[0] + width <= 24 then free else [0, free[2], free[2]];
    local placed = std.foldl(
      function(done, panel)
        local at = here(done[0], panel.w);
        [
          [at[0] + panel.w, at[1], std.max(at[2], at[1] + panel.h)],
          done[1] + [panel {
            id: std.length(done[1]) + 1,
            gridPos: { x: at[0], y: at[1], w: panel.w, h: panel.h },
            [if std.objectHas(panel, 'targets') then 'targets']: [t { expr: fill(t.expr) } for t in panel.targets],
          }],
        ],
      panels,
      [[0, 0, 0], []]
    );
    {
      id: null,
      uid: 'balloond-' + name,
      title: 'balloond / ' + title,
      description: description,
      tags: ['balloond'],
      schemaVersion: 39,  // Grafana 10.4 and later read it; older ones ignore what they do not know
      version: 1,
      editable: true,
      graphTooltip: 1,  // one crosshair over all panels
      timezone: 'browser',
      refresh: '30s',
      time: { from: 'now-3h', to: 'now' },
      links: [{
        type: 'dashboards',
        title: 'balloond',
        tags: ['balloond'],
        asDropdown: false,
        includeVars: true,
        keepTime: true,
        icon: 'external link',
        targetBlank: false,
        tooltip: '',
        url: '',
      }],
      templating: { list: [datasourceVariable, job] + (
        if selector == $.fleet then [instance(true)]
        else if selector == $.host then [instance(false)]
        else [instance(false), guest]
      ) },
      annotations: { list: [a { expr: fill(a.expr) } for a in annotations] },
      panels: placed[1],
    },
}
