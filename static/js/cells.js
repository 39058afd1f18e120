// Cells of a rollout: one per site, by wave; how they lie in a column, and how each is drawn. Pure but for the canvas.

/** What flags of a cell mean; see selectors/watching.py. */
export const LANE = 1;
export const FROZEN = 2;
const SIDES = [
  [60, 20],
  [400, 15],
  [2000, 11],
  [Infinity, 8],
];

/** Side of a cell with its gap, in CSS pixels, in a wave of so many sites. */
export function side_px(count) {
  return SIDES.find(([most]) => count <= most)[1];
}

/** How `count` cells lie in `width_px`: side, columns, rows, height. */
export function layout(count, width_px) {
  const side = side_px(count);
  const columns = Math.max(1, Math.floor(width_px / side));
  const rows = Math.ceil(count / columns);
  return { side, columns, rows, height: Math.max(1, rows) * side };
}

/** Index of the cell at a point of the column, or -1. */
export function indexAt({ side, columns }, count, x, y) {
  const column = Math.floor(x / side);
  const index = Math.floor(y / side) * columns + column;
  return x >= 0 && y >= 0 && column < columns && index < count ? index : -1;
}

/** Index after an arrow key, kept inside. */
export function moved({ columns }, count, index, key) {
  const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns, Home: -count, End: count };
  if (!(key in steps)) return index;
  return Math.min(count - 1, Math.max(0, index + steps[key]));
}

/** The steps of one rollout in memory: a snapshot, and the deltas that came after it. */
export class Cells {
  constructor() {
    this.waves = new Map();
    this.bySite = new Map();
    this.states = [];
    this.plan = "";
    this.as_of = 0;
  }

  /** Replaces everything by an answer of cells.json. */
  load(answer) {
    this.waves.clear();
    this.bySite.clear();
    this.states = answer.states;
    this.plan = answer.plan;
    this.as_of = answer.as_of;
    for (const [site, wave, state, flags, since, why, slug, name] of answer.cells) {
      const cells = this.waves.get(wave) ?? [];
      if (cells.length === 0) this.waves.set(wave, cells);
      const cell = { site, wave, state, flags, since, why, slug, name, index: cells.length };
      cells.push(cell);
      this.bySite.set(site, cell);
    }
  }

  /** Takes an answer of cells.json?since=; the cells that changed, or null where everything must be asked anew. */
  merge(answer) {
    if (answer.plan !== this.plan) return null;
    const changed = [];
    for (const [site, , state, flags, since, why] of answer.cells) {
      const cell = this.bySite.get(site);
      if (!cell) return null;
      if (cell.state === state && cell.flags === flags && cell.since === since && cell.why === why) continue;
      Object.assign(cell, { state, flags, since, why });
      changed.push(cell);
    }
    this.as_of = answer.as_of;
    return changed;
  }

  /** Group of a cell: its shape and its colour. */
  group(cell) {
    return this.states[cell.state]?.group ?? "wait";
  }

  /** What a cell says to people. */
  says(cell) {
    const frozen = cell.flags & FROZEN ? ", frozen" : "";
    const why = cell.why ? `: ${cell.why.replaceAll("_", " ")}` : "";
    return `${this.states[cell.state]?.label ?? ""}${frozen}${why}`;
  }
}

const outline = (c, a, dash = []) => {
  c.setLineDash(dash);
  c.lineWidth = a > 9 ? 1.5 : 1;
  c.strokeRect(c.lineWidth / 2, c.lineWidth / 2, a - c.lineWidth, a - c.lineWidth);
  c.setLineDash([]);
};
const path = (c, points) => {
  c.beginPath();
  points.forEach(([x, y], i) => (i === 0 ? c.moveTo(x, y) : c.lineTo(x, y)));
};

/** The same shapes as static/img/steps.svg, in a square of side `a`. */
const SHAPES = {
  proven: (c, a) => c.fillRect(0, 0, a, a),
  soaking: (c, a) => {
    c.fillRect(0, 0, a, a);
    c.clearRect(a * 0.33, a * 0.33, a * 0.34, a * 0.34);
  },
  work: (c, a) => {
    outline(c, a);
    c.fillRect(0, a / 2, a, a / 2);
  },
  doubt: (c, a) => {
    path(c, [[a / 2, 0.5], [a - 0.5, a / 2], [a / 2, a - 0.5], [0.5, a / 2]]);
    c.closePath();
    c.lineWidth = Math.max(1.2, a * 0.14);
    c.stroke();
  },
  failed: (c, a) => {
    c.lineWidth = Math.max(1.8, a * 0.22);
    for (const [from, to] of [[0.08, 0.92], [0.92, 0.08]]) {
      path(c, [[a * from, a * 0.08], [a * to, a * 0.92]]);
      c.stroke();
    }
  },
  back: (c, a) => {
    path(c, [[a, 0], [a, a], [0, a / 2]]);
    c.fill();
  },
  returned: (c, a) => {
    path(c, [[a - 0.8, 0.8], [a - 0.8, a - 0.8], [1, a / 2]]);
    c.closePath();
    c.lineWidth = 1.2;
    c.stroke();
  },
  wait: (c, a) => outline(c, a),
  left: (c, a) => outline(c, a, [2, 2]),
  skipped: (c, a) => {
    c.lineWidth = Math.max(1.2, a * 0.16);
    path(c, [[0, a / 2], [a, a / 2]]);
    c.stroke();
  },
};

/** Draws one cell of a column; `colours` by group and `ink` for the one that is chosen. */
export function drawCell(context, { side, columns }, index, group, colours, { chosen = false, frozen = false } = {}) {
  const x = (index % columns) * side;
  const y = Math.floor(index / columns) * side;
  const gap = side > 12 ? 4 : 2;
  context.save();
  context.clearRect(x, y, side, side);
  context.translate(x + gap / 2, y + gap / 2);
  context.fillStyle = context.strokeStyle = colours[group];
  SHAPES[group](context, side - gap);
  if (frozen) {
    context.fillStyle = colours.ink;
    context.fillRect(0, 0, side - gap, Math.max(1, side * 0.12));
  }
  if (chosen) {
    context.strokeStyle = colours.ink;
    context.lineWidth = 1.5;
    context.strokeRect(-gap / 2 + 0.75, -gap / 2 + 0.75, side - 1.5, side - 1.5);
  }
  context.restore();
}
