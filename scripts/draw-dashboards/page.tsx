// SPDX-License-Identifier: Apache-2.0
// One dashboard on one page, its panels drawn by Grafana's own components (@grafana/ui) from what Prometheus answered.
import {
  type DataFrame, type Field, FieldType, type GrafanaTheme2, ThemeContext, createDataFrame, createTheme, dateTime,
  getDisplayProcessor, standardFieldConfigEditorRegistry,
} from '@grafana/data';
import {
  BigValue, BigValueColorMode, BigValueGraphMode, BigValueJustifyMode, BigValueTextMode, GlobalStyles, LegendDisplayMode, PanelChrome,
  TimeSeries, TooltipDisplayMode, VizLegend,
} from '@grafana/ui';
import React from 'react';
import 'uplot/dist/uPlot.min.css';
import { createRoot } from 'react-dom/client';

type Labels = Record<string, string>;
interface Series { legend: string; labels: Labels; values: Array<[number, string]> }
interface Answer { refId: string; instant: boolean; series: Series[] }
interface Drawn { panel: any; answers: Answer[] }
interface Mark { at: number; color: string }
interface Page { title: string; width: number; from: number; to: number; drawn: Drawn[]; annotations: Mark[]; links: string[] }

declare global { interface Window { page: Page; problems: string[] } }

standardFieldConfigEditorRegistry.setInit(() => []);
const theme: GrafanaTheme2 = createTheme({ colors: { mode: 'dark' } });
const page = window.page;
window.problems = [];
// Its last mark would be cut off at the edge.
const range = { from: dateTime(page.from * 1000), to: dateTime(page.to * 1000 - 1), raw: { from: 'now-24h', to: 'now' } };

/// Grafana keeps `custom.lineWidth` of an override as config.custom.lineWidth.
function put(config: any, path: string, value: unknown) {
  const words = path.split('.');
  let at = config;
  for (const word of words.slice(0, -1)) at = at[word] = { ...(at[word] ?? {}) };
  at[words[words.length - 1]] = value;
}

function configOf(panel: any, name: string) {
  const config = structuredClone(panel.fieldConfig.defaults);
  config.color ??= { mode: 'palette-classic' };
  config.thresholds ??= { mode: 'absolute', steps: [{ value: -Infinity, color: 'green' }] };
  config.thresholds.steps = config.thresholds.steps.map((step: any) => ({ ...step, value: step.value ?? -Infinity }));
  for (const override of panel.fieldConfig.overrides) {
    if (override.matcher.id === 'byName' && override.matcher.options === name) {
      for (const property of override.properties) put(config, property.id, property.value);
    }
  }
  delete config.links;
  return config;
}

const shown = (field: Field) => { field.display = getDisplayProcessor({ field, theme }); return field; };

function frames(drawn: Drawn): DataFrame[] {
  let index = 0;
  return drawn.answers.flatMap((answer) => answer.series.map((series) => {
    const config = { ...configOf(drawn.panel, series.legend), displayNameFromDS: series.legend };
    const frame = createDataFrame({ refId: answer.refId, fields: [
      { name: 'Time', type: FieldType.time, config: {}, values: series.values.map(([at]) => at * 1000) },
      { name: 'Value', type: FieldType.number, labels: series.labels, config, values: series.values.map(([, value]) => (value === 'NaN' ? null : Number(value))) },
    ] });
    frame.fields.forEach((field) => { field.state = { seriesIndex: index }; shown(field); });
    ++index;
    return frame;
  }));
}

function Nothing({ title }: { title: string }) {
  window.problems.push(`${title}: No data`);
  return <div style={{ color: theme.colors.error.text, padding: 12 }}>No data</div>;
}

/// A dashed line and a triangle at its foot, as Grafana's own (a plugin of its server) has them.
function mark(plot: any) {
  const { ctx, bbox } = plot;
  ctx.save();
  for (const { at, color } of page.annotations) {
    const x = Math.round(plot.valToPos(at * 1000, 'x', true)), foot = bbox.top + bbox.height;
    ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
    ctx.setLineDash([4, 4]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, foot);
    ctx.stroke();
    ctx.beginPath();
    ctx.moveTo(x, foot);
    ctx.lineTo(x - 5, foot + 7);
    ctx.lineTo(x + 5, foot + 7);
    ctx.fill();
  }
  ctx.restore();
}

function Graph({ drawn, width, height }: { drawn: Drawn; width: number; height: number }) {
  const data = frames(drawn);
  if (data.length === 0) return <Nothing title={drawn.panel.title} />;
  return (
    <TimeSeries frames={data} width={width} height={height} timeRange={range} timeZone="utc"
      legend={{ displayMode: LegendDisplayMode.List, placement: 'bottom', showLegend: true, calcs: [] }}
      options={{ tooltip: { mode: TooltipDisplayMode.None } } as any}>
      {(config: any) => {
        config.addHook('draw', mark);
        return null;
      }}
    </TimeSeries>
  );
}

function Stat({ drawn, width, height }: { drawn: Drawn; width: number; height: number }) {
  const data = frames(drawn);
  const field = data[0]?.fields[1];
  if (!field || field.values.length === 0) return <Nothing title={drawn.panel.title} />;
  field.config.color = { mode: 'thresholds' };
  shown(field);
  const last = field.values[field.values.length - 1];
  const options = drawn.panel.options;
  const value = options.textMode === 'name' ? { numeric: last, text: field.config.displayNameFromDS ?? '', color: theme.colors.text.primary } : field.display!(last);
  return (
    <BigValue width={width} height={height} value={value} theme={theme} colorMode={BigValueColorMode.Value}
      graphMode={BigValueGraphMode.None} justifyMode={BigValueJustifyMode.Auto} textMode={BigValueTextMode.Value} />
  );
}

/// State timelines are a plugin of Grafana's server, and not in @grafana/ui: rows of rectangles in its colours.
function States({ drawn, width, height }: { drawn: Drawn; width: number; height: number }) {
  const data = frames(drawn);
  if (data.length === 0) return <Nothing title={drawn.panel.title} />;
  const left = 110, legend = 26, axis = 18, most = height - legend - axis;
  const row = most / data.length;
  const x = (at: number) => left + (width - left) * (at / 1000 - page.from) / (page.to - page.from);
  const hours = Array.from({ length: 9 }, (_, i) => page.from + i * (page.to - page.from) / 8);
  const states = Object.values(drawn.panel.fieldConfig.defaults.mappings[0].options) as Array<{ text: string; color: string }>;
  return (
    <>
      <svg width={width} height={height - legend} fontFamily="Inter, sans-serif" fontSize={12}>
        {data.map((frame, i) => {
          const [time, value] = frame.fields;
          const pieces: Array<{ from: number; to: number; value: number }> = [];
          time.values.forEach((at: number, k: number) => {
            const open = pieces[pieces.length - 1];
            if (open) open.to = at;
            if (!open || open.value !== value.values[k]) pieces.push({ from: at, to: at, value: value.values[k] });
          });
          return (
            <g key={i}>
              <text x={left - 8} y={row * (i + 0.5) + 4} textAnchor="end" fill={theme.colors.text.primary}>{value.config.displayNameFromDS}</text>
              {pieces.filter((piece) => piece.value !== null).map((piece, k) => {
                const shownAs = value.display!(piece.value);
                const wide = Math.max(1, x(piece.to) - x(piece.from));
                return (
                  <g key={k}>
                    <rect x={x(piece.from)} y={row * i + row * 0.05} width={wide} height={row * 0.9} fill={shownAs.color} fillOpacity={0.8} />
                    {wide > 70 && row > 14 && <text x={x(piece.from) + 6} y={row * (i + 0.5) + 4} fill="#111217">{shownAs.text}</text>}
                  </g>
                );
              })}
            </g>
          );
        })}
        {hours.map((at) => (
          <text key={at} x={Math.min(x(at * 1000), width - 18)} y={height - legend - 4} textAnchor="middle" fill={theme.colors.text.secondary}>
            {new Date(at * 1000).toISOString().slice(11, 16)}
          </text>
        ))}
      </svg>
      <VizLegend displayMode={LegendDisplayMode.List} placement="bottom"
        items={states.map((state) => ({ label: state.text, color: theme.visualization.getColorByName(state.color), yAxis: 1 }))} />
    </>
  );
}

/// As the transformations "merge" and "organize" would make it; Grafana's table is a plugin, too.
function Rows({ drawn, height }: { drawn: Drawn; width: number; height: number }) {
  const organize = drawn.panel.transformations[1].options;
  const keys = Object.keys(organize.indexByName).filter((name) => !name.startsWith('Value #')).sort((a, b) => organize.indexByName[a] - organize.indexByName[b]);
  const columns = drawn.answers.map((answer) => ({ refId: answer.refId, title: organize.renameByName[`Value #${answer.refId}`] as string }));
  const rows = new Map<string, { labels: Labels; cells: Record<string, number> }>();
  for (const answer of drawn.answers) {
    for (const series of answer.series) {
      const id = keys.map((key) => series.labels[key]).join('\n');
      const row = rows.get(id) ?? { labels: series.labels, cells: {} };
      row.cells[answer.refId] = Number(series.values[series.values.length - 1][1]);
      rows.set(id, row);
    }
  }
  if (rows.size === 0 && !drawn.panel.mayBeEmpty) return <Nothing title={drawn.panel.title} />;
  const cell = { padding: '5px 10px', borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: 'nowrap' as const };
  return (
    <div style={{ height, overflow: 'hidden', font: '13px Inter, sans-serif' }}>
      <table style={{ width: '100%', borderCollapse: 'collapse' }}>
        <thead><tr>
          {[...keys, ...columns.map((column) => column.title)].map((title) => (
            <th key={title} style={{ ...cell, textAlign: keys.includes(title) ? 'left' : 'right', color: theme.colors.text.secondary, fontWeight: 500 }}>{title}</th>
          ))}
        </tr></thead>
        <tbody>
          {[...rows.values()].sort((a, b) => keys.map((key) => a.labels[key] ?? '').join().localeCompare(keys.map((key) => b.labels[key] ?? '').join())).map((row, i) => (
            <tr key={i}>
              {keys.map((key) => <td key={key} style={{ ...cell, color: key === 'guest' || key === 'instance' ? theme.colors.text.link : undefined }}>{row.labels[key]}</td>)}
              {columns.map(({ refId, title }) => {
                const field = shown({ name: title, type: FieldType.number, config: configOf(drawn.panel, title), values: [] });
                if (row.cells[refId] === undefined) return <td key={refId} style={cell} />;
                const value = field.display!(row.cells[refId]);
                return <td key={refId} style={{ ...cell, textAlign: 'right', color: field.config.mappings ? value.color : undefined }}>{value.text}{value.suffix}</td>;
              })}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

const kinds: Record<string, React.ComponentType<{ drawn: Drawn; width: number; height: number }>> = {
  timeseries: Graph, stat: Stat, 'state-timeline': States, table: Rows,
};

function Dashboard() {
  const unit = 38, gap = 8, column = (page.width - 2 * gap) / 24;
  const bottom = Math.max(...page.drawn.map(({ panel }) => panel.gridPos.y + panel.gridPos.h));
  return (
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <div style={{ position: 'relative', width: page.width, height: 48 + bottom * unit, background: theme.colors.background.canvas }}>
        <div style={{ position: 'absolute', left: 14, top: 12, font: '500 18px Inter, sans-serif', color: theme.colors.text.primary }}>{page.title}</div>
        <div style={{ position: 'absolute', right: 18, top: 14, font: '14px Inter, sans-serif', color: theme.colors.text.link }}>
          {page.links.map((title) => `☰ ${title} ▾`).join('   ')}
        </div>
        {page.drawn.map((drawn) => {
          const { panel } = drawn;
          const place = panel.gridPos;
          const box = { left: gap + place.x * column, top: 44 + place.y * unit, width: place.w * column - gap, height: place.h * unit - gap };
          const Kind = kinds[panel.type];
          return (
            <div key={panel.id} style={{ position: 'absolute', ...box }}>
              {panel.type === 'row' ? <div style={{ font: '500 16px Inter, sans-serif', padding: 4, color: theme.colors.text.primary }}>{panel.title}</div> : (
                <PanelChrome title={panel.title} width={box.width} height={box.height}>
                  {(width: number, height: number) => <Kind drawn={drawn} width={width} height={height} />}
                </PanelChrome>
              )}
            </div>
          );
        })}
      </div>
    </ThemeContext.Provider>
  );
}

window.addEventListener('error', (event) => window.problems.push(String(event.message)));
createRoot(document.getElementById('root')!).render(<Dashboard />);
setTimeout(() => { document.title = JSON.stringify(window.problems); }, 3000);
