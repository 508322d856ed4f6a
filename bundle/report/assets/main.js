// Keys for those who read many slides, and the first drawing.

const KEYS = {
  n: () => walk(1),
  p: () => walk(-1),
  Delete: toggleDeleted,
  x: toggleDeleted,
  h: () => {
    layer.classList.toggle("off");
    announce(layer.classList.contains("off") ? "Outlines hidden; h shows them." : "Outlines shown.");
  },
};
data.classes.forEach(({ name }, place) => {
  KEYS[place + 1] = () => reclassify(name);
});

function isTyping(target) {
  return target.closest("select, textarea, input:not([type=radio]):not([type=checkbox])") !== null;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target) || !KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});

window.addEventListener("beforeunload", (event) => {
  if (unsaved) event.preventDefault();
});

if (server && server.tiles) $("resolution-note").textContent = "The server shows every pixel.";
$("save").textContent = server ? "Save corrections" : "Download GeoJSON";
update();
loadSaved();
