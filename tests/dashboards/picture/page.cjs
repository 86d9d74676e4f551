// The page of a dashboard, as HTML and SVG: Grafana's grid, and a look close to its dark theme.

'use strict';

const echarts = require('echarts');
const { format } = require('./units.cjs');

const WIDTH = 1600;
const MARGIN = 16;
const TOP = 92;
const NOTE = 34;
const COLUMN = (WIDTH - 2 * MARGIN + 8) / 24;
const ROW = 38;
const GAP = 8;

const PALETTE = [
  '#73bf69', '#f2cc0c', '#8ab8ff', '#ff780a', '#f2495c', '#5794f2', '#b877d9', '#9a8bd0', '#37872d', '#fade2a',
  '#447ebc', '#c15c17', '#e02f44', '#1f60c4', '#8f3bb8',
];
const COLORS = { text: '#ccccdc', green: '#73bf69', orange: '#ff9830', red: '#f2495c', blue: '#5794f2' };

const STYLE = `
  * { box-sizing: border-box; }
  body { margin: 0; background: #111217; color: #ccccdc; font: 14px Inter, "Inter Variable", Roboto, sans-serif; }
  .bar { position: absolute; left: ${MARGIN}px; display: flex; gap: 8px; align-items: center; white-space: nowrap; }
  .title { font-size: 18px; font-weight: 500; }
  .variable { display: flex; border: 1px solid #34353b; border-radius: 2px; height: 30px; line-height: 28px; }
  .variable b { padding: 0 8px; background: #181b1f; font-weight: 500; font-size: 12px; }
  .variable span { padding: 0 10px; background: #111217; color: #ccccdc; font-size: 13px; }
  .range { position: absolute; right: ${MARGIN}px; color: #9fa0ac; font-size: 13px; }
  .panel { position: absolute; background: #181b1f; border: 1px solid #25272c; border-radius: 2px; overflow: hidden; }
  .row { position: absolute; font-size: 16px; font-weight: 500; line-height: 30px; }
  .row::before { content: "⌄"; display: inline-block; width: 20px; transform: translateY(-3px); color: #9fa0ac; }
  h2 { margin: 0; padding: 7px 10px 0; font-size: 14px; font-weight: 500; height: 30px; white-space: nowrap; }
  h2 i { font: italic 600 10px serif; border: 1px solid #6e6f78; color: #9fa0ac; border-radius: 50%; padding: 0 4.5px;
    margin-left: 7px; vertical-align: 1px; }
  .number { position: absolute; inset: 30px 0 8px; display: flex; align-items: center; justify-content: center;
    font-weight: 500; letter-spacing: -0.5px; }
  .none { position: absolute; inset: 30px 0 0; display: flex; align-items: center; justify-content: center;
    color: #9fa0ac; }
  table { border-collapse: collapse; table-layout: fixed; width: 100%; font-size: 13px; }
  .grid td, .grid th { height: 36px; padding: 0 8px; border-right: 1px solid #25272c; border-bottom: 1px solid #25272c;
    overflow: hidden; text-overflow: ellipsis; white-space: nowrap; text-align: left; font-weight: 400; }
  .grid th { color: #6e9fff; font-weight: 500; }
  .grid .value { text-align: right; }
  .grid a { color: #6e9fff; }
  .gauge { display: flex; align-items: center; gap: 8px; }
  .gauge div { flex: 1; height: 22px; background: #22252b; }
  .gauge div div { height: 100%; }
  .gauge span { width: 52px; text-align: right; font-weight: 500; }
  .legend { position: absolute; left: 10px; right: 10px; bottom: 4px; overflow: hidden; }
  .legend table { font-size: 12px; }
  .legend td, .legend th { height: 22px; padding: 0 8px 0 0; text-align: right; overflow: hidden; text-overflow: ellipsis;
    white-space: nowrap; font-weight: 400; border-bottom: 1px solid #25272c; }
  .legend th { color: #6e9fff; }
  .legend td:first-child, .legend th:first-child { text-align: left; }
  .legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 8px; vertical-align: 3px; }
  .note { position: absolute; right: ${MARGIN}px; bottom: 10px; font-size: 12px; color: #8e8f9b; }
`;

function escape(text) {
  const entities = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' };
  return String(text).replace(/[&<>"]/g, (letter) => entities[letter]);
}

/** Returns the colour of a value, by the thresholds of its field. */
function color(value, { steps }) {
  const reached = steps.filter((step) => step.value === null || value >= step.value);
  const name = reached.at(-1).color;
  return COLORS[name] ?? name;
}

/** Returns the place of a panel in pixels. */
function box({ gridPos: { x, y, w, h } }) {
  return { left: MARGIN + x * COLUMN, top: TOP + y * ROW, width: w * COLUMN - GAP, height: h * ROW - GAP };
}

function stat({ result, fieldConfig: { defaults } }, { width, height }) {
  if (result.length === 0) return '<div class="none">No data</div>';
  const { value } = result[0];
  const text = format(value, defaults.unit);
  const pixels = Math.min(height * 0.36, (width - 20) / (text.length * 0.58));
  const style = `font-size: ${pixels.toFixed(0)}px; color: ${color(value, defaults.thresholds)}`;
  return `<div class="number" style="${style}">${escape(text)}</div>`;
}

/** Returns the distance of about four lines of the grid, a round number in the unit. */
function step(largest, unit) {
  const wanted = (largest || 1) / 4;
  if (unit === 'bytes') return 2 ** Math.ceil(Math.log2(wanted));
  const factor = 10 ** Math.floor(Math.log10(wanted));
  return [1, 2, 2.5, 5, 10].find((times) => times * factor >= wanted * 0.999) * factor;
}

/** Returns a number of an axis without zeros at its end. */
function short(text) {
  return text.replace(/(\.\d*?)0+(?!\d)/, '$1').replace(/\.(?!\d)/, '');
}

/** Returns the largest value that is drawn. */
function largestOf(result, stacked) {
  const sums = new Map();
  for (const { points } of result) {
    for (const [time, value] of points) {
      sums.set(time, stacked ? (sums.get(time) ?? 0) + value : Math.max(sums.get(time) ?? 0, value));
    }
  }
  return Math.max(...sums.values());
}

/** Returns lines over time, with a point for each step: a gap where a query returned nothing. */
function chart({ result, fieldConfig: { defaults } }, { width, height }, { from, to }) {
  const { unit, custom, thresholds } = defaults;
  const stacked = custom.stacking.mode === 'normal';
  const times = [...new Set(result.flatMap(({ points }) => points.map(([time]) => time)))].sort((one, other) => one - other);
  const largest = largestOf(result, stacked);
  const interval = step(largest, unit);
  const marked = custom.thresholdsStyle.mode === 'off' ? [] : thresholds.steps.filter(({ value }) => value !== null);
  const plot = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  plot.setOption({
    animation: false,
    color: PALETTE,
    textStyle: { fontFamily: 'Inter, Roboto, sans-serif' },
    grid: { left: 8, right: 14, top: 10, bottom: 2, containLabel: true },
    xAxis: {
      type: 'time',
      min: from,
      max: to,
      splitNumber: 4,
      axisLine: { show: false },
      axisTick: { show: false },
      axisLabel: { color: '#9fa0ac', fontSize: 11.5, hideOverlap: true, formatter: '{HH}:{mm}' },
      splitLine: { show: true, lineStyle: { color: '#24262c' } },
    },
    yAxis: {
      type: 'value',
      min: defaults.min,
      max: Math.max(Math.ceil((largest / interval) * 0.999), 1) * interval,
      interval,
      axisLabel: { color: '#9fa0ac', fontSize: 11.5, formatter: (value) => short(format(value, unit)) },
      splitLine: { lineStyle: { color: '#24262c' } },
    },
    series: result.map(({ name, points }, index) => {
      const values = new Map(points);
      return {
        type: 'line',
        name: `${index} ${name}`,
        data: times.map((time) => [time, values.get(time) ?? null]),
        showSymbol: false,
        stack: stacked ? 'all' : undefined,
        lineStyle: { width: 1.2 },
        areaStyle: { opacity: custom.fillOpacity / 100 },
        markLine:
          index > 0
            ? undefined
            : {
                symbol: 'none',
                silent: true,
                label: { show: false },
                // Grafana does not stretch the axis for a threshold.
                data: marked
                  .filter(({ value }) => value <= largest)
                  .map((step) => ({
                    yAxis: step.value,
                    lineStyle: { type: 'dashed', color: color(step.value, thresholds) },
                  })),
              },
      };
    }),
  });
  const svg = plot.renderToSVGString();
  plot.dispose();
  return svg;
}

function graph(panel, size, range) {
  const { result, fieldConfig, options } = panel;
  if (result.length === 0) return '<div class="none">No data</div>';
  const { unit } = fieldConfig.defaults;
  const inside = size.height - 34;
  // As high as the legend needs, up to a third.
  const legend = Math.min((result.length + 1) * 23, Math.floor((inside * 0.36) / 23) * 23);
  const calculate = {
    lastNotNull: ['Last *', (numbers) => numbers.at(-1)],
    max: ['Max', (numbers) => Math.max(...numbers)],
  };
  const calcs = options.legend.calcs.map((name) => calculate[name]);
  const { sortBy, sortDesc } = options.legend;
  const head = calcs.map(([title]) => {
    const sorted = title === sortBy ? (sortDesc ? ' ↓' : ' ↑') : '';
    return `<th style="width: 84px">${title}${sorted}</th>`;
  });
  const lines = result.map(({ name, points }, index) => {
    const numbers = points.map(([, value]) => value);
    const mark = `<i style="background: ${PALETTE[index % PALETTE.length]}"></i>`;
    const results = calcs.map(([, of]) => of(numbers));
    return { title: `${mark}${escape(name)}`, results };
  });
  const place = calcs.findIndex(([title]) => title === sortBy);
  if (place >= 0) {
    lines.sort((one, other) => (one.results[place] - other.results[place]) * (sortDesc ? -1 : 1));
  }
  const body = lines.map(({ title, results }) => {
    const cells = results.map((value) => `<td>${format(value, unit)}</td>`);
    return `<tr><td>${title}</td>${cells.join('')}</tr>`;
  });
  const rows = `<tr><th>Name</th>${head.join('')}</tr>${body.join('')}`;
  return (
    chart(panel, { width: size.width, height: inside - legend - 6 }, range) +
    `<div class="legend" style="height: ${legend}px"><table>${rows}</table></div>`
  );
}

/** Returns the properties of a column: those for all, and its own. */
function properties({ fieldConfig: { defaults, overrides } }, title) {
  const own = overrides.filter(({ matcher }) => matcher.options === title).flatMap((override) => override.properties);
  const { custom, ...others } = defaults;
  const all = Object.entries(custom ?? {}).map(([name, value]) => [`custom.${name}`, value]);
  return Object.fromEntries([...all, ...Object.entries(others), ...own.map(({ id, value }) => [id, value])]);
}

function cell(value, field) {
  if (value === undefined) return '<td></td>';
  if (typeof value !== 'number') return `<td>${field.links ? `<a>${escape(value)}</a>` : escape(value)}</td>`;
  const text = format(value, field.unit ?? 'short');
  if (field['custom.cellOptions']?.type === 'gauge') {
    const part = Math.min(Math.max((value - field.min) / (field.max - field.min), 0), 1) * 100;
    const paint = color(value, field.thresholds);
    const style = `width: ${part}%; background: ${paint}66; border-right: ${part > 0 ? 2 : 0}px solid ${paint}`;
    const number = `<span style="color: ${paint}">${text}</span>`;
    return `<td><div class="gauge"><div><div style="${style}"></div></div>${number}</div></td>`;
  }
  return `<td class="value">${text}</td>`;
}

/** Returns a table. Columns without a width share what is left, as in Grafana. */
function grid(panel, { width, height }) {
  const { columns, rows } = panel.result;
  if (rows.length === 0) return '<div class="none">No data</div>';
  const fields = columns.map(({ title }) => properties(panel, title));
  const shown = rows.slice(0, Math.ceil((height - 30) / 36));
  const fixed = fields.map((field) => field['custom.width']);
  const left = width - fixed.reduce((sum, pixels) => sum + (pixels ?? 0), 0);
  const share = left / fixed.filter((pixels) => pixels === undefined).length;
  const widths = fixed.map((pixels, index) => pixels ?? Math.max(share, fields[index]['custom.minWidth'] ?? 150));
  const isValue = columns.map(({ name }) => rows.some((row) => typeof row[name] === 'number'));
  const head = columns.map(({ title }, index) => {
    const place = isValue[index] && !fields[index]['custom.cellOptions'] ? ' class="value"' : '';
    const sorted = panel.options.sortBy?.[0]?.displayName === title ? (panel.options.sortBy[0].desc ? ' ↓' : ' ↑') : '';
    return `<th${place} style="width: ${widths[index]}px">${escape(title)}${sorted}</th>`;
  });
  const body = shown.map((row) => `<tr>${columns.map(({ name }, index) => cell(row[name], fields[index])).join('')}</tr>`);
  const total = widths.reduce((sum, pixels) => sum + pixels, 0);
  return `<table class="grid" style="width: ${total}px"><tr>${head.join('')}</tr>${body.join('')}</table>`;
}

const DRAW = { stat, timeseries: graph, table: grid };

function drawn(panel, range) {
  const { left, top, width, height } = box(panel);
  const place = `left: ${left}px; top: ${top}px; width: ${width}px; height: ${height}px`;
  if (panel.type === 'row') return `<div class="row" style="${place}">${escape(panel.title)}</div>`;
  const inside = DRAW[panel.type](panel, { width: width - 2, height: height - 2 }, range);
  return `<div class="panel" style="${place}"><h2>${escape(panel.title)}<i>i</i></h2>${inside}</div>`;
}

/** Returns the size of the page in pixels. */
function size(panels) {
  return { width: WIDTH, height: Math.max(...panels.map(box).map(({ top, height }) => top + height)) + NOTE };
}

/** Returns the page. */
function page(dashboard, panels, variables, range) {
  const chosen = variables.map(
    ({ label, text }) => `<div class="variable"><b>${escape(label)}</b><span>${escape(text)} ⌄</span></div>`,
  );
  return `<!doctype html><meta charset="utf-8"><style>${STYLE}</style>
    <div class="bar" style="top: 12px"><span class="title">${escape(dashboard.title)}</span></div>
    <div class="range" style="top: 15px">Last ${range.minutes} minutes</div>
    <div class="bar" style="top: 48px">${chosen.join('')}</div>
    ${panels.map((panel) => drawn(panel, range)).join('\n')}
    <div class="note">Rendered from real query results by this repository; not a Grafana screenshot</div>`;
}

module.exports = { page, size };
