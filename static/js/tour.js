// The wall's tour: the fleet first, then each region, longer where something is wrong. Pure.

import { rankOf } from "./states.js";

const FLEET_S = 25;
const REGION_S = 10;
const TROUBLE_S = 20;

/** Stops `[{region: string|null, stay_s}]`: all regions, then each by name. */
export function stops(sites) {
  const troubled = new Map();
  for (const site of sites) {
    const bad = rankOf(site.kind) <= rankOf("degraded");
    troubled.set(site.region, troubled.get(site.region) || bad);
  }
  const regions = [...troubled.keys()].filter(Boolean).sort();
  const tour = [{ region: null, stay_s: FLEET_S }];
  // With one region the fleet is all there is to see.
  if (regions.length < 2) return tour;
  return [...tour, ...regions.map((region) => ({ region, stay_s: troubled.get(region) ? TROUBLE_S : REGION_S }))];
}

/** The stop after `current` (by region), or the first when there is none, or it is gone. */
export function nextStop(tour, current) {
  const at = current === null ? -1 : tour.findIndex((stop) => stop.region === current.region);
  return tour[(at + 1) % tour.length];
}
