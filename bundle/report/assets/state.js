// What the page knows: the glomeruli, which of them is selected, and what the reader changed. Views subscribe.

const data = JSON.parse(document.getElementById("report-data").textContent);
const server = JSON.parse(document.querySelector("meta[name=viewer-server]").content || "null");
const titles = Object.fromEntries(data.classes.map((c) => [c.name, c.title]));

const glomeruli = data.collection.features.map((feature, index) => ({
  ...data.glomeruli[index],
  index,
  number: index + 1,
  id: feature.id,
  geometry: feature.geometry,
  modelClass: feature.properties.classification.name,
  name: feature.properties.classification.name,
  deleted: false,
}));

const views = [];
let selected = null;
let unsaved = false;

const $ = (id) => document.getElementById(id);

function format(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString("en-GB", { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function update() {
  for (const view of views) view();
}

function announce(text, isError = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", isError);
}

function select(glomerulus) {
  selected = glomerulus;
  update();
}

function changeSelected(change, text) {
  if (selected === null) return;
  Object.assign(selected, change);
  unsaved = true;
  update();
  announce(`Glomerulus ${selected.number}: ${text}. Not saved yet.`);
}

function reclassify(name) {
  if (selected && (selected.name !== name || selected.deleted)) {
    changeSelected({ name, deleted: false }, titles[name]);
  }
}

function toggleDeleted() {
  if (selected) changeSelected({ deleted: !selected.deleted }, selected.deleted ? "restored" : "deleted");
}

function isChanged(glomerulus) {
  return glomerulus.deleted || glomerulus.name !== glomerulus.modelClass;
}

function discardChanges() {
  for (const glomerulus of glomeruli) Object.assign(glomerulus, { name: glomerulus.modelClass, deleted: false });
  unsaved = false;
  update();
  announce("All corrections discarded.");
}
