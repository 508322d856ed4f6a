// The outlines over the picture: one SVG path a glomerulus, coloured by its present class.

const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

/** The path of a Polygon or MultiPolygon. */
function outline(geometry) {
  const polygons = geometry.type === "Polygon" ? [geometry.coordinates] : geometry.coordinates;
  const ring = (points) => `M${points.map(([x, y]) => `${x} ${y}`).join("L")}Z`;
  return polygons.flat().map(ring).join("");
}

const layer = svg("svg", { class: "overlay", "aria-hidden": "true" });
const plane = svg("g", {});
const halo = svg("path", { class: "halo" });
plane.append(halo);
for (const glomerulus of glomeruli) {
  glomerulus.outline = outline(glomerulus.geometry);
  glomerulus.path = svg("path", { d: glomerulus.outline, "data-id": glomerulus.id });
  plane.append(glomerulus.path);
}
layer.append(plane);
viewer.canvas.append(layer);

function placeOverlay() {
  const origin = viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
  plane.setAttribute("transform", `translate(${origin.x} ${origin.y}) scale(${screenScale()})`);
}

function shownClasses() {
  return new Set([...document.querySelectorAll("input[name=layer]:checked")].map((box) => box.value));
}

function drawOverlay() {
  const shown = shownClasses();
  for (const g of glomeruli) {
    g.path.dataset.class = g.deleted ? "deleted" : g.name;
    g.path.classList.toggle("selected", g === selected);
    g.path.classList.toggle("hidden", !shown.has(g.name) || (g.deleted && g !== selected));
  }
  halo.setAttribute("d", selected ? selected.outline : "");
}

function setFill() {
  layer.style.setProperty("--fill", Number($("fill").value) / 100);
  $("fill-text").textContent = `${$("fill").value} %`;
}

function glomerulusAt(position) {
  const scale = screenScale();
  const origin = viewer.viewport.pixelFromPoint(new OpenSeadragon.Point(0, 0), true);
  const point = new DOMPoint((position.x - origin.x) / scale, (position.y - origin.y) / scale);
  const shown = shownClasses();
  return glomeruli.find((g) => shown.has(g.name) && !g.deleted && g.path.isPointInFill(point)) ?? null;
}

viewer.addHandler("open", placeOverlay);
viewer.addHandler("update-viewport", placeOverlay);
viewer.addHandler("canvas-click", (event) => {
  if (event.quick) select(glomerulusAt(event.position));
});
for (const box of document.querySelectorAll("input[name=layer]")) box.addEventListener("change", drawOverlay);
$("fill").addEventListener("input", setFill);
setFill();
views.push(drawOverlay);
