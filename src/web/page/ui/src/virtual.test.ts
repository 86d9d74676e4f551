// @ts-nocheck: runs in Node.js, whose types the page does not have.
import assert from "node:assert";
import { test } from "node:test";
import { nearest, windowOf } from "./virtual";

test("what is fetched contains what is in the document, and that what is visible", () => {
  for (let scrollTop = 0; scrollTop < 640_000; scrollTop += 997) {
    const { first, end, offset, limit } = windowOf(scrollTop, 900, 32);
    assert(first * 32 <= scrollTop && end * 32 >= scrollTop + 900, `visible at ${scrollTop}`);
    assert(offset <= first && offset + limit >= end, `fetched at ${scrollTop}`);
    assert(end - first <= 60 && limit <= 300, `bounded at ${scrollTop}`);
  }
});

test("a small step of scrolling fetches nothing new", () => {
  const { offset, limit } = windowOf(10_000, 900, 32);
  const next = windowOf(10_032, 900, 32);
  assert.deepStrictEqual([next.offset, next.limit], [offset, limit]);
});

test("a row that has gone is replaced by the nearest one, and by none in an empty table", () => {
  assert.deepStrictEqual([nearest(3, 5), nearest(7, 5), nearest(0, 1)], [3, 4, 0]);
  assert.deepStrictEqual([nearest(0, 0), nearest(7, 0)], [undefined, undefined]);
});
