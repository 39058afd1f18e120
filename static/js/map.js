// The live map: sites by shape and colour, clusters as rings, hover, click and selection. Knows no URL and no panel.
//
// Emits on its element: "map:pick" (detail: slug). The list beside it is the way for who cannot use a map.

import * as maplibre from "../vendor/maplibre-gl.mjs";

import { ageText } from "./format.js";
import { serverNow_ms } from "./live.js";
import { FINE_ZOOM, fetchShapes, mapStyle, readPalette } from "./map_style.js";
import { countsOfRing, ringImage, siteImage } from "./rings.js";
import { KINDS, LABELS } from "./states.js";

const MAX_ZOOM = 13;
const SITE_ZOOM = 6;
const FIT_ZOOM = 7;
const RINGS_KEPT = 600;

const feature = (site) => ({
  type: "Feature",
  id: site.id,
  properties: { kind: site.kind, slug: site.slug, name: site.name },
  geometry: { type: "Point", coordinates: [site.lon, site.lat] },
});

const calm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** The map of one fleet. */
export class FleetMap {
  /**
   * `element` carries data-worker-url, data-shapes-coarse, data-shapes-fine and data-tiles. Sites of the fleet that
   * pass are in the very first picture, and in view.
   */
  constructor(element, fleet, passes = () => true) {
    this.element = element;
    this.fleet = fleet;
    this.passes = passes;
    this.shown = new Set();
    this.rings = 0;
    this.picked = [];
    this.data = { sites: this.collection() };
    this.palette = readPalette();
    this.ratio = Math.min(2, Math.max(1, window.devicePixelRatio));
    maplibre.setWorkerUrl(new URL(element.dataset.workerUrl, location.href).href);
    this.map = new maplibre.Map({
      container: element,
      style: this.style(),
      attributionControl: false,
      dragRotate: false,
      pitchWithRotate: false,
      maxZoom: MAX_ZOOM,
      minZoom: 0.6,
      ...this.firstView(),
      fadeDuration: 0,
    });
    this.map.touchZoomRotate.disableRotation();
    this.map.keyboard.disableRotation();
    this.map.setMissingStyleImageResolver((id) => this.makeImage(id));
    this.ready = new Promise((done) => this.map.once("load", done));
    this.drawn = new Promise((done) => this.map.on("render", () => this.map.getSource("sites") && this.map.isSourceLoaded("sites") && done()));
    this.drawn.then(() => {
      performance.mark("sites-drawn");
      element.setAttribute("data-drawn", "");
    });
    this.listen();
    this.loadShapes("coarse");
  }

  style() {
    return mapStyle(this.palette, this.data, this.element.dataset.tiles);
  }

  firstView() {
    const box = this.fleet.bounds(this.passes) ?? this.fleet.bounds();
    if (!box) return { center: [10, 40], zoom: 2 };
    return { bounds: box, fitBoundsOptions: { padding: this.padding(), maxZoom: FIT_ZOOM } };
  }

  makeImage(id) {
    const options = { pixelRatio: this.ratio };
    if (this.map.hasImage(id)) return;
    if (id.startsWith("site-")) {
      this.map.addImage(id, siteImage(id.slice("site-".length), this.palette, this.ratio), options);
      return;
    }
    const counts = countsOfRing(id);
    if (!counts) return;
    this.dropOldRings();
    this.map.addImage(id, ringImage(counts, this.palette, this.ratio), options);
  }

  /** Each mix of states is an image of its own; those of mixes long gone must not pile up over days. */
  dropOldRings() {
    this.rings += 1;
    if (this.rings < RINGS_KEPT) return;
    const rings = this.map.listImages().filter((id) => countsOfRing(id));
    const drawn = new Set(
      this.map.queryRenderedFeatures({ layers: ["clusters"] })
        .map(({ properties }) => ["ring", ...KINDS.map((kind) => properties[kind])].join("|")),
    );
    for (const id of rings) if (!drawn.has(id)) this.map.removeImage(id);
    this.rings = drawn.size;
  }

  async loadShapes(name) {
    if (this.data[name]) return;
    this.data[name] = { type: "FeatureCollection", features: [] };
    const url = name === "fine" ? this.element.dataset.shapesFine : this.element.dataset.shapesCoarse;
    this.data[name] = await fetchShapes(url);
    await this.ready;
    this.map.getSource(name).setData(this.data[name]);
    if (name === "fine") {
      for (const part of ["fill", "border", "coast"]) this.map.setLayerZoomRange(`coarse-${part}`, 0, FINE_ZOOM);
    }
  }

  listen() {
    const { map } = this;
    map.on("zoomend", () => {
      if (map.getZoom() >= FINE_ZOOM - 0.25) this.loadShapes("fine");
    });
    map.on("click", (event) => this.onClick(event));
    map.on("mousemove", (event) => this.onMove(event));
    map.on("mouseout", () => this.tip(null));
    map.on("movestart", () => this.tip(null));
    document.addEventListener("theme:change", () => this.repaint());
  }

  repaint() {
    this.palette = readPalette();
    this.data.sites = this.collection();
    this.data.selected = this.marks();
    this.rings = 0;
    this.map.setStyle(this.style(), { diff: false });
  }

  collection() {
    const features = [];
    this.shown.clear();
    for (const site of this.fleet.sites.values()) {
      if (!this.passes(site)) continue;
      this.shown.add(site.id);
      features.push(feature(site));
    }
    return { type: "FeatureCollection", features };
  }

  /** Draws the fleet as it is now, those that pass; to be called after a snapshot or a change of filters. */
  async draw(passes = this.passes) {
    this.passes = passes;
    await this.ready;
    this.map.getSource("sites").setData(this.collection());
  }

  /** Draws what changed, and only that. */
  async change(sites) {
    await this.ready;
    const diff = { add: [], remove: [], update: [] };
    for (const site of sites) {
      const passes = this.passes(site);
      const was = this.shown.has(site.id);
      if (passes && was) {
        diff.update.push({ id: site.id, addOrUpdateProperties: [{ key: "kind", value: site.kind }] });
      } else if (passes) {
        diff.add.push(feature(site));
        this.shown.add(site.id);
      } else if (was) {
        diff.remove.push(site.id);
        this.shown.delete(site.id);
      }
    }
    this.map.getSource("sites").updateData(diff);
    if (!calm()) this.ripple(sites.filter((site) => this.passes(site)));
  }

  /** A short ripple where something changed: the eye finds it, and it is gone in a second. */
  ripple(sites) {
    for (const site of sites.slice(0, 20)) {
      const mark = document.createElement("div");
      mark.className = `ripple is-${site.kind}`;
      const marker = new maplibre.Marker({ element: mark }).setLngLat([site.lon, site.lat]).addTo(this.map);
      setTimeout(() => marker.remove(), 1600);
    }
  }

  /** Marks a site (or none) as selected, and brings it into view within `fly_ms` (null: leaves the view alone). */
  async select(site, fly_ms = null) {
    this.selected = site;
    if (site && fly_ms !== null) {
      const zoom = Math.max(SITE_ZOOM, this.map.getZoom());
      const duration = calm() ? 0 : fly_ms;
      this.map.easeTo({ center: [site.lon, site.lat], zoom, duration, padding: this.padding() });
    }
    await this.ready;
    this.map.getSource("selected").setData(this.marks());
  }

  /** Marks these sites as picked, beside the one that is selected. */
  async mark(sites) {
    if (sites.length === 0 && this.picked.length === 0) return;
    this.picked = sites;
    await this.ready;
    this.map.getSource("selected").setData(this.marks());
  }

  marks() {
    const sites = this.selected ? [this.selected, ...this.picked] : this.picked;
    return { type: "FeatureCollection", features: sites.map(feature) };
  }

  /** Where a site is drawn, in pixels from the map's corner. */
  place(site) {
    const { x, y } = this.map.project([site.lon, site.lat]);
    return [x, y];
  }

  /** Room that panels over the map take, in pixels, from the page's own layout. */
  padding() {
    const style = getComputedStyle(this.element);
    const side = (name) => Number.parseFloat(style.getPropertyValue(`--pad-${name}`)) || 24;
    return { top: side("top"), right: side("right"), bottom: side("bottom"), left: side("left") };
  }

  /** Fits a box `[west, south, east, north]`. */
  fit(box, { duration = 0, maxZoom = FIT_ZOOM } = {}) {
    if (!box) return;
    this.map.fitBounds(box, { padding: this.padding(), maxZoom, duration: calm() ? 0 : duration });
  }

  zoom(step) {
    this.map.easeTo({ zoom: this.map.getZoom() + step, duration: calm() ? 0 : 200 });
  }

  at(event) {
    const { x, y } = event.point;
    const box = [[x - 4, y - 4], [x + 4, y + 4]];
    return this.map.queryRenderedFeatures(box, { layers: ["sites", "clusters"] });
  }

  async onClick(event) {
    const found = this.at(event);
    if (found.length === 0) return;
    const cluster = found.find(({ properties }) => properties.cluster);
    if (cluster && !found.some(({ properties }) => !properties.cluster)) {
      const zoom = await this.map.getSource("sites").getClusterExpansionZoom(cluster.properties.cluster_id);
      this.map.easeTo({ center: cluster.geometry.coordinates, zoom: zoom + 0.3, duration: calm() ? 0 : 400 });
      return;
    }
    // Sites may share a place: each click takes the next one.
    const slugs = found.filter(({ properties }) => !properties.cluster).map(({ properties }) => properties.slug);
    const next = slugs[(slugs.indexOf(this.selected?.slug) + 1) % slugs.length];
    this.element.dispatchEvent(new CustomEvent("map:pick", { detail: next, bubbles: true }));
  }

  onMove(event) {
    const [found] = this.at(event);
    this.map.getCanvas().classList.toggle("is-pointing", Boolean(found));
    this.tip(found, event.point);
  }

  tip(found, where) {
    const tip = this.element.parentElement.querySelector("[data-map-tip]");
    tip.hidden = !found;
    if (!found) return;
    const { properties } = found;
    const site = this.fleet.bySlug.get(properties.slug);
    tip.querySelector("[data-tip-name]").textContent = properties.cluster ? `${properties.point_count} sites` : properties.name;
    tip.querySelector("[data-tip-state]").textContent = site
      ? `${LABELS[site.kind]} for ${ageText(serverNow_ms() / 1000 - site.since)} · ${site.providerName}`
      : KINDS.filter((kind) => properties[kind]).map((kind) => `${properties[kind]} ${LABELS[kind].toLowerCase()}`).join(", ");
    const width = this.element.clientWidth;
    tip.style.transform = `translate(${Math.min(where.x + 14, width - 240)}px, ${where.y + 14}px)`;
  }
}
