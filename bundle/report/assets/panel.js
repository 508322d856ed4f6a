// The figures, and the strip in which the selected glomerulus is corrected.

function median(values) {
  const sorted = values.filter((v) => v !== null).sort((a, b) => a - b);
  if (sorted.length === 0) return null;
  const middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function drawFigures() {
  const present = glomeruli.filter((g) => !g.deleted);
  for (const { name } of data.classes) {
    const own = present.filter((g) => g.name === name);
    const share = present.length ? (100 * own.length) / present.length : null;
    const cells = {
      count: format(own.length),
      share: share === null ? "–" : format(share, 1),
      diameter: format(median(own.map((g) => g.diameter))),
      area: format(median(own.map((g) => g.area))),
      layer: format(own.length),
    };
    for (const [cell, text] of Object.entries(cells)) $(`${cell}-${name}`).textContent = text;
    $(`bar-${name}`).style.flexGrow = own.length;
  }
  $("total").textContent = format(present.length);
  const percent = percentage(present.filter((g) => g.name === "global_sclerosis").length, present.length);
  $("percent").textContent = percent ? format(percent[0], 1) : "–";
  $("interval").textContent = percent ? `${format(percent[1], 1)} to ${format(percent[2], 1)} %` : "–";
}

function drawEditor() {
  $("nothing-selected").hidden = selected !== null;
  $("editor").hidden = selected === null;
  $("chosen").hidden = selected === null;
  if (selected === null) return;
  $("selected-number").textContent = `Glomerulus ${selected.number}`;
  const facts = [];
  if (selected.probability !== null) facts.push(`confidence ${format(selected.probability, 2)}`);
  if (selected.diameter !== null) facts.push(`${format(selected.diameter)} µm across`, `${format(selected.area)} µm²`);
  if (selected.name !== selected.modelClass) facts.push(`model: ${titles[selected.modelClass].toLowerCase()}`);
  if (selected.deleted) facts.push("deleted");
  $("selected-facts").textContent = facts.join(" · ");
  for (const radio of document.querySelectorAll("input[name=class]")) {
    radio.checked = !selected.deleted && radio.value === selected.name;
  }
  $("delete").textContent = selected.deleted ? "Restore" : "Delete";
}

function drawSaving() {
  const changed = glomeruli.filter(isChanged).length;
  $("changes").textContent = changed === 1 ? "1 correction" : `${changed} corrections`;
  $("save").disabled = changed === 0 && !unsaved;
  $("discard").disabled = changed === 0;
  $("save").classList.toggle("unsaved", unsaved);
}

for (const radio of document.querySelectorAll("input[name=class]")) {
  radio.addEventListener("change", () => reclassify(radio.value));
}
$("delete").addEventListener("click", toggleDeleted);
$("previous").addEventListener("click", () => walk(-1));
$("next").addEventListener("click", () => walk(1));
$("save").addEventListener("click", save);
$("discard").addEventListener("click", discardChanges);
views.push(drawFigures, drawEditor, drawSaving);
