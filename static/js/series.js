// Time series for charts: gaps that stay gaps, and bands of time in which a site was not up. Pure.

/** Missing more than this many steps in a row is a gap, drawn as one. */
const GAP_STEPS = 2.5;

/**
 * Columns for a chart, from `{t: [s], step_s, <name>: [number|null]}`: `[t, ...names]`, with a null put into each
 * gap so that no line is drawn across time in which nothing was measured.
 */
export function columns(samples, names) {
  const gap_s = samples.step_s * GAP_STEPS;
  const out = [[], ...names.map(() => [])];
  samples.t.forEach((at, i) => {
    if (i > 0 && at - samples.t[i - 1] > gap_s) {
      out[0].push((at + samples.t[i - 1]) / 2);
      for (let k = 1; k < out.length; k += 1) out[k].push(null);
    }
    out[0].push(at);
    names.forEach((name, k) => out[k + 1].push(samples[name]?.[i] ?? null));
  });
  return out;
}

/** True when any of these series has a number: what a site does not measure gets no empty chart. */
export function hasAny(samples, names) {
  return names.some((name) => samples[name]?.some((value) => value !== null));
}

/** Bands `[{from, to, kind}]` cut to a span, an open end (null) being the span's; those outside are left out. */
export function bandsWithin(bands, from, to) {
  return bands
    .map((band) => ({ ...band, from: Math.max(from, band.from), to: Math.min(to, band.to ?? to) }))
    .filter((band) => band.to > band.from);
}
