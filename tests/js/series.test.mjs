import assert from "node:assert/strict";
import { test } from "node:test";

import { bandsWithin, columns, hasAny } from "../../static/js/series.js";

test("time in which nothing was measured stays empty", () => {
  const samples = { step_s: 30, t: [0, 30, 60, 300, 330], cpu: [0.1, 0.2, 0.3, 0.4, null] };
  assert.deepEqual(columns(samples, ["cpu"]), [[0, 30, 60, 180, 300, 330], [0.1, 0.2, 0.3, null, 0.4, null]]);
});

test("a series that is missing is empty, not an error", () => {
  const samples = { step_s: 30, t: [0, 30], cpu: [0.1, 0.2] };
  assert.deepEqual(columns(samples, ["power"]), [[0, 30], [null, null]]);
  assert.equal(hasAny(samples, ["power"]), false);
  assert.equal(hasAny({ t: [0], temp: [0] }, ["temp"]), true);
});

test("bands are cut to what is shown", () => {
  const bands = [{ from: 0, to: 10, kind: "down" }, { from: 40, to: null, kind: "unreachable" }, { from: 90, to: 95, kind: "down" }];
  assert.deepEqual(bandsWithin(bands, 5, 60), [{ from: 5, to: 10, kind: "down" }, { from: 40, to: 60, kind: "unreachable" }]);
});
