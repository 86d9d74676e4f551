// Tables as Grafana makes them of the results of queries: the transformations `merge` and `organize`, then the sorting.

'use strict';

/** Returns the result of an instant query as rows, with labels as columns. */
function rows(vector, valueColumn) {
  return vector.map(({ metric, value: [seconds, value] }) => {
    const { __name__, ...labels } = metric;
    return { Time: seconds * 1000, ...labels, [valueColumn]: Number(value) };
  });
}

/** Joins the rows of several results that agree in all columns which the results share. */
function merge(results) {
  const filled = results.filter((result) => result.length > 0);
  const columns = filled.map((result) => new Set(result.flatMap(Object.keys)));
  const shared = [...(columns[0] ?? [])].filter((column) => columns.every((others) => others.has(column)));
  const merged = new Map();
  for (const row of filled.flat()) {
    const key = JSON.stringify(shared.map((column) => row[column]));
    const group = merged.get(key) ?? [];
    const fits = group.find((other) => Object.keys(row).every((name) => !(name in other) || other[name] === row[name]));
    if (fits) Object.assign(fits, row);
    else group.push({ ...row });
    merged.set(key, group);
  }
  return [...merged.values()].flat();
}

/** Hides, orders and renames columns: returns their names in the rows, and their titles. */
function organize(names, { excludeByName = {}, indexByName = {}, renameByName = {} }) {
  const place = (name) => indexByName[name] ?? Number.MAX_SAFE_INTEGER;
  return names
    .filter((name) => !excludeByName[name])
    .sort((one, other) => place(one) - place(other))
    .map((name) => ({ name, title: renameByName[name] ?? name }));
}

function compare(one, other) {
  if (typeof one === 'number' && typeof other === 'number') return one - other;
  return String(one).localeCompare(String(other), 'en', { numeric: true });
}

/** Returns the columns and rows of a table panel. */
function table(panel, vectors) {
  const column = (target) => (panel.targets.length === 1 ? 'Value' : `Value #${target.refId}`);
  const results = panel.targets.map((target, index) => rows(vectors[index], column(target)));
  let joined = results.flat();
  let columns = [...new Set(joined.flatMap(Object.keys))].map((name) => ({ name, title: name }));
  for (const { id, options } of panel.transformations ?? []) {
    if (id === 'merge') joined = merge(results);
    else if (id === 'organize') columns = organize(columns.map(({ name }) => name), options);
    else throw new Error(`no transformation ${id}`);
  }
  for (const { displayName, desc } of [...(panel.options.sortBy ?? [])].reverse()) {
    const sorted = columns.find(({ title }) => title === displayName);
    if (!sorted) continue;
    // Rows without a value come last in both directions.
    const [first, last] = [[], []];
    for (const row of joined) (row[sorted.name] === undefined ? last : first).push(row);
    first.sort((one, other) => (desc ? -1 : 1) * compare(one[sorted.name], other[sorted.name]));
    joined = [...first, ...last];
  }
  return { columns, rows: joined };
}

module.exports = { table };
