// Compares dashboards with the types in schema.ts, and shows that mistakes are found: see `check`.

'use strict';

const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const ts = require('typescript');
const { queryResultTexts, variableOptions } = require('./variables.cjs');

const root = path.resolve(__dirname, '../..');
const modules = path.join(root, 'target/dashboards/node_modules');
const folder = path.join(root, 'dist/grafana');

/** The packages whose types the dashboards have to fit. */
const SCHEMAS = ['@grafana/schema', 'grafana-schema-12', 'grafana-schema-11'];

/** Mistakes, each made in an otherwise correct dashboard. */
const MISTAKES = {
  'unknown key of a panel': (dashboard) => rename(panel(dashboard, 'stat'), 'gridPos', 'gridpos'),
  'unknown key of a dashboard': (dashboard) => rename(dashboard, 'graphTooltip', 'graphToolTip'),
  'wrong type': (dashboard) => Object.assign(dashboard, { schemaVersion: '41' }),
  'no such panel': (dashboard) => Object.assign(panel(dashboard, 'timeseries'), { type: 'graph' }),
  'wrong word in field options': (dashboard) =>
    Object.assign(panel(dashboard, 'timeseries').fieldConfig.defaults.color, { mode: 'palette-clasic' }),
  'wrong word in custom field options': (dashboard) =>
    Object.assign(panel(dashboard, 'timeseries').fieldConfig.defaults.custom, { showPoints: 'sometimes' }),
  'unknown option of a graph': (dashboard) =>
    rename(panel(dashboard, 'timeseries').options.legend, 'placement', 'position'),
  'unknown option of a table': (dashboard) => rename(panel(dashboard, 'table').options, 'cellHeight', 'cellHeigth'),
  'unknown custom field option of a table': (dashboard) =>
    rename(panel(dashboard, 'table').fieldConfig.defaults.custom, 'filterable', 'filtered'),
  'unknown option of a number': (dashboard) =>
    rename(panel(dashboard, 'stat').options.reduceOptions, 'calcs', 'calculations'),
  'wrong property of an override': (dashboard) =>
    panel(dashboard, 'table').fieldConfig.overrides.push({
      matcher: { id: 'byName', options: 'CPU' },
      properties: [{ id: 'units', value: 's' }],
    }),
  'wrong word in the options of a cell': (dashboard) =>
    panel(dashboard, 'table').fieldConfig.overrides.push({
      matcher: { id: 'byName', options: 'CPU' },
      properties: [{ id: 'custom.cellOptions', value: { type: 'gauge', mode: 'basik' } }],
    }),
  'unknown option of a transformation': (dashboard) =>
    rename(panel(dashboard, 'table').transformations.at(-1).options, 'renameByName', 'rename'),
  'unknown key of a query': (dashboard) => rename(panel(dashboard, 'stat').targets[0], 'expr', 'query'),
  'unknown key of a variable': (dashboard) => rename(dashboard.templating.list[1], 'includeAll', 'all'),
};

function panel(dashboard, type) {
  return dashboard.panels.find((panel) => panel.type === type);
}

function rename(object, from, to) {
  if (!(from in object)) throw new Error(`there is no ${from} to rename`);
  object[to] = object[from];
  delete object[from];
}

/** Returns a dashboard with one panel of each type, in which a mistake is easy to make. */
function small(dashboard) {
  const types = [...new Set(dashboard.panels.map((panel) => panel.type))];
  return { ...structuredClone(dashboard), panels: types.map((type) => structuredClone(panel(dashboard, type))) };
}

/** Returns what TypeScript says of files by their names. */
function diagnose(files, schema, directory) {
  const source = (text) => `import type { Written } from './schema';\nexport const dashboard: Written = ${text};\n`;
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(directory, `${name}.ts`), source(text));
  fs.copyFileSync(path.join(__dirname, 'schema.ts'), path.join(directory, 'schema.ts'));
  const program = ts.createProgram(
    ['schema', ...Object.keys(files)].map((name) => path.join(directory, `${name}.ts`)),
    {
      noEmit: true,
      strict: true,
      skipLibCheck: true,
      types: [],
      target: ts.ScriptTarget.ES2022,
      module: ts.ModuleKind.ESNext,
      moduleResolution: ts.ModuleResolutionKind.Bundler,
      paths: {
        '@grafana/schema': [path.join(modules, schema)],
        '@grafana/schema/*': [path.join(modules, schema, '*')],
      },
    },
  );
  const found = Object.fromEntries(Object.keys(files).map((name) => [name, []]));
  found.schema = [];
  for (const { file, start, messageText } of ts.getPreEmitDiagnostics(program)) {
    const name = file && path.basename(file.fileName, '.ts');
    const text = ts.flattenDiagnosticMessageText(messageText, '\n').split('\n')[0];
    // Line 2 of the file is line 1 of the JSON.
    const line = file && ts.getLineAndCharacterOfPosition(file, start).line;
    if (!(name in found)) throw new Error(`${name}: ${text}`);
    found[name].push({ line, text: text.length > 200 ? `${text.slice(0, 200)}…` : text });
  }
  return found;
}

/** Returns the version of a package. */
function version(schema) {
  return JSON.parse(fs.readFileSync(path.join(modules, schema, 'package.json'), 'utf8')).version;
}

function checkTypes(dashboards, schema, directory) {
  const files = { ...dashboards };
  const dashboard = small(JSON.parse(dashboards['ebpf-subsystem-metrics']));
  const named = Object.entries(MISTAKES).map(([mistake, make], index) => ({ mistake, make, name: `mistake-${index}` }));
  files.small = JSON.stringify(dashboard, null, 2);
  for (const { make, name } of named) {
    const wrong = structuredClone(dashboard);
    make(wrong);
    files[name] = JSON.stringify(wrong, null, 2);
  }
  const found = diagnose(files, schema, directory);
  const problems = [...Object.keys(dashboards), 'small', 'schema'].flatMap((name) =>
    found[name].map(({ line, text }) => `${name}.json:${line}: ${text}`),
  );
  for (const { mistake, name } of named) {
    if (found[name].length === 0) problems.push(`a planted mistake is not found: ${mistake}`);
  }
  console.log(
    `@grafana/schema ${version(schema)}: ${Object.keys(dashboards).length} dashboards, ${named.length} planted mistakes`,
  );
  if (process.argv.includes('--verbose')) {
    for (const { mistake, name } of named) console.log(`  ${mistake}: ${found[name][0]?.text}`);
  }
  return problems;
}

/** The nodes of the variable `instance`, as Prometheus returns them, and what Grafana has to show for each. */
const NODES = [
  [{ instance: '10.0.0.1:10048', job: 'bpf', node: 'worker-1' }, { text: 'worker-1', value: '10.0.0.1:10048' }],
  [
    { instance: 'a1b2-host', job: 'bpf', k8s_cluster_name: 'east', node: 'worker-2' },
    { text: 'worker-2', value: 'a1b2-host' },
  ],
  // Labels come in any order, and others end in the same letters.
  [{ node: 'worker-3', k8s_node: 'no', service_instance: 'no', instance: 'i3' }, { text: 'worker-3', value: 'i3' }],
  [{ job: 'bpf', instance: 'i4', node: 'i4' }, { text: 'i4', value: 'i4' }],
];

function checkVariables(dashboards) {
  const problems = [];
  let checked = 0;
  for (const [name, text] of Object.entries(dashboards)) {
    for (const variable of JSON.parse(text).templating.list) {
      if (!variable.regex) continue;
      for (const [metric, wanted] of NODES) {
        const texts = queryResultTexts([{ metric, value: [1700000000.123, '1'] }]);
        const options = variableOptions(variable, texts);
        if (JSON.stringify(options) !== JSON.stringify([wanted])) {
          problems.push(`${name}: $${variable.name} makes ${JSON.stringify(options)} of ${texts[0]}`);
        }
        checked += 1;
      }
    }
  }
  console.log(`variables: ${checked} results`);
  if (checked === 0) problems.push('no variable has a regular expression');
  return problems;
}

function main() {
  const names = fs.readdirSync(folder).filter((name) => name.endsWith('.json'));
  const dashboards = Object.fromEntries(
    names.map((name) => [path.basename(name, '.json'), fs.readFileSync(path.join(folder, name), 'utf8')]),
  );
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'dashboards-'));
  let problems;
  try {
    // Modules are looked for beside the files.
    fs.symlinkSync(modules, path.join(directory, 'node_modules'));
    problems = SCHEMAS.flatMap((schema) => checkTypes(dashboards, schema, directory));
  } finally {
    fs.rmSync(directory, { recursive: true });
  }
  problems.push(...checkVariables(dashboards));
  for (const problem of problems) console.error(problem);
  process.exitCode = problems.length === 0 ? 0 : 1;
}

main();
