// A picture of every glomerulus, by class and confidence. One of them is in the tab order; arrow keys move on.

const ORDERS = {
  uncertain: (a, b) => (a.probability ?? 0) - (b.probability ?? 0),
  certain: (a, b) => (b.probability ?? 0) - (a.probability ?? 0),
  large: (a, b) => (b.area ?? 0) - (a.area ?? 0),
  number: (a, b) => a.number - b.number,
};

function describe(g) {
  const size = g.diameter === null ? "" : `, ${format(g.diameter)} µm across`;
  const certainty = g.probability === null ? "" : `, confidence ${format(g.probability, 2)}`;
  return `Glomerulus ${g.number}, ${g.deleted ? "deleted" : titles[g.name]}${certainty}${size}`;
}

function makeCrop(g) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "crop";
  button.dataset.id = g.id;
  const picture = document.createElement("img");
  picture.src = `data:image/jpeg;base64,${g.picture}`;
  picture.alt = "";
  const drawing = svg("svg", { viewBox: [...g.window, g.window[2]].join(" "), "aria-hidden": "true" });
  drawing.append(svg("path", { d: g.outline }));
  const caption = document.createElement("span");
  caption.className = "caption";
  for (const text of [g.number, format(g.probability, 2), g.diameter === null ? "" : `${format(g.diameter)} µm`]) {
    const part = document.createElement("span");
    part.textContent = text;
    caption.append(part);
  }
  button.append(picture, drawing, caption);
  button.addEventListener("click", () => {
    select(g);
    flyTo(g);
    showViewer();
  });
  return button;
}

/** On a narrow screen the picture may be out of sight. */
function showViewer() {
  const box = $("viewer").getBoundingClientRect();
  if (box.bottom > 120 && box.top < window.innerHeight - 120) return;
  $("viewer").scrollIntoView({ block: "start", behavior: calm ? "auto" : "smooth" });
}

function groupOf(g) {
  return $(`crops-${g.deleted ? "deleted" : g.name}`);
}

function inOrder() {
  const order = ORDERS[$("order").value];
  const groups = [...data.classes.map((c) => c.name), "deleted"];
  const rank = (g) => groups.indexOf(g.deleted ? "deleted" : g.name);
  return [...glomeruli].sort((a, b) => rank(a) - rank(b) || order(a, b) || a.number - b.number);
}

function drawGallery() {
  const focused = document.activeElement;
  const sorted = inOrder();
  for (const g of sorted) {
    g.crop.dataset.class = g.deleted ? "deleted" : g.name;
    g.crop.classList.toggle("changed", isChanged(g));
    g.crop.setAttribute("aria-label", describe(g));
    if (g === selected) g.crop.setAttribute("aria-current", "true");
    else g.crop.removeAttribute("aria-current");
    g.crop.tabIndex = g === (selected ?? sorted[0]) ? 0 : -1;
    groupOf(g).append(g.crop);
  }
  for (const section of document.querySelectorAll(".group")) {
    const count = section.querySelectorAll(".crop").length;
    section.querySelector(".group-count").textContent = count;
    section.hidden = count === 0;
  }
  if (focused && focused.classList.contains("crop")) focused.focus({ preventScroll: true });
}

/** Select the glomerulus `step` places further in the gallery. */
function walk(step) {
  const sorted = inOrder();
  if (sorted.length === 0) return;
  const place = selected ? sorted.indexOf(selected) + step : step > 0 ? 0 : -1;
  const next = sorted.at(place % sorted.length);
  select(next);
  flyTo(next);
  next.crop.scrollIntoView({ block: "nearest" });
}

function moveFocus(event) {
  const crops = [...$("gallery").querySelectorAll(".crop")];
  const place = crops.indexOf(event.target);
  const target = {
    ArrowRight: place + 1,
    ArrowDown: place + 1,
    ArrowLeft: place - 1,
    ArrowUp: place - 1,
    Home: 0,
    End: crops.length - 1,
  }[event.key];
  if (place < 0 || target === undefined || !crops[target]) return;
  event.preventDefault();
  event.target.tabIndex = -1;
  crops[target].tabIndex = 0;
  crops[target].focus();
}

for (const glomerulus of glomeruli) glomerulus.crop = makeCrop(glomerulus);
$("order").addEventListener("change", drawGallery);
$("gallery").addEventListener("keydown", moveFocus);
views.push(drawGallery);
