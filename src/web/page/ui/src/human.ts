// Numbers and times as people read them: the same texts as src/export/human.rs, by the examples in tests/human.tsv.

const PLAIN = ["", " k", " M", " G", " T", " P", " E"] as const;
const BYTES = [" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"] as const;

/** Returns a number with its unit, which is spelled as OTLP spells it. */
export function number(value: number, unit: string): string {
  switch (unit) {
    case "":
      return scaled(value, PLAIN, 1000);
    case "s":
      return duration(value);
    case "By":
      return scaled(value, BYTES, 1024);
    case "1":
      return `${digits(value * 100)} %`;
    default:
      return scaled(value, PLAIN, 1000) + (unit.endsWith("/s") ? "/s" : "");
  }
}

/** Returns a number with the largest unit of which there is at least one. */
function scaled(value: number, units: readonly string[], step: number): string {
  let rest = value;
  let exponent = 0;
  // Rounding to three digits must not give 1000 of a unit.
  while (Math.abs(rest) >= step - 0.5 && exponent < units.length - 1) {
    rest /= step;
    exponent += 1;
  }
  const isWhole = exponent === 0 && Number.isInteger(rest);
  return (isWhole ? String(rest) : digits(rest)) + units[exponent];
}

const LONG = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "min"],
  [60, "min", 1, "s"],
] as const;

/** Returns seconds as text: `12.3 us`, `1.50 s`, `2 min 5 s`, `3 d 4 h`. */
export function duration(seconds: number): string {
  const size = Math.abs(seconds);
  if (size === 0) return "0 s";
  if (size < 59.95) {
    if (size < 999.5e-9) return `${digits(seconds * 1e9)} ns`;
    if (size < 999.5e-6) return `${digits(seconds * 1e6)} us`;
    if (size < 999.5e-3) return `${digits(seconds * 1e3)} ms`;
    return `${digits(seconds)} s`;
  }
  if (!Number.isFinite(seconds) || size >= 1e11) return `${digits(seconds / 86400)} d`;
  // Two units, the smaller one rounded: the largest of which there is one then.
  const pair = LONG.find(([large, , small]) => Math.round(size / small) * small >= large) ?? LONG[2];
  const [large, unit, small, smallUnit] = pair;
  const rounded = Math.round(size / small);
  const perUnit = large / small;
  const sign = seconds < 0 ? "-" : "";
  const rest = rounded % perUnit;
  const text = `${sign}${Math.floor(rounded / perUnit)} ${unit}`;
  return rest === 0 ? text : `${text} ${rest} ${smallUnit}`;
}

/** Returns a number with three digits; with fewer if it is less than a hundredth. */
function digits(value: number): string {
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size < 0.0005) return value < 0 ? ">-0.001" : "<0.001";
  if (size < 0.9995) return fixed(value, 3);
  if (size < 9.995) return fixed(value, 2);
  if (size < 99.95) return fixed(value, 1);
  return Number.isFinite(value) ? fixed(value, 0) : value > 0 ? "inf" : value < 0 ? "-inf" : "NaN";
}

/** Returns a number with so many decimals. Of two texts that are equally near it takes the one with an even digit, as Rust does. */
function fixed(value: number, decimals: number): string {
  const text = value.toFixed(decimals);
  const scaledUp = value * 10 ** decimals;
  // A number half way between two of at most three decimals is a multiple of 1/16, so that these sums are exact.
  const isHalfWay = Number.isInteger(value * 16) && Math.abs(scaledUp % 1) === 0.5;
  if (!isHalfWay) return text;
  const even = 2 * Math.round(scaledUp / 2);
  return (even / 10 ** decimals).toFixed(decimals);
}

/** Returns a date as text, without parts of a second: `2026-01-02 03:04:06Z`. */
export function date(time: string): string {
  const parsed = new Date(time);
  if (Number.isNaN(parsed.getTime())) return time;
  const second = new Date(Math.floor(parsed.getTime() / 1000) * 1000);
  return second.toISOString().replace("T", " ").replace(".000", "");
}

/** Returns how long ago a time was: `12 s ago`. */
export function ago(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return `${seconds < 60 ? `${seconds} s` : duration(seconds)} ago`;
}

/** Returns a whole number with its digits in groups: `20,000`. */
export function count(value: number): string {
  return value.toLocaleString("en");
}
