// @ts-nocheck: runs in Node.js, whose types the page does not have.
import assert from "node:assert";
import { test } from "node:test";
import { textFor, visible } from "./text";

test("invisible characters are escapes, and others stay", () => {
  assert.strictEqual(visible("a\u001b[31mb\u202ec\u0000\n"), "a\\x1b[31mb\\u{202e}c\\x00\\x0a");
  assert.strictEqual(visible("<img src=x> ä 猫 😀"), "<img src=x> ä 猫 😀");
});

test("the field keeps the space that was just typed, and takes another query over", () => {
  assert.strictEqual(textFor("xdp", "xdp "), "xdp ");
  assert.strictEqual(textFor("", " "), " ");
  assert.strictEqual(textFor("owner:a", "xdp "), "owner:a");
  assert.strictEqual(textFor("", "xdp"), "");
});
