// What the map draws for a site or a cluster, on a canvas: shapes by state, and rings that show a mix of states.

import { KINDS, rankOf } from "./states.js";
import { countText } from "./format.js";

/** Sides of the images in CSS pixels. */
export const SITE_PX = { up: 13, unknown: 13, degraded: 19, unreachable: 17, down: 22 };
const TURN = Math.PI * 2;

/** Side of a cluster's ring in CSS pixels, growing with the number of its sites. */
export function ringSide_px(count) {
  return Math.round(28 + Math.min(26, 7 * Math.log10(Math.max(1, count))));
}

/**
 * Shares of a full turn `[[kind, from, to], ...]`, worst first, of counts by kind. A kind that is there at all
 * gets a tenth of a turn at least: one site down among a thousand must be seen.
 */
export function ringShares(counts, least = 0.1) {
  const total = KINDS.reduce((sum, kind) => sum + counts[kind], 0);
  const present = KINDS.filter((kind) => counts[kind] > 0);
  const raised = present.map((kind) => Math.max(least, counts[kind] / total));
  const sum = raised.reduce((a, b) => a + b, 0);
  let from = 0;
  return present.map((kind, i) => {
    const to = i === present.length - 1 ? 1 : from + raised[i] / sum;
    const share = [kind, from, to];
    from = to;
    return share;
  });
}

/** Image id of a cluster with these counts; the map makes it from the cluster's own properties. */
export const RING_PREFIX = "ring";

/** Counts by kind of an image id such as "ring|1|0|0|2|40" (in the order of KINDS), or null. */
export function countsOfRing(id) {
  const [prefix, ...counts] = id.split("|");
  if (prefix !== RING_PREFIX || counts.length !== KINDS.length) return null;
  return Object.fromEntries(KINDS.map((kind, i) => [kind, Number(counts[i])]));
}

function canvas(side_px, ratio) {
  const made = document.createElement("canvas");
  made.width = made.height = Math.ceil(side_px * ratio);
  const context = made.getContext("2d", { willReadFrequently: true });
  context.scale(ratio, ratio);
  return context;
}

function pixels(context) {
  return context.getImageData(0, 0, context.canvas.width, context.canvas.height);
}

const PATHS = {
  up: (c, r) => c.arc(0, 0, r * 0.74, 0, TURN),
  unknown: (c, r) => c.arc(0, 0, r * 0.7, 0, TURN),
  unreachable: (c, r) => c.arc(0, 0, r * 0.72, 0, TURN),
  degraded: (c, r) => {
    c.moveTo(0, -r * 0.86);
    c.lineTo(r * 0.88, r * 0.7);
    c.lineTo(-r * 0.88, r * 0.7);
    c.closePath();
  },
  down: (c, r) => {
    c.moveTo(0, -r * 0.92);
    c.lineTo(r * 0.92, 0);
    c.lineTo(0, r * 0.92);
    c.lineTo(-r * 0.92, 0);
    c.closePath();
  },
};

/** Draws the shape of a kind around (x, y). */
function shape(context, kind, x, y, radius, palette) {
  const hollow = kind === "unknown" || kind === "unreachable";
  context.save();
  context.translate(x, y);
  context.beginPath();
  PATHS[kind](context, radius);
  context.lineJoin = "round";
  // A halo in the colour of the land keeps neighbours apart where many sites crowd.
  context.strokeStyle = palette.halo;
  context.lineWidth = hollow ? 5 : 2.5;
  context.stroke();
  context.fillStyle = hollow ? palette.halo : palette[kind];
  context.fill();
  if (hollow) {
    context.strokeStyle = palette[kind];
    context.lineWidth = kind === "unknown" ? 1.5 : 2.5;
    if (kind === "unreachable") context.setLineDash([radius * 0.84, radius * 0.29]);
    context.stroke();
  }
  context.restore();
}

/** Image of one site. */
export function siteImage(kind, palette, ratio) {
  const side_px = SITE_PX[kind] + 4;
  const context = canvas(side_px, ratio);
  shape(context, kind, side_px / 2, side_px / 2, SITE_PX[kind] / 2, palette);
  return pixels(context);
}

/** Image of a cluster: its mix of states around the number of its sites, and a badge for the worst of them. */
export function ringImage(counts, palette, ratio) {
  const total = KINDS.reduce((sum, kind) => sum + counts[kind], 0);
  const side_px = ringSide_px(total);
  const context = canvas(side_px + 10, ratio);
  const middle = (side_px + 10) / 2;
  const radius = side_px / 2 - 3;
  context.beginPath();
  context.arc(middle, middle, radius + 2, 0, TURN);
  context.fillStyle = palette.halo;
  context.fill();
  arcs(context, counts, palette, middle, radius);
  context.fillStyle = palette.ink;
  context.font = `600 ${total < 1000 ? 11 : 10.5}px ${palette.font}`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.fillText(countText(total), middle, middle + 0.5);
  const worst = KINDS.find((kind) => counts[kind] > 0);
  if (rankOf(worst) < rankOf("unknown")) {
    shape(context, worst, middle + radius * 0.72, middle - radius * 0.72, 6, palette);
  }
  return pixels(context);
}

function arcs(context, counts, palette, middle, radius) {
  const shares = ringShares(counts);
  const gap = shares.length > 1 ? 0.05 : 0;
  context.lineWidth = 4;
  for (const [kind, from, to] of shares) {
    context.beginPath();
    context.arc(middle, middle, radius, from * TURN - TURN / 4 + gap, to * TURN - TURN / 4 - gap);
    context.strokeStyle = palette[kind];
    context.stroke();
  }
}
