import assert from "node:assert/strict";
import { test } from "node:test";

import { ageText, bytesText, countText, fullTimeText, ratioText, timeText } from "../../static/js/format.js";

test("ages read as people say them", () => {
  assert.equal(ageText(-3), "0 s");
  assert.equal(ageText(59.9), "59 s");
  assert.equal(ageText(60), "1 min");
  assert.equal(ageText(3599), "59 min");
  assert.equal(ageText(3600), "1 h 00 min");
  assert.equal(ageText(2 * 3600 + 5 * 60), "2 h 05 min");
  assert.equal(ageText(86400), "1 d");
  assert.equal(ageText(3 * 86400 + 4 * 3600), "3 d 4 h");
  assert.equal(ageText(210 * 86400 + 3600), "210 d");
});

test("a time is short today, and says its day before", () => {
  const now = Date.UTC(2026, 10, 24, 21, 0);
  assert.equal(timeText(Date.UTC(2026, 10, 24, 14, 5), now, "UTC"), "14:05");
  assert.equal(timeText(Date.UTC(2026, 10, 23, 14, 5), now, "UTC"), "23 Nov 14:05");
  assert.equal(timeText(Date.UTC(2025, 10, 23, 14, 5), now, "UTC"), "23 Nov 2025 14:05");
  // Half past eleven at night in UTC is tomorrow in Berlin.
  assert.equal(timeText(Date.UTC(2026, 10, 24, 23, 30), now, "Europe/Berlin"), "25 Nov 00:30");
});

test("a full time names its zone", () => {
  assert.match(fullTimeText(Date.UTC(2026, 10, 24, 14, 5, 11), "Europe/Berlin"), /24 Nov 2026.*15:05:11 \(Europe\/Berlin\)/);
});

test("counts fit into a ring", () => {
  assert.deepEqual([0, 999, 1000, 1290, 9999, 12_345, 1_250_000].map(countText), ["0", "999", "1k", "1.2k", "9.9k", "12k", "1.2M"]);
});

test("bytes and ratios", () => {
  assert.equal(bytesText(512), "512 B");
  assert.equal(bytesText(1024), "1 KiB");
  assert.equal(bytesText(1_640_000_000), "1.53 GiB");
  assert.equal(ratioText(0.314), "31 %");
});
