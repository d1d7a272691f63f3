// A card per step, and the keys that turn them.

let current = 0;
const byId = id => document.getElementById(id);

function sourceLine(card) {
  if (!card.source) return [];
  const line = make("pre"), at = card.expression ? card.source.indexOf(card.expression) : -1;
  if (at < 0) line.append(card.source);
  else line.append(card.source.slice(0, at), make("mark", {}, card.expression), card.source.slice(at + card.expression.length));
  return [make("h3", {}, `Your line · ${card.place}`), line];
}

function ruleParts(card) {
  const found = [make("h3", {}, `The rule · ${card.where}`)];
  if (card.math) { const math = make("div"); math.innerHTML = card.math; found.push(math); }
  found.push(make("pre", {}, card.rule));
  if (card.here.length) {
    const here = make("div", { class: "soft" }, "where ");
    card.here.forEach(([name, stands], k) => here.append(k ? ", " : "", make("code", {}, name), " is ", make("code", {}, stands)));
    found.push(here);
  }
  for (const [name, words] of card.derived)
    found.push(make("details", {}, make("summary", {}, make("code", {}, name), ", derived"), make("pre", { class: "words" }, words)));
  if (card.line.length) found.push(make("h3", {}, "With your names, in NumPy"), make("pre", {}, card.line.join("\n")));
  return found;
}

function keptParts(card) {
  const figures = [], words = [];
  for (const [name, named, array, text] of card.kept) {
    const whole = named && named !== name ? `${name} = ${named}` : name;
    if (array !== null) figures.push(figure(array, whole));
    else words.push(`${whole} = ${text}`);
  }
  const found = [make("h3", {}, "What the rule asked to keep"), make("div", { class: "arrays" }, ...figures)];
  if (words.length) found.push(make("pre", {}, words.join("\n")));
  if (!card.kept.length) found.push(make("div", { class: "soft" }, "nothing"));
  found.push(make("div", { class: "soft" }, card.bytes));
  return found;
}

function jacobianParts(card) {
  if (!card.jacobian) return [];
  const j = card.jacobian;
  return [
    make("h3", {}, "The local Jacobian: ∂(output) / ∂(input), elements in order"),
    make("div", { id: "structure" }, j.structure),
    make("div", { class: "arrays" }, figure(j.array, "J")),
    make("details", {}, make("summary", {}, `g · J is the contribution: largest difference ${j.apart}`),
      make("div", { class: "arrays" }, figure(j.product, "g · J"), figure(j.fitted, "by the rule"))),
  ];
}

function checkPart(card) {
  if (!card.check) return [];
  const kind = card.check.includes("wrong") ? "wrong" : card.check.startsWith("not") ? "soft" : "right";
  return [make("h3", {}, "This very step, checked against its forward"), make("div", { class: kind, id: "check" }, card.check)];
}

function fillCard(card) {
  const found = [make("h2", {}, card.title)];
  if (card.words) found.push(make("p", {}, card.words));
  if (card.kind === "row") {
    found.push(...sourceLine(card), ...ruleParts(card));
    const arrived = card.g.map(([name, array]) => figure(array, `g = ${name}`));
    found.push(make("h3", {}, "What arrives, and what the rule makes of it"),
      make("div", { class: "arrays" }, ...arrived, make("span", { class: "sign" }, "→"), figure(card.result, card.name)));
    found.push(...keptParts(card), ...jacobianParts(card), ...checkPart(card));
  } else if (card.kind === "sum") {
    found.push(make("div", { class: "arrays" }, figure(card.before, "by the rule"), make("span", { class: "sign" }, "→"),
      figure(card.result, card.name)));
  } else if (card.kind === "meet") {
    found.push(make("div", { class: "arrays" }, figure(card.before, "so far"), make("span", { class: "sign" }, "+"),
      figure(card.second, "arrives"), make("span", { class: "sign" }, "="), figure(card.result, card.name)));
  } else {
    found.push(...sourceLine(card), make("div", { class: "arrays" }, figure(card.result, "g")));
  }
  byId("card").replaceChildren(...found);
}

function show(k) {
  current = Math.max(0, Math.min(data.cards.length - 1, k));
  const card = data.cards[current];
  fillCard(card);
  mark(card, data.cards.slice(0, current));
  byId("count").textContent = `${current + 1} of ${data.cards.length}`;
  byId("slider").value = current;
  history.replaceState(null, "", `#${current + 1}`);
}

function turn(k) {
  show(k);
  byId("card").scrollTop = 0;
}

function jump(node) {
  const first = data.cards.findIndex(card => card.node === node), reached = data.cards.findIndex(card => card.to === node);
  if (first >= 0 || reached >= 0) turn(first >= 0 ? first : reached);
}

// Of this step's boxes: open the outermost closed one; if all are open, close the innermost.
function openOrClose() {
  const card = data.cards[current], shown = seen(card.node);
  if (shown[0] === "b") toggle(+shown.slice(1));
  else if (nodes[card.node].box !== null) toggle(nodes[card.node].box);
}

function openAll() {
  const open = !boxes.every(box => box.open);
  for (const box of boxes) box.open = open;
  drawGraph();
  show(current);
}

function switchDigits() {
  allDigits = !allDigits;
  byId("digits").setAttribute("aria-pressed", allDigits);
  show(current);
}

function switchHelp() {
  byId("help").hidden = !byId("help").hidden;
  byId("keys").setAttribute("aria-expanded", !byId("help").hidden);
}

const keys = {
  ArrowRight: () => turn(current + 1), ArrowLeft: () => turn(current - 1), j: () => turn(current + 1), k: () => turn(current - 1),
  Home: () => turn(0), End: () => turn(data.cards.length - 1), o: openOrClose, a: openAll, d: switchDigits, "?": switchHelp,
  "+": () => { zoom(scale * 1.25); show(current); }, "-": () => { zoom(scale / 1.25); show(current); }, 0: () => { zoom(1); show(current); },
};
addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
  event.preventDefault();
  keys[event.key]();
});
byId("back").onclick = () => turn(current - 1);
byId("next").onclick = () => turn(current + 1);
byId("digits").onclick = switchDigits;
byId("keys").onclick = switchHelp;
byId("slider").max = data.cards.length - 1;
byId("slider").oninput = event => turn(+event.target.value);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show(current));
drawGraph();
turn((parseInt(location.hash.slice(1)) || 1) - 1);
