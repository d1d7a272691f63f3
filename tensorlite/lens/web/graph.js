// The graph in layers. A box is laid out by itself and stands in the box around it as one thing, so boxes never overlap.

const nodes = data.nodes, boxes = data.boxes;
const SEEN = 60;  // as many ops as fit into view; of larger graphs the inner boxes start closed
boxes.forEach(box => { box.deep = box.parent === null ? 0 : boxes[box.parent].deep + 1; });
for (let deep = 0, open = true; open && boxes.some(box => box.deep === deep); deep++) {
  const shown = nodes.filter(node => node.box === null || boxes[node.box].deep <= deep).length;
  open = shown + boxes.filter(box => box.deep === deep + 1).length <= SEEN;
  for (const box of boxes) if (box.deep === deep) box.open = open;
}
const parentOf = item => (item[0] === "b" ? boxes[+item.slice(1)].parent : nodes[+item.slice(1)].box);
const NODE = 40, GAP = 18, LEVEL = 34, PAD = 14, HEAD = 22;
let scale = 1, place = {}, ways = {};

const wide = text => 7.2 * text.length + 20;
const boxItem = k => (k === null || k === undefined ? null : `b${k}`);
const shortened = text => (text.length > 30 ? `${text.slice(0, 29)}…` : text);

// The item of `group` that `item` is, or is within; null if it is elsewhere.
function lifted(item, group) {
  while (item !== null && boxItem(parentOf(item)) !== group) item = boxItem(parentOf(item));
  return item;
}

function layoutGroup(group, members) {
  const items = members.get(group) ?? [], size = {}, inner = {};
  for (const item of items) {
    if (item[0] === "b" && boxes[+item.slice(1)].open) {
      inner[item] = layoutGroup(item, members);
      size[item] = [Math.max(inner[item].w + 2 * PAD, wide(boxes[+item.slice(1)].name) + 30), inner[item].h + 2 * PAD + HEAD];
    } else {
      const node = item[0] === "b" ? { name: boxes[+item.slice(1)].name, op: "module" } : nodes[+item.slice(1)];
      size[item] = [Math.max(wide(shortened(node.name)), 6.4 * node.op.length + 20, 60), NODE];
    }
  }
  const before = new Map(items.map(i => [i, new Set()])), after = new Map(items.map(i => [i, new Set()]));
  for (const [a, b] of data.edges) {
    const from = lifted(`n${a}`, group), to = lifted(`n${b}`, group);
    if (from !== null && to !== null && from !== to && before.has(to) && after.has(from)) {
      before.get(to).add(from);
      after.get(from).add(to);
    }
  }
  const layer = {}, waiting = new Map(items.map(i => [i, before.get(i).size])), ready = items.filter(i => !waiting.get(i));
  for (const item of ready) {
    layer[item] = Math.max(-1, ...[...before.get(item)].map(i => layer[i])) + 1;
    for (const i of after.get(item)) { waiting.set(i, waiting.get(i) - 1); if (!waiting.get(i)) ready.push(i); }
  }
  for (const item of items)  // a parameter stands just above the op that reads it
    if (!before.get(item).size && after.get(item).size)
      layer[item] = Math.max(0, Math.min(...[...after.get(item)].map(i => layer[i])) - 1);
  // An arrow over several layers gets a place in each, so that it runs beside what stands there.
  const chains = {}, slots = [];
  for (const item of items)
    for (const to of [...after.get(item)]) {
      const span = layer[to] - layer[item];
      if (!(span > 1 && span < 80)) continue;
      let last = item;
      chains[`${item}>${to}`] = [];
      after.get(item).delete(to);
      before.get(to).delete(item);
      for (let k = 1; k < span; k++) {
        const slot = `v${item}>${to}>${k}`;
        size[slot] = [6, NODE];
        layer[slot] = layer[item] + k;
        before.set(slot, new Set([last]));
        after.set(slot, new Set());
        after.get(last).add(slot);
        chains[`${item}>${to}`].push(slot);
        slots.push(slot);
        last = slot;
      }
      after.get(last).add(to);
      before.get(to).add(last);
    }
  const layers = [];
  for (const item of [...items, ...slots]) (layers[layer[item] ?? 0] ??= []).push(item);
  for (let k = 0; k < layers.length; k++) layers[k] ??= [];
  const x = {};
  const spread = row => { let at = 0; for (const i of row) { x[i] = at + size[i][0] / 2; at += size[i][0] + GAP; } };
  layers.forEach(spread);
  const middle = (i, others) => { const near = [...others.get(i)]; return near.length ? near.reduce((s, o) => s + x[o], 0) / near.length : x[i]; };
  for (let sweep = 0; sweep < 6; sweep++) {  // order by the mean of the neighbours, then give way to the sides
    const down = sweep % 2 === 0, rows = down ? layers : [...layers].reverse();
    for (const row of rows) {
      const wish = new Map(row.map(i => [i, middle(i, down ? before : after)]));
      row.sort((a, b) => wish.get(a) - wish.get(b));
      let edge = -Infinity;
      for (const i of row) { x[i] = Math.max(wish.get(i), edge + size[i][0] / 2); edge = x[i] + size[i][0] / 2 + GAP; }
      const off = row.reduce((s, i) => s + x[i] - wish.get(i), 0) / (row.length || 1);
      for (const i of row) x[i] -= off;
    }
  }
  let y = 0, left = Infinity, right = -Infinity;
  const at = {};
  for (const row of layers) {
    const high = Math.max(0, ...row.map(i => size[i][1]));
    for (const i of row) {
      at[i] = { x: x[i] - size[i][0] / 2, y: y + (high - size[i][1]) / 2, w: size[i][0], h: size[i][1] };
      left = Math.min(left, at[i].x);
      right = Math.max(right, at[i].x + at[i].w);
    }
    if (row.length) y += high + LEVEL;
  }
  if (left === Infinity) left = right = 0;
  for (const i of [...items, ...slots]) at[i].x -= left;
  return { at, inner, chains, w: right - left, h: Math.max(0, y - LEVEL) };
}

function settle(group, found, dx, dy) {
  Object.assign(ways, found.chains);
  for (const [item, r] of Object.entries(found.at)) {
    place[item] = { x: r.x + dx, y: r.y + dy, w: r.w, h: r.h };
    if (item[0] === "v") continue;
    if (found.inner[item]) {
      const inset = (r.w - found.inner[item].w) / 2;
      settle(item, found.inner[item], r.x + dx + inset, r.y + dy + PAD + HEAD);
    }
  }
}

// What is to be seen of a node: itself, or the outermost closed box that it is in.
function seen(node) {
  let item = `n${node}`;
  for (let box = nodes[node].box; box !== null; box = boxes[box].parent) if (!boxes[box].open) item = `b${box}`;
  return item;
}

function toggle(k) {
  boxes[k].open = !boxes[k].open;
  drawGraph();
  show(current);
  document.querySelector(`[data-box="${k}"]`)?.focus();
}

function label(g, r, name, op) {
  g.append(make("text", { x: r.x + r.w / 2, y: r.y + (op ? 17 : r.h / 2 + 4), "text-anchor": "middle" }, shortened(name)));
  if (op) g.append(make("text", { x: r.x + r.w / 2, y: r.y + 32, "text-anchor": "middle", class: "op" }, op));
}

function drawBox(k, svg) {
  const box = boxes[k], r = place[`b${k}`];
  const g = make("g", { class: `box ${box.open ? "" : "closed"}`, id: `b${k}`, "data-box": k, tabindex: 0, role: "button",
                        "aria-expanded": box.open, "aria-label": `module ${box.name}` });
  g.append(make("rect", { x: r.x, y: r.y, width: r.w, height: r.h, rx: 9 }));
  if (box.open) {
    g.append(make("text", { x: r.x + 11, y: r.y + 17, class: "title" }, `▾ ${box.name}`));
    g.append(make("rect", { x: r.x, y: r.y, width: r.w, height: HEAD, class: "handle" }));
    g.lastChild.onclick = () => toggle(k);
  } else {
    label(g, r, `▸ ${box.name}`, "module");
    g.onclick = () => toggle(k);
  }
  g.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); event.stopPropagation(); toggle(k); } };
  svg.append(g);
}

// The places that the arrow between two nodes has in the layers between them.
function wayOf(a, b) {
  for (let group = boxItem(nodes[a].box); ; group = boxItem(parentOf(group))) {
    const from = lifted(`n${a}`, group), to = lifted(`n${b}`, group);
    if (from !== null && to !== null) return ways[`${from}>${to}`] ?? [];
    if (group === null) return [];
  }
}

function drawGraph() {
  const members = new Map();
  boxes.forEach((box, k) => { const at = boxItem(box.parent); members.set(at, [...(members.get(at) ?? []), `b${k}`]); });
  nodes.forEach((node, k) => { const at = boxItem(node.box); if (!members.has(at)) members.set(at, []); members.get(at).push(`n${k}`); });
  place = {};
  ways = {};
  const whole = layoutGroup(null, members);
  settle(null, whole, 8, 8);
  const svg = document.getElementById("picture");
  svg.replaceChildren();
  svg.dataset.w = whole.w + 16;
  svg.dataset.h = whole.h + 16;
  svg.setAttribute("viewBox", `0 0 ${whole.w + 16} ${whole.h + 16}`);
  svg.setAttribute("aria-label", `${nodes.length} ops and parameters`);
  zoom(scale);
  boxes.forEach((box, k) => { if (box.open && place[`b${k}`]) drawBox(k, svg); });
  const drawn = new Set();
  for (const [a, b] of data.edges) {
    const from = seen(a), to = seen(b), id = `${from}-${to}`;
    if (from === to || drawn.has(id)) continue;
    drawn.add(id);
    const p = place[from], q = place[to], x0 = p.x + p.w / 2, y0 = p.y + p.h, x1 = q.x + q.w / 2, y1 = q.y;
    // Drawn from the later op to the earlier: the way that gradients take.
    let d = `M${x1},${y1}`, x = x1, y = y1;
    for (const slot of [...wayOf(a, b)].reverse()) {
      const s = place[slot], at = s.x + s.w / 2, bend = Math.max(8, (y - s.y - s.h) / 2);
      d += ` C${x},${y - bend} ${at},${s.y + s.h + bend} ${at},${s.y + s.h} L${at},${s.y}`;
      [x, y] = [at, s.y];
    }
    const bend = Math.max(10, (y - y0) / 2);
    svg.append(make("path", { id, d: `${d} C${x},${y - bend} ${x0},${y0 + bend} ${x0},${y0}` }));
  }
  boxes.forEach((box, k) => { if (!box.open && place[`b${k}`]) drawBox(k, svg); });
  nodes.forEach((node, k) => {
    if (seen(k) !== `n${k}`) return;
    const r = place[`n${k}`], g = make("g", { class: `node ${node.kind} ${node.quiet ? "quiet" : ""}`, id: `n${k}` });
    g.append(make("rect", { x: r.x, y: r.y, width: r.w, height: r.h, rx: node.kind === "leaf" ? 20 : 7 }));
    g.append(make("title", {}, `${node.name} ${shapeText(node.shape)}`));
    label(g, r, node.name, node.op);
    g.onclick = () => jump(k);
    svg.append(g);
  });
}

function zoom(to) {
  scale = Math.min(3, Math.max(0.1, to));
  const svg = document.getElementById("picture");
  svg.setAttribute("width", svg.dataset.w * scale);
  svg.setAttribute("height", svg.dataset.h * scale);
}

// Mark what has had its turn, and what happens now; bring it into view.
function mark(card, done) {
  for (const old of document.querySelectorAll("#picture .now, #picture .done")) old.classList.remove("now", "done");
  for (const each of done) {
    for (const k of [each.node, each.to]) if (k !== null && k !== undefined) document.getElementById(seen(k))?.classList.add("done");
    if (each.to !== null && each.to !== undefined)
      document.getElementById(`${seen(each.to)}-${seen(each.node)}`)?.classList.add("done");
  }
  const here = seen(card.node), there = card.to === null || card.to === undefined ? here : seen(card.to);
  for (const item of [here, there]) document.getElementById(item)?.classList.add("now");
  document.getElementById(`${there}-${here}`)?.classList.add("now");
  const p = place[here], q = place[there], view = document.getElementById("graph");
  const x = (p.x + p.w / 2 + q.x + q.w / 2) / 2, y = (p.y + q.y + q.h) / 2;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  view.scrollTo({ left: x * scale - view.clientWidth / 2, top: y * scale - view.clientHeight / 2, behavior: calm ? "auto" : "smooth" });
}
