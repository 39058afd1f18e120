import assert from "node:assert/strict";
import { test } from "node:test";

import { sitesWithin, thinned, within } from "../../static/js/lasso.js";

const square = [[0, 0], [10, 0], [10, 10], [0, 10]];

test("what lies within a line is told from what lies beside it", () => {
  assert.equal(within(square, [5, 5]), true);
  assert.equal(within(square, [15, 5]), false);
  assert.equal(within(square, [5, -1]), false);
  const horseshoe = [[0, 0], [10, 0], [10, 10], [7, 10], [7, 3], [3, 3], [3, 10], [0, 10]];
  assert.equal(within(horseshoe, [5, 8]), false);
  assert.equal(within(horseshoe, [1, 8]), true);
});

test("a line that a hand draws is thinned", () => {
  assert.deepEqual(thinned([[0, 0], [1, 0], [2, 0], [5, 0], [6, 0]]), [[0, 0], [5, 0]]);
});

test("only sites that pass are picked, and a mere click picks none", () => {
  const sites = [{ slug: "a", at: [5, 5] }, { slug: "b", at: [6, 6] }, { slug: "c", at: [50, 5] }];
  const place = (site) => site.at;
  assert.deepEqual(sitesWithin(square, sites, place).map(({ slug }) => slug), ["a", "b"]);
  assert.deepEqual(sitesWithin(square, sites, place, (site) => site.slug !== "a").map(({ slug }) => slug), ["b"]);
  assert.deepEqual(sitesWithin([[5, 5]], sites, place), []);
});
