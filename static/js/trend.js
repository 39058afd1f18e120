// What a trend's chart shows: its axis, and which month is the newest. Pure.

/** The axis of per cents: room around all values, never beyond 0 and 100, and never less than a tenth high. */
export function axisRange(trend) {
  const values = [...trend.measured, ...trend.floor, ...trend.target].filter((value) => value !== null);
  if (values.length === 0) return [0, 100];
  const low = Math.min(...values);
  const high = Math.max(...values);
  const room = Math.max((high - low) * 0.15, 0.05);
  return [Math.max(0, low - room), Math.min(100 + room / 4, high + room)];
}

/** Number of the newest month of which anything is known; -1 for none. */
export function newest(trend) {
  return trend.target.findLastIndex((value, i) => value !== null || trend.measured[i] !== null);
}
