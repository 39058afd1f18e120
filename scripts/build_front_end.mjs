// Copies the front-end packages to static/vendor/ and makes the country shapes and the icon sprite there.
//
// Run by the set-up after `npm ci`. Everything it writes can be thrown away and made again.

import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

import { geoEquirectangular } from "d3-geo";
import { geoProject } from "d3-geo-projection";
import { merge, mesh } from "topojson-client";

const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const modules = join(root, "node_modules");
const vendor = join(root, "static", "vendor");

const COPIES = [
  ["@tabler/core/dist/css/tabler.min.css", "tabler.css"],
  ["maplibre-gl/dist/maplibre-gl.mjs", "maplibre-gl.mjs"],
  ["maplibre-gl/dist/maplibre-gl-worker.mjs", "maplibre-gl-worker.mjs"],
  ["maplibre-gl/dist/maplibre-gl.css", "maplibre-gl.css"],
  ["uplot/dist/uPlot.min.css", "uplot.css"],
];

const FONTS = ["inter-latin-wght-normal.woff2", "inter-latin-ext-wght-normal.woff2"];

const ICONS = [
  "alert-triangle", "arrow-left", "building-factory-2", "check", "chevron-down", "chevron-left", "chevron-right",
  "chevron-up", "clock", "columns-3", "contract", "copy", "cpu", "device-desktop", "device-tv", "dots-vertical", "download",
  "external-link", "filter", "focus-centered", "hand-stop", "history", "info-circle", "keyboard", "list-details",
  "logout", "mail", "map-2", "map-pin", "minus", "moon", "notes", "pencil", "phone", "player-pause", "player-play", "plus",
  "refresh", "search", "server-2", "shield-check", "stack-2", "sun", "table", "target", "upload", "user", "x",
];

/** Text of a file of an installed package. */
const read = (path) => readFile(join(modules, path), "utf8");

/** Source maps are not copied, so a comment that names one would fail the hashing of static files. */
const withoutSourceMap = (text) => text.replace(/(\/\/# sourceMappingURL=\S+\s*$|\/\*# sourceMappingURL=[^*]*\*\/)/gm, "");

async function copyPackages() {
  for (const [from, to] of COPIES) await writeFile(join(vendor, to), withoutSourceMap(await read(from)));
  for (const font of FONTS) {
    await writeFile(join(vendor, font), await readFile(join(modules, "@fontsource-variable/inter/files", font)));
  }
  // The minified build of uPlot is a classic script; its module build is three times the size.
  const uplot = withoutSourceMap(await read("uplot/dist/uPlot.iife.min.js"));
  await writeFile(join(vendor, "uplot.mjs"), `${uplot}\nexport default uPlot;\n`);
}

/** Rounds every coordinate and drops points that fall on the one before. */
function rounded(coordinates, digits) {
  if (typeof coordinates[0] === "number") return coordinates.map((value) => Number(value.toFixed(digits)));
  const out = coordinates.map((part) => rounded(part, digits));
  if (typeof out[0][0] !== "number") return out;
  return out.filter((point, i) => i === 0 || point[0] !== out[i - 1][0] || point[1] !== out[i - 1][1]);
}

/** A ring needs four points and a line two; rounding may leave fewer. */
function withoutCrumbs(geometry) {
  if (geometry.type === "MultiLineString") {
    return { ...geometry, coordinates: geometry.coordinates.filter((line) => line.length > 1) };
  }
  const polygons = geometry.coordinates.map((rings) => rings.filter((ring) => ring.length > 3));
  return { ...geometry, coordinates: polygons.filter((rings) => rings.length > 0) };
}

/**
 * Land and borders of a world-atlas topology as GeoJSON in degrees (the page derives coast lines from the land).
 *
 * Projecting to plain longitude and latitude lets d3 cut whatever crosses the antimeridian; uncut,
 * Russia and Fiji draw a line across the whole map.
 */
function shapes(topology, digits) {
  const { countries } = topology.objects;
  const flat = geoEquirectangular().scale(180 / Math.PI).translate([0, 0]).reflectY(true).precision(0);
  const parts = {
    land: merge(topology, countries.geometries),
    border: mesh(topology, countries, (a, b) => a !== b),
  };
  const features = Object.entries(parts).map(([kind, shape]) => {
    const cut = geoProject(shape, flat);
    const geometry = withoutCrumbs({ type: cut.type, coordinates: rounded(cut.coordinates, digits) });
    return { type: "Feature", properties: { kind }, geometry };
  });
  return { type: "FeatureCollection", features };
}

async function makeShapes() {
  for (const [scale, digits] of [["110m", 2], ["50m", 2]]) {
    const topology = JSON.parse(await read(`world-atlas/countries-${scale}.json`));
    await writeFile(join(vendor, `countries-${scale}.json`), JSON.stringify(shapes(topology, digits)));
  }
}

async function makeSprite() {
  const symbols = [];
  for (const name of ICONS) {
    const svg = await read(`@tabler/icons/icons/outline/${name}.svg`);
    const body = svg.slice(svg.indexOf(">", svg.indexOf("<svg")) + 1, svg.lastIndexOf("</svg>"));
    symbols.push(`<symbol id="${name}" viewBox="0 0 24 24">${body.replace(/\s*\n\s*/g, "")}</symbol>`);
  }
  await writeFile(join(vendor, "icons.svg"), `<svg xmlns="http://www.w3.org/2000/svg">${symbols.join("")}</svg>\n`);
}

await rm(vendor, { recursive: true, force: true });
await mkdir(vendor, { recursive: true });
await Promise.all([copyPackages(), makeShapes(), makeSprite()]);
