import assert from "node:assert/strict";
import { test } from "node:test";

import { filterQuery, isOpen, parseFilters, predicate, toggled } from "../../static/js/filters.js";
import { Fleet } from "../../static/js/fleet.js";
import { kindOf } from "../../static/js/states.js";

const snapshot = () => ({
  as_of: 1,
  providers: { 3: "Nordgrid", 4: "Südnetz" },
  columns: ["id", "slug", "name", "lat", "lon", "state", "reachability", "compliance", "provider", "region", "ring", "since"],
  sites: [
    [1, "oslo-1", "Oslo Depot", 59.9, 10.7, "up", "reachable", "unknown", 3, "North", "stable", 100],
    [2, "graz-1", "Graz Shop", 47.1, 15.4, "down", "reachable", "unknown", 4, "South", "canary", 100],
    [3, "bern-1", "Bern Shop", 46.9, 7.4, "unknown", "unreachable", "unknown", 4, "South", "stable", 100],
  ],
});

const loaded = () => {
  const fleet = new Fleet();
  fleet.load(snapshot());
  return fleet;
};

test("who cannot be reached is shown as such, whatever it last said", () => {
  assert.equal(kindOf("unknown", "unreachable"), "unreachable");
  assert.equal(kindOf("up", "unreachable"), "unreachable");
  assert.equal(kindOf("up", "reachable"), "up");
  assert.equal(kindOf("unknown", ""), "unknown");
  assert.equal(kindOf("<script>", ""), "unknown");
});

test("a snapshot is read by its column names", () => {
  const fleet = loaded();
  assert.equal(fleet.sites.get(2).name, "Graz Shop");
  assert.equal(fleet.bySlug.get("bern-1").providerName, "Südnetz");
  assert.deepEqual(fleet.counts(), { down: 1, unreachable: 1, degraded: 0, unknown: 0, up: 1 });
});

test("deltas change what is known, and name what is not", () => {
  const fleet = loaded();
  const changed = fleet.apply([[1, "degraded", "reachable", "unknown", 200], [99, "up", "reachable", "unknown", 200]]);
  assert.deepEqual(changed.map((site) => site.slug), ["oslo-1"]);
  assert.equal(fleet.sites.get(1).kind, "degraded");
  assert.equal(fleet.sites.get(1).since, 200);
  assert.equal(fleet.lacks([[99, "up", "reachable", "unknown", 200]]), true);
  assert.equal(fleet.lacks([[1, "up", "reachable", "unknown", 200]]), false);
});

test("snapshot and deltas give what a new snapshot would", () => {
  const fleet = loaded();
  fleet.apply([[2, "up", "reachable", "unknown", 300], [3, "up", "reachable", "unknown", 301]]);
  const later = snapshot();
  later.sites[1].splice(5, 1, "up");
  later.sites[1].splice(11, 1, 300);
  later.sites[2].splice(5, 2, "up", "reachable");
  later.sites[2].splice(11, 1, 301);
  const fresh = new Fleet();
  fresh.load(later);
  assert.deepEqual([...fleet.sites.values()], [...fresh.sites.values()]);
});

test("filters come from the URL and go back to it", () => {
  const filters = parseFilters("?state=down,unreachable,nonsense&provider=4&q=%20shop%20&site=x");
  assert.deepEqual([...filters.state], ["down", "unreachable"]);
  assert.equal(filterQuery(filters, "graz-1"), "?state=down,unreachable&provider=4&q=shop&site=graz-1");
  assert.equal(filterQuery(parseFilters("")), "");
  assert.equal(isOpen(parseFilters("?site=graz-1")), true);
  assert.equal(isOpen(filters), false);
  assert.deepEqual(parseFilters("?state=down&state=up").state, new Set(["down", "up"]));
});

test("filters let through what fits all of them", () => {
  const fleet = loaded();
  const slugs = (query, ignoring) => [...fleet.sites.values()].filter(predicate(parseFilters(query), ignoring)).map(({ slug }) => slug);
  assert.deepEqual(slugs("?provider=4"), ["graz-1", "bern-1"]);
  assert.deepEqual(slugs("?provider=4&state=unreachable"), ["bern-1"]);
  assert.deepEqual(slugs("?provider=4&state=unreachable", "state"), ["graz-1", "bern-1"]);
  assert.deepEqual(slugs("?q=SÜDnetz&region=South&ring=canary"), ["graz-1"]);
  assert.deepEqual(slugs("?region=East"), []);
});

test("a figure switches its state on and off", () => {
  const once = toggled(parseFilters("?region=South"), "state", "down");
  assert.equal(filterQuery(once), "?state=down&region=South");
  assert.equal(filterQuery(toggled(once, "state", "down")), "?region=South");
});

test("bounds of nothing are nothing", () => {
  assert.equal(loaded().bounds(() => false), null);
  assert.deepEqual(loaded().bounds(), [7.4, 46.9, 15.4, 59.9]);
});

test("deltas that come while a snapshot is fetched are newer than it", async () => {
  const fleet = loaded();
  let arrive;
  const taken = fleet.take(new Promise((resolve) => (arrive = resolve)));
  fleet.apply([[1, "down", "reachable", "unknown", 200]]);
  arrive(snapshot());
  await taken;
  assert.equal(fleet.sites.get(1).kind, "down");
  await assert.rejects(fleet.take(Promise.reject(new Error("no answer"))));
  fleet.apply([[1, "up", "reachable", "unknown", 300]]);
  await fleet.take(Promise.resolve(snapshot()));
  assert.equal(fleet.sites.get(1).since, 100);
});
