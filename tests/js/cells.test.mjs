import assert from "node:assert/strict";
import { test } from "node:test";

import { Cells, indexAt, layout, moved, side_px } from "../../static/js/cells.js";

const STATES = [
  { name: "queued", label: "waits its turn", group: "wait" },
  { name: "proven", label: "proven", group: "proven" },
];
const snapshot = () => ({
  plan: "sha256:1",
  as_of: 1000,
  states: STATES,
  cells: [
    [11, 0, 0, 0, 5, "", "oslo", "Oslo"],
    [12, 0, 0, 0, 5, "", "bergen", "Bergen"],
    [13, 1, 0, 1, 5, "offline", "tromso", "Tromsø"],
  ],
});

test("ten thousand cells fit a column, and few are large", () => {
  assert.equal(side_px(10), 20);
  assert.deepEqual(layout(10_000, 400), { side: 8, columns: 50, rows: 200, height: 1600 });
  assert.deepEqual(layout(0, 100), { side: 20, columns: 5, rows: 0, height: 20 });
  assert.equal(layout(3, 5).columns, 1);
});

test("a point finds its cell, and nothing beside it", () => {
  const laid = layout(7, 65);
  assert.equal(laid.columns, 3);
  assert.equal(indexAt(laid, 7, 21, 21), 4);
  assert.equal(indexAt(laid, 7, 45, 41), -1);
  assert.equal(indexAt(laid, 7, 61, 1), -1);
  assert.equal(indexAt(laid, 7, -1, 1), -1);
});

test("arrows move inside the column", () => {
  const laid = layout(7, 65);
  assert.equal(moved(laid, 7, 0, "ArrowLeft"), 0);
  assert.equal(moved(laid, 7, 0, "ArrowDown"), 3);
  assert.equal(moved(laid, 7, 5, "ArrowDown"), 6);
  assert.equal(moved(laid, 7, 3, "Home"), 0);
  assert.equal(moved(laid, 7, 3, "End"), 6);
  assert.equal(moved(laid, 7, 3, "x"), 3);
});

test("a delta changes what it names, and what is equal is not painted", () => {
  const cells = new Cells();
  cells.load(snapshot());
  assert.deepEqual([...cells.waves.keys()], [0, 1]);
  const delta = { plan: "sha256:1", as_of: 2000, cells: [[11, 0, 1, 0, 9, ""], [12, 0, 0, 0, 5, ""]] };
  assert.deepEqual(cells.merge(delta).map((cell) => cell.name), ["Oslo"]);
  assert.equal(cells.group(cells.bySite.get(11)), "proven");
  assert.equal(cells.as_of, 2000);
  assert.equal(cells.says(cells.bySite.get(13)), "waits its turn: offline");
});

test("another plan, or a site that is not known, asks for everything", () => {
  const cells = new Cells();
  cells.load(snapshot());
  assert.equal(cells.merge({ plan: "sha256:2", as_of: 2, cells: [] }), null);
  assert.equal(cells.merge({ plan: "sha256:1", as_of: 2, cells: [[99, 0, 1, 0, 9, ""]] }), null);
});
