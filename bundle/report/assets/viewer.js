// The deep-zoom picture: tiles from the page itself, or of full resolution from the server; scale bar; flying.

const zoom = data.zoom;
const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;

function tileSource() {
  const full = server && server.tiles;
  const size = full ? data.slide : { width_px: zoom.width, height_px: zoom.height };
  return new OpenSeadragon.TileSource({
    width: size.width_px,
    height: size.height_px,
    tileWidth: zoom.tile,
    tileHeight: zoom.tile,
    tileOverlap: zoom.overlap,
    minLevel: zoom.minLevel,
    maxLevel: full ? zoom.fullMaxLevel : zoom.maxLevel,
    getTileUrl: (level, x, y) => {
      const tile = `${level}/${x}_${y}`;
      return full ? `${server.tiles}/${tile}.jpeg` : `data:image/jpeg;base64,${zoom.pictures[zoom.tiles[tile]]}`;
    },
    getTileHashKey: (level, x, y) => `${level}/${x}_${y}`,
  });
}

/** Level-0 pixels across the picture's width, which is 1 in the viewport's units. */
const pixelsAcross = server && server.tiles ? data.slide.width_px : zoom.width * zoom.downsample;
const downsample = server && server.tiles ? 1 : zoom.downsample;

const viewer = OpenSeadragon({
  element: $("viewer"),
  drawer: "canvas",
  tileSources: tileSource(),
  showNavigationControl: false,
  showNavigator: true,
  navigatorPosition: "TOP_RIGHT",
  navigatorSizeRatio: 0.16,
  animationTime: calm ? 0 : 0.7,
  gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
  gestureSettingsTouch: { clickToZoom: false, dblClickToZoom: true },
  maxZoomPixelRatio: 2 * downsample,
  visibilityRatio: 0.3,
});

/** CSS pixels per level-0 pixel. */
function screenScale() {
  return (viewer.viewport.getContainerSize().x * viewer.viewport.getZoom(true)) / pixelsAcross;
}

const LEAST_CONTEXT_UM = 300;

function flyTo(glomerulus) {
  const [x, y, side] = glomerulus.window;
  const context = Math.max(2.2 * side, data.slide.mpp ? LEAST_CONTEXT_UM / data.slide.mpp : 0);
  const corner = [x - (context - side) / 2, y - (context - side) / 2];
  const rect = new OpenSeadragon.Rect(...[...corner, context, context].map((v) => v / pixelsAcross));
  viewer.viewport.fitBounds(rect, calm);
}

function drawScaleBar() {
  const micrometres = data.slide.mpp ? data.slide.mpp / screenScale() : null;
  $("scale").hidden = micrometres === null;
  if (micrometres === null) return;
  const most = 130 * micrometres;
  const power = 10 ** Math.floor(Math.log10(most));
  const length = [5, 2, 1].map((digit) => digit * power).find((value) => value <= most);
  $("scale-bar").style.width = `${length / micrometres}px`;
  $("scale-text").textContent = length >= 1000 ? `${length / 1000} mm` : `${length} µm`;
  $("resolution").textContent = `${format(micrometres, 2)} µm per pixel of the screen`;
}

function zoomBy(factor) {
  viewer.viewport.zoomBy(factor);
  viewer.viewport.applyConstraints();
}

$("zoom-in").addEventListener("click", () => zoomBy(1.6));
$("zoom-out").addEventListener("click", () => zoomBy(1 / 1.6));
$("zoom-home").addEventListener("click", () => viewer.viewport.goHome());
viewer.addHandler("open", drawScaleBar);
viewer.addHandler("update-viewport", drawScaleBar);
// Turning and mirroring (r, f) would part picture and outlines; j and k turn pages, of which there is one.
viewer.addHandler("canvas-key", (event) => {
  event.preventDefaultAction = ["r", "f", "j", "k"].includes(event.originalEvent.key.toLowerCase());
});
viewer.canvas.setAttribute("role", "application");
viewer.canvas.setAttribute("aria-label", "Slide: arrow keys move, plus and minus zoom");
