// What a trend's chart shows: its axis, and which month is the newest. Pure.

const lowest = (values) => Math.min(...values.filter((value) => value !== null));

/**
 * The axis of per cents: room around what was measured and promised, never below 0, and never less than a tenth high.
 *
 * The floor has room down to as much again: of a month of which little is known it would flatten all others.
 */
export function axisRange(trend) {
  const values = [...trend.measured, ...trend.target].filter((value) => value !== null);
  if (values.length === 0) return [0, 100];
  const high = Math.max(...values);
  const near = Math.min(...values);
  const low = Math.min(near, Math.max(lowest(trend.floor), near - Math.max(high - near, 0.2)));
  const room = Math.max((high - low) * 0.15, 0.05);
  return [Math.max(0, low - room), Math.min(100 + room / 4, high + room)];
}

/** Number of the newest month of which anything is known; -1 for none. */
export function newest(trend) {
  return trend.target.findLastIndex((value, i) => value !== null || trend.measured[i] !== null);
}
