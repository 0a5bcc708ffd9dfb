// Each clip is in the page once; a layer's cards are made when it is opened.
const atlas = JSON.parse(document.getElementById("atlas").textContent);

function made(tag, attributes, ...children) {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
}

// Long names go on in the next line after "." and "_".
function breakable(name) {
  return name.split(/([^._]*[._]+)/).filter(Boolean).flatMap((part) => [part, made("wbr", {})]).slice(0, -1);
}

function card(clip, deviations, label) {
  const about = made("p", {}, made("strong", { dir: "auto" }, ...breakable(clip.label)), ` +${deviations.toFixed(1)} SD${clip.is_cut ? ", its beginning" : ""}`);
  const name = made("p", { className: "faint", dir: "ltr" }, ...breakable(clip.id));
  const shown = clip.sound
    ? [
        made("img", { src: clip.picture, alt: `Mel spectrogram of ${clip.id}` }),
        made("audio", { controls: true, preload: "none", src: clip.sound, ariaLabel: clip.id }),
      ]
    : [made("p", { className: "faint" }, `No player: ${clip.why}`)];
  return made("li", { className: clip.label === label ? "" : "other" }, ...shown, about, name);
}

document.querySelectorAll(".layer").forEach((details, number) => {
  const units = new Map(atlas.layers[number].map((unit) => [unit[0], unit]));
  const fill = (list, unit, label) => {
    const [, , , clips, deviations] = units.get(unit);
    list.replaceChildren(...clips.map((clip, place) => card(atlas.clips[clip], deviations[place], label)));
  };
  const open = () => {
    const select = details.querySelector("select");
    if (!details.open || !select || select.length) return;
    details.querySelectorAll("[data-unit]").forEach((list) => fill(list, Number(list.dataset.unit), list.dataset.label));
    const byAuc = [...units.values()].sort((one, other) => other[2] - one[2]);
    select.append(...byAuc.map(([unit, label, auc]) => new Option(`unit ${unit}: ${label}, AUC ${auc.toFixed(2)}`, unit)));
    const choose = () => {
      const unit = Number(select.value);
      fill(details.querySelector(".strip:not([data-unit])"), unit, units.get(unit)[1]);
    };
    select.addEventListener("change", choose);
    choose();
  };
  details.addEventListener("toggle", open);
  open();
});

// One sound at a time.
document.addEventListener("play", (event) => {
  for (const other of document.querySelectorAll("audio")) if (other !== event.target) other.pause();
}, true);
