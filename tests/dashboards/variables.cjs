// What Grafana makes of variables, by its documentation of Prometheus' `query_result` and of regular expressions in variables.

'use strict';

/** Returns the text of each series of an instant vector, which a variable's regular expression is applied to. */
function queryResultTexts(vector) {
  return vector.map(({ metric, value: [seconds, value] }) => {
    const { __name__: name = '', ...labels } = metric;
    const pairs = Object.entries(labels).map(([label, text]) => `${label}="${text}"`);
    return `${name}{${pairs.join(',')}} ${value} ${seconds * 1000}`;
  });
}

/** Returns the options of a variable: what the groups `text` and `value` match, else the first group, else all. */
function variableOptions(variable, texts) {
  if (!variable.regex) return texts.map((text) => ({ text, value: text }));
  const [, pattern, flags] = /^\/(.*)\/([a-z]*)$/s.exec(variable.regex) ?? [null, variable.regex, ''];
  const options = new Map();
  for (const whole of texts) {
    const match = new RegExp(pattern, flags.replace('g', '')).exec(whole);
    if (!match) continue;
    const groups = match.groups ?? {};
    const first = match[1] ?? match[0];
    const value = groups.value ?? groups.text ?? first;
    const text = groups.text ?? groups.value ?? first;
    if (!options.has(value)) options.set(value, { text, value });
  }
  return [...options.values()];
}

module.exports = { queryResultTexts, variableOptions };
