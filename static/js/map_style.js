// The map's style, made from the page's own colours, and the shapes of the land.

import { KINDS, rankOf } from "./states.js";
import { RING_PREFIX } from "./rings.js";

const EMPTY = { type: "FeatureCollection", features: [] };

/** From this zoom on, the finer shapes are drawn. */
export const FINE_ZOOM = 4;

/** Colours of the page's theme, and its font, for canvas and map. */
export function readPalette() {
  const style = getComputedStyle(document.documentElement);
  const value = (name) => style.getPropertyValue(name).trim();
  return {
    ...Object.fromEntries(KINDS.map((kind) => [kind, value(`--state-${kind}`)])),
    sea: value("--map-sea"),
    land: value("--map-land"),
    coast: value("--map-coast"),
    border: value("--map-border"),
    label: value("--map-label"),
    halo: value("--map-halo"),
    ink: value("--ink"),
    accent: value("--accent"),
    font: value("--tblr-font-sans-serif"),
  };
}

/** Coast lines of land: its rings without the edges where the map was cut (antimeridian, poles). */
export function coastOf(land) {
  const isCut = (a, b) => (Math.abs(a[0]) === 180 && a[0] === b[0]) || (Math.abs(a[1]) === 90 && a[1] === b[1]);
  const lines = [];
  for (const ring of land.coordinates.flat()) {
    let line = [ring[0]];
    for (let i = 1; i < ring.length; i += 1) {
      if (isCut(ring[i - 1], ring[i])) {
        if (line.length > 1) lines.push(line);
        line = [];
      }
      line.push(ring[i]);
    }
    if (line.length > 1) lines.push(line);
  }
  return { type: "Feature", properties: { kind: "coast" }, geometry: { type: "MultiLineString", coordinates: lines } };
}

/** Fetches shapes and adds their coast lines. */
export async function fetchShapes(url) {
  const shapes = await (await fetch(url)).json();
  const land = shapes.features.find((feature) => feature.properties.kind === "land");
  shapes.features.push(coastOf(land.geometry));
  return shapes;
}

function shapeLayers(source, palette, zooms) {
  const kind = (name) => ["==", ["get", "kind"], name];
  const width = (thin, thick) => ["interpolate", ["linear"], ["zoom"], 1, thin, 8, thick];
  return [
    { id: `${source}-fill`, type: "fill", source, ...zooms, filter: kind("land"), paint: { "fill-color": palette.land } },
    {
      id: `${source}-border`, type: "line", source, ...zooms, filter: kind("border"),
      paint: { "line-color": palette.border, "line-width": width(0.6, 1.4) },
    },
    {
      id: `${source}-coast`, type: "line", source, ...zooms, filter: kind("coast"),
      paint: { "line-color": palette.coast, "line-width": width(0.7, 1.4) },
    },
  ];
}

function siteLayers(palette) {
  const isCluster = ["has", "point_count"];
  const ring = KINDS.flatMap((kind) => ["|", ["to-string", ["get", kind]]]);
  const badness = ["match", ["get", "kind"], ...KINDS.flatMap((kind) => [kind, 9 - rankOf(kind)]), 0];
  const icons = { "icon-allow-overlap": true, "icon-ignore-placement": true };
  return [
    {
      id: "selected", type: "circle", source: "selected",
      paint: {
        "circle-color": palette.accent, "circle-opacity": 0.18, "circle-radius": 13,
        "circle-stroke-color": palette.accent, "circle-stroke-width": 2,
      },
    },
    {
      id: "sites", type: "symbol", source: "sites", filter: ["!", isCluster],
      layout: { ...icons, "icon-image": ["concat", "site-", ["get", "kind"]], "symbol-sort-key": badness },
    },
    {
      id: "clusters", type: "symbol", source: "sites", filter: isCluster,
      layout: { ...icons, "icon-image": ["concat", RING_PREFIX, ...ring], "symbol-sort-key": ["get", "point_count"] },
    },
    {
      id: "names", type: "symbol", source: "sites", filter: ["!", isCluster], minzoom: 5,
      layout: {
        "text-field": ["get", "name"], "text-size": 11, "text-font": ["Inter Variable"], "text-optional": true,
        "text-variable-anchor": ["left", "right", "top", "bottom"], "text-radial-offset": 1.25, "text-max-width": 20,
        "symbol-sort-key": ["-", 0, badness],
      },
      paint: { "text-color": palette.label, "text-halo-color": palette.halo, "text-halo-width": 1.4 },
    },
  ];
}

/** Counts by kind of each cluster, kept by the map itself. */
const clusterProperties = Object.fromEntries(
  KINDS.map((kind) => [kind, ["+", ["case", ["==", ["get", "kind"], kind], 1, 0]]]),
);

/**
 * The whole style. `data` holds GeoJSON for `coarse`, `fine`, `sites`, `selected` (each may be missing);
 * `tiles` is a raster tile URL or "".
 */
export function mapStyle(palette, data, tiles) {
  const geojson = (name, more = {}) => ({ type: "geojson", data: data[name] ?? EMPTY, ...more });
  const sources = {
    coarse: geojson("coarse", { tolerance: 0.2 }),
    fine: geojson("fine", { tolerance: 0.2 }),
    selected: geojson("selected"),
    sites: geojson("sites", { cluster: true, clusterRadius: 26, clusterMaxZoom: 11, clusterMinPoints: 3, clusterProperties }),
  };
  const base = [
    { id: "sea", type: "background", paint: { "background-color": palette.sea } },
    ...shapeLayers("coarse", palette, data.fine ? { maxzoom: FINE_ZOOM } : {}),
    ...shapeLayers("fine", palette, { minzoom: FINE_ZOOM }),
  ];
  if (tiles) {
    sources.tiles = { type: "raster", tiles: [tiles], tileSize: 256 };
    base.push({ id: "tiles", type: "raster", source: "tiles" });
  }
  return { version: 8, sources, layers: [...base, ...siteLayers(palette)] };
}
