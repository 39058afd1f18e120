import assert from "node:assert/strict";
import { test } from "node:test";

import { coastOf, mapStyle } from "../../static/js/map_style.js";
import { countsOfRing, ringShares, ringSide_px } from "../../static/js/rings.js";
import { nextStop, stops } from "../../static/js/tour.js";

const counts = (down, unreachable, degraded, unknown, up) => ({ down, unreachable, degraded, unknown, up });

test("one site down among a thousand is seen in the ring", () => {
  const shares = ringShares(counts(1, 0, 0, 0, 999));
  assert.deepEqual(shares.map(([kind]) => kind), ["down", "up"]);
  const [, from, to] = shares[0];
  assert.ok(to - from > 0.08);
  assert.equal(shares.at(-1)[2], 1);
});

test("shares follow each other and close the turn", () => {
  const shares = ringShares(counts(2, 3, 5, 7, 11));
  shares.slice(1).forEach(([, from], i) => assert.equal(from, shares[i][2]));
  assert.equal(shares[0][1], 0);
  assert.deepEqual(ringShares(counts(0, 0, 0, 0, 4)), [["up", 0, 1]]);
});

test("an image's name says what to draw", () => {
  assert.deepEqual(countsOfRing("ring|1|0|0|2|40"), counts(1, 0, 0, 2, 40));
  assert.equal(countsOfRing("ring|1|2"), null);
  assert.equal(countsOfRing("site-down"), null);
  assert.ok(ringSide_px(10_000) > ringSide_px(3));
});

test("coast lines leave out the cut at the antimeridian", () => {
  const land = { coordinates: [[[[170, 60], [180, 61], [180, 65], [170, 66], [170, 60]]]] };
  assert.deepEqual(coastOf(land).geometry.coordinates, [[[170, 60], [180, 61]], [[180, 65], [170, 66], [170, 60]]]);
});

test("layers name sources that exist", () => {
  const palette = new Proxy({}, { get: () => "#123456" });
  const style = mapStyle(palette, {}, "https://tiles.example.net/{z}/{x}/{y}.png");
  for (const layer of style.layers) assert.ok(layer.type === "background" || layer.source in style.sources, layer.id);
  assert.equal(new Set(style.layers.map(({ id }) => id)).size, style.layers.length);
});

test("the wall goes round, and stays longer where something is wrong", () => {
  const tour = stops([{ region: "South", kind: "up" }, { region: "North", kind: "down" }, { region: "", kind: "up" }]);
  assert.deepEqual(tour.map(({ region }) => region), [null, "North", "South"]);
  assert.ok(tour[1].stay_s > tour[2].stay_s);
  assert.equal(nextStop(tour, null).region, null);
  assert.equal(nextStop(tour, { region: null }).region, "North");
  assert.equal(nextStop(tour, { region: "South" }).region, null);
  assert.equal(nextStop(tour, { region: "gone" }).region, null);
  assert.deepEqual(stops([{ region: "Only", kind: "up" }]).map(({ region }) => region), [null]);
});
