// A line drawn around sites on the map, and which sites lie within. Pure.

/** Whether a point `[x, y]` lies within a polygon `[[x, y], ...]` that closes itself; crossings count even and odd. */
export function within(polygon, [x, y]) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [ax, ay] = polygon[i];
    const [bx, by] = polygon[j];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

/** Points of a line that are at least `step` apart: what a hand draws is far too dense. */
export function thinned(points, step = 4) {
  const kept = [];
  for (const point of points) {
    const last = kept.at(-1);
    if (!last || Math.hypot(point[0] - last[0], point[1] - last[1]) >= step) kept.push(point);
  }
  return kept;
}

/** Sites within the polygon that pass; `place` gives a site's `[x, y]` on the screen. */
export function sitesWithin(polygon, sites, place, passes = () => true) {
  if (polygon.length < 3) return [];
  return [...sites].filter((site) => passes(site) && within(polygon, place(site)));
}
