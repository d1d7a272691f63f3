// Arrays as numbers on colours: warm is positive, cold negative, strong far from 0.

const data = JSON.parse(document.getElementById("data").textContent);
let allDigits = false;

function make(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "path", "text", "title"].includes(tag);
  const found = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) found.setAttribute(name, value);
  found.append(...children);
  return found;
}

const shapeText = shape => `(${shape.join(", ")}${shape.length === 1 ? "," : ""})`;

function digits(x) {
  if (typeof x !== "number" || allDigits || Number.isInteger(x)) return String(x);
  return String(Number(x.toPrecision(4)));
}

function strength(a) {
  return Math.max(Math.abs(a.low ?? 0), Math.abs(a.high ?? 0)) || 1;
}

function colour(x, top) {
  if (typeof x !== "number" || x === 0) return "transparent";
  const share = Math.min(Math.abs(x) / top, 1);
  return `rgb(var(--${x > 0 ? "warm" : "cold"}) / ${(0.08 + 0.62 * share).toFixed(3)})`;
}

function table(a) {
  const top = strength(a), body = make("tbody");
  for (let r = 0; r < a.rows; r++) {
    const row = make("tr");
    for (let c = 0; c < a.cols; c++) {
      const x = a.full[r * a.cols + c];
      const cell = make("td", { title: String(x), class: x === 0 ? "zero" : "" }, typeof x === "number" ? digits(x) : String(x));
      cell.style.background = colour(x, top);
      row.append(cell);
    }
    body.append(row);
  }
  return make("div", { class: "scroll", tabindex: 0 }, make("table", { class: "numbers" }, body));
}

function heat(a) {
  const rows = a.full ? a.rows : a.coarse.length, cols = a.full ? a.cols : a.coarse[0].length;
  const at = (r, c) => (a.full ? a.full[r * a.cols + c] : a.coarse[r][c]);
  const size = Math.max(3, Math.min(14, Math.floor(300 / Math.max(rows, cols))));
  const canvas = make("canvas", { width: cols * size, height: rows * size, role: "img",
                                  "aria-label": `heat map of ${rows} by ${cols} numbers` });
  const pen = canvas.getContext("2d"), style = getComputedStyle(document.documentElement);
  const top = a.full ? strength(a) : Math.max(...a.coarse.flat().map(Math.abs)) || 1;
  const tones = { 1: style.getPropertyValue("--warm"), "-1": style.getPropertyValue("--cold") };
  for (let r = 0; r < rows; r++)
    for (let c = 0; c < cols; c++) {
      const x = at(r, c);
      if (typeof x !== "number" || x === 0) continue;
      pen.fillStyle = `rgb(${tones[Math.sign(x)]} / ${(0.06 + 0.9 * Math.min(Math.abs(x) / top, 1)).toFixed(3)})`;
      pen.fillRect(c * size, r * size, size, size);
    }
  canvas.onmousemove = event => {
    const r = Math.floor(event.offsetY / size), c = Math.floor(event.offsetX / size);
    if (r < rows && c < cols) canvas.title = `[${r}, ${c}] ${at(r, c)}${a.full ? "" : " (mean of a block)"}`;
  };
  return canvas;
}

// A figure of array number k under its name.
function figure(k, name, words = "") {
  if (k === null || k === undefined) return make("span");
  const a = data.arrays[k], caption = make("figcaption", {}, make("b", {}, name), ` ${shapeText(a.shape)} ${a.dtype}`);
  if (words) caption.append(make("span", { class: "soft" }, ` ${words}`));
  const small = a.full && a.cols <= 12 && a.full.length <= 160;
  const found = make("figure", {}, caption, !a.rows || !a.cols ? make("span", { class: "soft" }, "empty") : small ? table(a) : heat(a));
  if (!small && a.low !== undefined)
    found.append(make("div", { class: "soft" }, `from ${digits(a.low)} to ${digits(a.high)}, mean ${digits(a.mean)}`));
  if (!small && a.full && a.full.length <= 4096) {
    const more = make("details", {}, make("summary", {}, "numbers"));
    more.addEventListener("toggle", () => { if (more.open && more.children.length === 1) more.append(table(a)); });
    found.append(more);
  }
  return found;
}
