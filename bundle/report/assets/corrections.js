// Corrections as a GeoJSON: a download from the page alone; under scripts/view.py the server applies and writes them.
// bundle/report/corrections.py does the same; both must write the same document.

const MODEL_CLASS = "Class by the model";

function corrections() {
  const kept = glomeruli.filter((g) => !g.deleted && isChanged(g));
  return {
    reclassified: Object.fromEntries(kept.map((g) => [g.id, g.name])),
    deleted: glomeruli.filter((g) => g.deleted).map((g) => g.id),
  };
}

function correctedCollection() {
  const { reclassified, deleted } = corrections();
  const colours = Object.fromEntries(data.classes.map((c) => [c.name, c.rgb]));
  const changed = {};
  const features = data.collection.features.filter((f) => !deleted.includes(f.id)).map((feature) => {
    const name = reclassified[feature.id];
    if (name === undefined) return feature;
    const from = feature.properties.classification.name;
    changed[feature.id] = { from, to: name };
    const classification = { name, color: colours[name] };
    const metadata = { ...feature.properties.metadata, [MODEL_CLASS]: from };
    return { ...feature, properties: { ...feature.properties, classification, metadata } };
  });
  return { ...data.collection, features, corrections: { reclassified: changed, deleted: [...deleted].sort() } };
}

function download(name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([JSON.stringify(correctedCollection())], { type: "application/geo+json" }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
}

async function post() {
  const response = await fetch(server.save, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(corrections()),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer.saved;
}

async function save() {
  try {
    const name = "glomeruli_corrected.geojson";
    if (server) announce(`Saved as ${await post()}; glomeruli.geojson is as it was.`);
    else {
      download(name);
      announce(`${name} goes to your downloads.`);
    }
    unsaved = false;
    update();
  } catch (error) {
    announce(`Not saved: ${error.message}`, true);
  }
}

/** Take over what an earlier session saved on the server. */
async function loadSaved() {
  if (!server || !server.corrected) return;
  const response = await fetch(server.corrected);
  if (!response.ok) return;
  const saved = new Map((await response.json()).features.map((f) => [f.id, f.properties.classification.name]));
  for (const glomerulus of glomeruli) {
    glomerulus.deleted = !saved.has(glomerulus.id);
    glomerulus.name = saved.get(glomerulus.id) ?? glomerulus.modelClass;
  }
  update();
  announce("Earlier corrections were loaded.");
}
