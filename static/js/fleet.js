// The sites a page knows: a snapshot, and the deltas that came after it. Pure.

import { KINDS, kindOf } from "./states.js";

/** One fleet in memory. Sites are plain objects, changed in place by deltas. */
export class Fleet {
  constructor() {
    this.sites = new Map();
    this.bySlug = new Map();
    this.providers = {};
    this.meanwhile = null;
  }

  /** Loads the snapshot that is promised, one at a time; deltas that come before it may be newer: they go on top. */
  async take(promised) {
    this.meanwhile = [];
    try {
      this.load(await promised);
      this.apply(this.meanwhile);
    } finally {
      this.meanwhile = null;
    }
  }

  /** Replaces everything by a snapshot of /map.json. */
  load(snapshot) {
    const at = Object.fromEntries(snapshot.columns.map((name, i) => [name, i]));
    this.providers = snapshot.providers;
    this.sites.clear();
    this.bySlug.clear();
    for (const row of snapshot.sites) {
      const site = Object.fromEntries(snapshot.columns.map((name) => [name, row[at[name]]]));
      site.kind = kindOf(site.state, site.reachability);
      site.providerKey = String(site.provider);
      site.providerName = snapshot.providers[site.provider] ?? "";
      site.search = `${site.name} ${site.slug} ${site.providerName} ${site.region}`.toLowerCase();
      this.sites.set(site.id, site);
      this.bySlug.set(site.slug, site);
    }
  }

  /** Applies deltas `[[id, state, reachability, compliance, since], ...]`; returns the sites that changed. */
  apply(deltas) {
    if (deltas !== this.meanwhile) this.meanwhile?.push(...deltas);
    const changed = new Set();
    for (const [id, state, reachability, compliance, since] of deltas) {
      const site = this.sites.get(id);
      // A site that the snapshot did not hold is new, or not for this viewer: the next snapshot tells.
      if (!site) continue;
      Object.assign(site, { state, reachability, compliance, since, kind: kindOf(state, reachability) });
      changed.add(site);
    }
    return [...changed];
  }

  /** True when a delta names a site that is not in the snapshot. */
  lacks(deltas) {
    return deltas.some(([id]) => !this.sites.has(id));
  }

  /** Sites of each kind among those that pass. */
  counts(passes = () => true) {
    const counts = Object.fromEntries(KINDS.map((kind) => [kind, 0]));
    for (const site of this.sites.values()) if (passes(site)) counts[site.kind] += 1;
    return counts;
  }

  /** `[west, south, east, north]` in degrees of the sites that pass, or null when there are none. */
  bounds(passes = () => true) {
    let box = null;
    for (const site of this.sites.values()) {
      if (!passes(site)) continue;
      box = box
        ? [Math.min(box[0], site.lon), Math.min(box[1], site.lat), Math.max(box[2], site.lon), Math.max(box[3], site.lat)]
        : [site.lon, site.lat, site.lon, site.lat];
    }
    return box;
  }
}
