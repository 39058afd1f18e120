import assert from "node:assert/strict";
import test from "node:test";

import { axisRange, newest } from "../../static/js/trend.js";

const trend = (measured, floor = [], target = []) => ({ measured, floor, target });

test("the axis has room around what is drawn, and does not begin at nothing", () => {
  const [low, high] = axisRange(trend([99.2, null, 99.9], [98.9, null, 99.9], [99.5, null, 99.5]));
  assert.ok(low < 98.9 && low > 98, `${low}`);
  assert.ok(high > 99.9 && high < 100.1, `${high}`);
});

test("a month of which little is known does not flatten the others", () => {
  const [low] = axisRange(trend([99.2, 100], [98.9, 54], [99.5, 99.5]));
  assert.ok(low > 98 && low < 98.9, `${low}`);
});

test("what never changes is still a line within an axis", () => {
  const [low, high] = axisRange(trend([100], [100], [100]));
  assert.ok(low < 100 && high > 100);
  const [zero] = axisRange(trend([0], [0], [0]));
  assert.equal(zero, 0);
  assert.deepEqual(axisRange(trend([null], [null], [null])), [0, 100]);
});

test("the newest month is the last of which anything is known", () => {
  assert.equal(newest(trend([99, null, null], [], [99.5, 99.5, null])), 1);
  assert.equal(newest(trend([null], [], [null])), -1);
});
