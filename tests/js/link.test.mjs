import assert from "node:assert/strict";
import { test } from "node:test";

import { STALE_MS, Throttle, linkState, retryDelay_ms } from "../../static/js/link.js";

test("a page says within five seconds that it is stale", () => {
  assert.ok(STALE_MS + 500 <= 5000);
  assert.equal(linkState(null, 0, 1000), "connecting");
  assert.equal(linkState(null, 0, STALE_MS + 1), "stale");
  assert.equal(linkState(9000, 0, 9000 + STALE_MS), "live");
  assert.equal(linkState(9000, 0, 9001 + STALE_MS), "stale");
});

test("tries spread out, and never stop", () => {
  assert.equal(retryDelay_ms(0, () => 0), 250);
  assert.equal(retryDelay_ms(0, () => 1), 500);
  assert.equal(retryDelay_ms(3, () => 1), 4000);
  assert.equal(retryDelay_ms(50, () => 1), 15_000);
  assert.deepEqual([retryDelay_ms(Infinity, () => 0), retryDelay_ms(Infinity, () => 1)], [7500, 15_000]);
});

test("a throttle runs the first call at once and the rest together", () => {
  let now = 0;
  const later = [];
  let runs = 0;
  const throttle = new Throttle(() => (runs += 1), 1000, { now: () => now, later: (run, ms) => later.push([run, ms]) });
  throttle.call();
  assert.equal(runs, 1);
  now = 400;
  throttle.call();
  throttle.call();
  assert.equal(runs, 1);
  assert.deepEqual(later.map(([, ms]) => ms), [600]);
  now = 1000;
  later[0][0]();
  assert.equal(runs, 2);
  now = 2500;
  throttle.call();
  assert.equal(runs, 3);
});

test("what is called for while a run is under way is run after it", async () => {
  let now = 0;
  const later = [];
  const ends = [];
  const run = () => new Promise((resolve) => ends.push(resolve));
  const throttle = new Throttle(run, 1000, { now: () => now, later: (f, ms) => later.push([f, ms]) });
  throttle.call();
  now = 1500;
  throttle.call();
  throttle.call();
  assert.deepEqual([ends.length, later.length, later[0][1]], [1, 1, 1000]);
  now = 2500;
  later.shift()[0]();
  assert.deepEqual([ends.length, later.length], [1, 1]);
  ends[0]();
  await new Promise((resolve) => setImmediate(resolve));
  now = 3500;
  later.shift()[0]();
  assert.equal(ends.length, 2);
});
