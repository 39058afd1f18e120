// Filters of the map: what they are in the URL, and which sites they let through. Pure.

import { KINDS } from "./states.js";

const LISTS = ["state", "provider", "region", "ring"];

/** Filters of a query string: `{state, provider, region, ring: Set, q: string}`; what is unknown is ignored. */
export function parseFilters(search) {
  const params = new URLSearchParams(search);
  const filters = { q: (params.get("q") ?? "").trim() };
  for (const name of LISTS) {
    const values = params.getAll(name).flatMap((value) => value.split(",")).filter(Boolean);
    filters[name] = new Set(name === "state" ? values.filter((value) => KINDS.includes(value)) : values);
  }
  return filters;
}

/** Query string (with its "?", or "") of filters; `site` is the slug of the selected site or null. */
export function filterQuery(filters, site = null) {
  const params = new URLSearchParams();
  for (const name of LISTS) if (filters[name].size > 0) params.set(name, [...filters[name]].join(","));
  if (filters.q) params.set("q", filters.q);
  if (site) params.set("site", site);
  // A comma is legal in a query and far easier to read than its escape.
  const text = params.toString().replaceAll("%2C", ",");
  return text ? `?${text}` : "";
}

/** A copy of filters in which one value of a list is switched over. */
export function toggled(filters, name, value) {
  const values = new Set(filters[name]);
  if (!values.delete(value)) values.add(value);
  return { ...filters, [name]: values };
}

/** True when no filter is set. */
export function isOpen(filters) {
  return !filters.q && LISTS.every((name) => filters[name].size === 0);
}

/** A function that says whether a site of the fleet passes; `ignoring` leaves one list out. */
export function predicate(filters, ignoring = null) {
  const lists = LISTS.filter((name) => name !== ignoring && filters[name].size > 0);
  const needle = filters.q.toLowerCase();
  return (site) => {
    for (const name of lists) {
      const value = name === "state" ? site.kind : name === "provider" ? site.providerKey : site[name];
      if (!filters[name].has(value)) return false;
    }
    return !needle || site.search.includes(needle);
  };
}
