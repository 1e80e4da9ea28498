// What can be read on the page with less contrast than WCAG AA asks for (1.4.3), each in words.
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
canvas.canvas.width = canvas.canvas.height = 1;

// Whatever form a colour has, as red, green, blue and alpha.
function rgba(color) {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}

const over = ([r, g, b, a], below) => [r, g, b].map((part, at) => part * a + below[at] * (1 - a));

function luminance(color) {
  const [r, g, b] = color.map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(one, other) {
  const [dark, light] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function behind(element) {
  const layers = [];
  for (let at = element; at; at = at.parentElement) {
    const box = at.closest("svg") ? at.closest("g")?.querySelector("rect") : undefined;
    layers.push(rgba(box ? getComputedStyle(box).fill : getComputedStyle(at).backgroundColor));
    if (layers.at(-1)[3] === 1) break;
  }
  return layers.reverse().reduce((below, layer) => over(layer, below), [255, 255, 255]);
}

function opacity(element) {
  let all = 1;
  for (let at = element; at; at = at.parentElement) all *= Number(getComputedStyle(at).opacity);
  return all;
}

function check(element, text, found) {
  const style = getComputedStyle(element);
  if (element.disabled || !element.checkVisibility({ visibilityProperty: true }) || !text.trim()) return;
  const color = rgba(element.closest("svg") ? style.fill : style.color);
  color[3] *= opacity(element);
  const below = behind(element);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const ratio = contrast(over(color, below), below);
  if (ratio < (large ? 3 : 4.5)) found.push(`"${text.trim().slice(0, 40)}" ${ratio.toFixed(2)} (${style.color} on ${below.map(Math.round)})`);
  return true;
}

const found = [];
let seen = 0;
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (texts.nextNode()) {
  const element = texts.currentNode.parentElement;
  if (!["SCRIPT", "STYLE", "OPTION"].includes(element.tagName) && check(element, texts.currentNode.data, found)) seen += 1;
}
for (const field of document.querySelectorAll("input:not([type=hidden]), textarea, select")) {
  if (check(field, field.value || field.placeholder || "", found)) seen += 1;
}
return { seen, found: found.slice(0, 10) };
