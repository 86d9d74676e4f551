// Numbers as Grafana prints them: three digits that count, and a unit that fits.

'use strict';

const SI = ['', ' K', ' Mil', ' Bil', ' Tri'];
const IEC = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const SI_BYTES = ['B/s', 'kB/s', 'MB/s', 'GB/s', 'TB/s'];

function digits(value) {
  if (Number.isInteger(value)) return String(value);
  const before = Math.floor(Math.log10(Math.abs(value)));
  return value.toFixed(Math.min(Math.max(2 - before, 0), 12));
}

/** Divides by a factor as often as it takes, and returns the number with the prefix. */
function scaled(value, factor, suffixes, join = '') {
  let steps = 0;
  while (Math.abs(value) >= factor && steps < suffixes.length - 1) {
    value /= factor;
    steps += 1;
  }
  return digits(value) + join + suffixes[steps];
}

function seconds(value) {
  const size = Math.abs(value);
  if (size === 0) return '0 s';
  if (size < 1e-6) return `${digits(value * 1e9)} ns`;
  if (size < 1e-3) return `${digits(value * 1e6)} µs`;
  if (size < 1) return `${digits(value * 1e3)} ms`;
  if (size < 60) return `${digits(value)} s`;
  if (size < 3600) return `${digits(value / 60)} mins`;
  if (size < 86400) return `${digits(value / 3600)} hours`;
  return `${digits(value / 86400)} days`;
}

const FORMATS = {
  short: (value) => scaled(value, 1000, SI),
  percentunit: (value) => `${digits(value * 100)}%`,
  bytes: (value) => scaled(value, 1024, IEC, ' '),
  s: seconds,
  cps: (value) => `${scaled(value, 1000, ['', 'K', 'M', 'B'])} c/s`,
  Bps: (value) => scaled(value, 1000, SI_BYTES, ' '),
  dateTimeAsIso: (value) => new Date(value).toISOString().slice(0, 19).replace('T', ' '),
};

/** Returns a number in a unit of Grafana. */
function format(value, unit) {
  if (!Number.isFinite(value)) return String(value);
  if (!(unit in FORMATS)) throw new Error(`no format for the unit ${unit}`);
  // Sums of floating-point numbers have digits that mean nothing.
  return FORMATS[unit](Number(value.toPrecision(12)));
}

module.exports = { format };
