// @ts-nocheck: runs in Node.js, whose types the page does not have.
import assert from "node:assert";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { date, number } from "./human";

test("numbers are those of the table", () => {
  const table = readFileSync(process.env.HUMAN_TSV, "utf8");
  const rows = table.split("\n").filter((row) => row !== "" && !row.startsWith("#"));
  assert(rows.length > 60, `${rows.length} rows`);
  for (const row of rows) {
    const [value, unit, expected] = row.split("\t");
    assert.strictEqual(number(Number(value), unit), expected, row);
  }
});

test("dates have no parts of a second", () => {
  assert.strictEqual(date("2026-01-02T03:04:05.9Z"), "2026-01-02 03:04:05Z");
  assert.strictEqual(date("2026-01-02T03:04:05.123456789Z"), "2026-01-02 03:04:05Z");
});
