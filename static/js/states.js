// The states a site is shown in: order, words, and how two axes become one kind. Pure.

/** Kinds from worst to best. A site has exactly one, so the figures of a fleet add up. */
export const KINDS = ["down", "unreachable", "degraded", "unknown", "up"];

export const LABELS = {
  up: "Up",
  degraded: "Degraded",
  down: "Down",
  unreachable: "Unreachable",
  unknown: "Unknown",
};

/** Kind of a site from its availability and reachability: who cannot be reached is shown as such. */
export function kindOf(state, reachability) {
  if (reachability === "unreachable") return "unreachable";
  return KINDS.includes(state) ? state : "unknown";
}

/** 0 for the worst kind. */
export function rankOf(kind) {
  return KINDS.indexOf(kind);
}
