// Draws a dashboard from what its queries return:
//
//   node draw.cjs PROMETHEUS_URL DASHBOARD.json OUT.png [--var NAME=VALUE]... [--rows TITLE,TITLE] [--minutes N]
//
// This is not Grafana: it does what the JSON of our dashboards says, in a similar look. See `draw`.

'use strict';

const { execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { parseArgs } = require('node:util');
const { page, size } = require('./page.cjs');
const { table } = require('./tables.cjs');
const { queryResultTexts, variableOptions } = require('../variables.cjs');

/** Seconds between two points of a line. */
const STEP = 5;

/** Grafana's window of rates: four scrapes, of 15 seconds unless the data source says otherwise. */
const RATE_INTERVAL = '1m';

class Prometheus {
  constructor(url, end) {
    this.url = url.replace(/\/$/, '');
    this.end = end;
  }

  async get(api, parameters) {
    const answer = await fetch(`${this.url}/api/v1/${api}`, { method: 'POST', body: new URLSearchParams(parameters) });
    const { status, error, data } = await answer.json();
    if (status !== 'success') throw new Error(`${parameters.query}: ${error}`);
    return data.result;
  }

  now(query) {
    return this.get('query', { query, time: this.end });
  }

  range(query, seconds) {
    return this.get('query_range', { query, start: this.end - seconds, end: this.end, step: STEP });
  }
}

/** Returns a text with the values of variables, which are given by name. */
function substitute(text, values) {
  return text.replace(/\$\{(\w+)\}|\$([a-zA-Z_]\w*)/g, (whole, braced, bare) => {
    const name = braced ?? bare;
    if (!(name in values)) throw new Error(`no value for ${whole}`);
    return values[name];
  });
}

/** Returns the values of variables, and what the dashboard shows for each. */
async function variables(dashboard, prometheus, given, seconds) {
  const values = { __rate_interval: RATE_INTERVAL, __range: `${seconds}s`, __range_s: String(seconds) };
  const shown = [];
  for (const variable of dashboard.templating.list) {
    let option = { text: 'All', value: variable.allValue ?? '.*' };
    if (given[variable.name] !== undefined) {
      option = { text: given[variable.name], value: given[variable.name] };
    } else if (variable.type === 'datasource') {
      option = { text: 'Prometheus', value: 'prometheus' };
    } else if (variable.type === 'textbox') {
      option = { text: variable.query, value: variable.query };
    } else if (!variable.includeAll) {
      const [, query] = /^query_result\((.*)\)$/s.exec(variable.query.query) ?? [];
      if (!query) throw new Error(`$${variable.name} needs a value`);
      const texts = queryResultTexts(await prometheus.now(substitute(query, values)));
      [option] = variableOptions(variable, texts);
      if (!option) throw new Error(`$${variable.name} has no values`);
    }
    values[variable.name] = option.value;
    shown.push({ label: variable.label, text: option.text });
  }
  return { values, shown };
}

/** Returns a panel with what its queries return. */
async function filled(panel, prometheus, values, seconds) {
  const query = ({ expr }) =>
    panel.type === 'timeseries'
      ? prometheus.range(substitute(expr, values), seconds)
      : prometheus.now(substitute(expr, values));
  const results = await Promise.all((panel.targets ?? []).map(query));
  if (panel.type === 'table') return { ...panel, result: table(panel, results) };
  const series = panel.targets?.flatMap(({ legendFormat = '' }, index) =>
    results[index].map(({ metric, value, values: points }) => ({
      name: legendFormat.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => metric[label] ?? ''),
      value: value && Number(value[1]),
      points: points?.map(([time, number]) => [time * 1000, Number(number)]),
    })),
  );
  return { ...panel, result: series };
}

/** Returns the panels of the rows with these titles, moved up to where the others are left out. */
function inRows(panels, titles) {
  const chosen = [];
  let isChosen = true;
  let bottom = 0;
  let up = 0;
  for (const panel of panels) {
    const { y, h } = panel.gridPos;
    if (panel.type === 'row') {
      isChosen = !titles || titles.includes(panel.title);
      up = y - bottom;
    }
    if (!isChosen) continue;
    chosen.push({ ...panel, gridPos: { ...panel.gridPos, y: y - up } });
    bottom = Math.max(bottom, y - up + h);
  }
  return chosen;
}

/** Has Chromium write a picture of a page. */
function photograph(html, { width, height }, out) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboard-'));
  try {
    const file = path.join(folder, 'page.html');
    fs.writeFileSync(file, html);
    execFileSync(
      'chromium',
      [
        '--headless',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        '--hide-scrollbars',
        `--user-data-dir=${folder}/profile`,
        `--window-size=${width},${height}`,
        `--screenshot=${path.resolve(out)}`,
        `file://${file}`,
      ],
      { stdio: ['ignore', 'ignore', 'pipe'], timeout: 120_000 },
    );
  } finally {
    fs.rmSync(folder, { recursive: true, maxRetries: 5, retryDelay: 200 });
  }
}

async function main() {
  const { positionals, values: options } = parseArgs({
    allowPositionals: true,
    options: {
      var: { type: 'string', multiple: true, default: [] },
      rows: { type: 'string' },
      minutes: { type: 'string', default: '10' },
    },
  });
  const [url, file, out] = positionals;
  if (!out) throw new Error('usage: draw PROMETHEUS_URL DASHBOARD.json OUT.png [--var NAME=VALUE]... [--rows TITLE,...]');
  const dashboard = JSON.parse(fs.readFileSync(file, 'utf8'));
  const seconds = Number(options.minutes) * 60;
  const prometheus = new Prometheus(url, Math.floor(Date.now() / 1000));
  const given = Object.fromEntries(options.var.map((text) => text.split(/=(.*)/s).slice(0, 2)));
  const { values, shown } = await variables(dashboard, prometheus, given, seconds);
  const panels = await Promise.all(
    inRows(dashboard.panels, options.rows?.split(',')).map((panel) => filled(panel, prometheus, values, seconds)),
  );
  const range = { from: (prometheus.end - seconds) * 1000, to: prometheus.end * 1000, minutes: options.minutes };
  photograph(page(dashboard, panels, shown, range), size(panels), out);
}

main().catch((error) => {
  console.error(`draw: ${error.message}`);
  process.exitCode = 1;
});
