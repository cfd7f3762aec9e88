// The mesh as a circle of clusters: cards while they are few, dots when they are more. The same mesh gives the same drawing.

const MOST_CARDS = 8;
const MOST_ON_MAP = 60;
const CARD = { width: 186, height: 62 };
const LETTER = 8.2;

function drawMap() {
  const names = clusterNames();
  const cards = names.length <= MOST_CARDS;
  // as wide as the screen allows, so that text keeps its size
  const width = Math.max(320, Math.min(900, $("picture-map").clientWidth || 900));
  const small = width < 560;
  CARD.width = small ? 118 : 186;
  CARD.text = small ? 34 : 42;
  const longest = LETTER * Math.min(14, Math.max(0, ...names.map((name) => name.length)));
  const size = cards ? { width, height: (names.length < 3 ? 300 : 540) * (small ? .72 : 1) } : { width, height: Math.min(width, 760) };
  size.radius = Math.min(size.width, size.height) / 2 - longest - 26;
  const at = places(names, size, cards);
  const root = svg("svg", {
    viewBox: `0 0 ${size.width} ${size.height}`, role: "group", class: cards ? "sparse" : "dense",
    "aria-label": "Clusters of the mesh. Arrow keys move between clusters, Enter shows one.",
  });
  const lines = svg("g", { "aria-hidden": "true" });
  const links = allLinks().sort((a, b) => rank(b.link.state) - rank(a.link.state));
  for (const { reader, peer, link } of links) {
    if (at[reader] && at[peer]) lines.append(drawLink(reader, peer, link, at, size, cards));
  }
  const nodes = svg("g", {});
  names.forEach((name) => nodes.append(drawNode(name, at[name], size, cards)));
  root.append(lines, nodes);
  $("picture-map").replaceChildren(root);
  rove(root, ".node", names.indexOf(chosenCluster()));
  markMap();
}

function places(names, size, cards) {
  const at = Object.create(null);
  const [rx, ry] = cards ? [size.width / 2 - CARD.width / 2 - 14, size.height / 2 - 52] : [size.radius, size.radius];
  const first = names.length === 2 ? Math.PI : -Math.PI / 2;
  names.forEach((name, index) => {
    const angle = first + (index * 2 * Math.PI) / names.length;
    const alone = names.length === 1 ? 0 : 1;
    at[name] = { x: size.width / 2 + alone * rx * Math.cos(angle), y: alone * ry * Math.sin(angle), angle };
  });
  const heights = names.map((name) => at[name].y);
  const middle = (Math.min(...heights) + Math.max(...heights)) / 2;
  names.forEach((name) => { at[name].y += size.height / 2 - middle; });
  return at;
}

const clip = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);

function drawNode(name, place, size, cards) {
  const cluster = shown.picture.clusters[name];
  const label = [cards ? subtitle(cluster) : null, cluster.state === "joined" || !cards ? STATE_WORDS[cluster.state][0].toLowerCase() : null];
  const node = svg("g", {
    class: "node", role: "button", tabindex: -1, "data-cluster": name, "data-state": cluster.state,
    transform: `translate(${place.x.toFixed(1)} ${place.y.toFixed(1)})`,
    "aria-label": `${name} ${label.filter(Boolean).join(", ")}. ${tally(name)}`,
    onclick: () => choose({ cluster: name }, true),
    onpointerenter: () => light(name), onpointerleave: () => light(null),
    onpointermove: (event) => tip(event, name, [STATE_WORDS[cluster.state][0], ...(cluster.reasons || []).slice(0, 2), tally(name)]),
    onfocus: () => light(name), onblur: () => light(null),
  });
  if (cards) {
    const { width, height } = CARD;
    const box = (grow) => ({ x: -width / 2 - grow, y: -height / 2 - grow, width: width + 2 * grow, height: height + 2 * grow, rx: 14 + grow });
    node.append(
      svg("rect", { class: "halo", ...box(5) }), svg("rect", { class: "face", ...box(0) }),
      sign(cluster.state, { x: -width / 2 + CARD.text - 25, y: -20, width: 16, height: 16 }),
      svg("text", { class: "name", x: -width / 2 + CARD.text, y: -6 }, clip(name, Math.floor((width - CARD.text - 8) / LETTER))), " ",
      svg("text", { class: "sub", x: -width / 2 + CARD.text, y: 15 }, clip(subtitle(cluster), Math.floor((width - CARD.text - 6) / 6.2))),
    );
    return node;
  }
  const radius = shown.order.length > 30 ? 7 : 10;
  const [cos, sin] = [Math.cos(place.angle), Math.sin(place.angle)];
  const degrees = (place.angle * 180) / Math.PI;
  const left = cos < -1e-6;
  node.append(
    svg("circle", { class: "halo", r: radius + 4 }), svg("circle", { class: "face", r: radius }),
    sign(cluster.state, { x: -radius * .55, y: -radius * .55, width: radius * 1.1, height: radius * 1.1 }),
    svg("text", {
      class: "name", "text-anchor": left ? "end" : "start", dy: ".34em",
      transform: `translate(${(cos * (radius + 8)).toFixed(1)} ${(sin * (radius + 8)).toFixed(1)}) rotate(${(left ? degrees + 180 : degrees).toFixed(1)})`,
    }, clip(name, 14)),
  );
  return node;
}

function subtitle(cluster) {
  if (cluster.state !== "joined") return STATE_WORDS[cluster.state][0];
  return [cluster.istio ? `Istio ${cluster.istio}` : null, cluster.reconciler === "rendered" ? null : cluster.reconciler].filter(Boolean).join(" · ") || "Joined";
}

function drawLink(reader, peer, link, at, size, cards) {
  const [from, to] = [at[reader], at[peer]];
  const [dx, dy] = [to.x - from.x, to.y - from.y];
  const length = Math.hypot(dx, dy) || 1;
  const middle = { x: (from.x + to.x) / 2, y: (from.y + to.y) / 2 };
  const pull = cards ? 0 : .45;
  const bulge = cards ? 34 : 10;
  const control = {
    x: middle.x + (size.width / 2 - middle.x) * pull - (dy / length) * bulge,
    y: middle.y + (size.height / 2 - middle.y) * pull + (dx / length) * bulge,
  };
  const point = (t) => ({
    x: (1 - t) ** 2 * from.x + 2 * t * (1 - t) * control.x + t * t * to.x,
    y: (1 - t) ** 2 * from.y + 2 * t * (1 - t) * control.y + t * t * to.y,
  });
  const inside = (place, gap) => (p) => cards
    ? Math.abs(p.x - place.x) < CARD.width / 2 + gap && Math.abs(p.y - place.y) < CARD.height / 2 + gap
    : Math.hypot(p.x - place.x, p.y - place.y) < 12 + gap;
  let [begin, end] = [0, 1];
  const step = .005;
  while (begin < .45 && inside(from, 5)(point(begin))) begin += step;
  while (end > .55 && inside(to, cards ? 6 : 2)(point(end))) end -= step;
  // the part of the curve between the two, by de Casteljau
  const mix = (a, b, t) => ({ x: a.x + (b.x - a.x) * t, y: a.y + (b.y - a.y) * t });
  const bend = mix(mix(from, control, begin), mix(control, to, begin), end);
  const [a, b] = [point(begin), point(end)];
  const before = point(end - .02);
  const turn = Math.atan2(b.y - before.y, b.x - before.x);
  const back = cards ? 11 : 7;
  const tail = { x: b.x - Math.cos(turn) * back * .8, y: b.y - Math.sin(turn) * back * .8 };
  const wing = (side) => `${(b.x - Math.cos(turn + side * .42) * back).toFixed(1)} ${(b.y - Math.sin(turn + side * .42) * back).toFixed(1)}`;
  const f = (p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`;
  const d = `M${f(a)} Q${f(bend)} ${f(tail)}`;
  const group = svg("g", {
    class: "link", "data-state": link.state, "data-reader": reader, "data-peer": peer,
    onclick: () => choose({ reader, peer }, true),
    onpointermove: (event) => tip(event, `${reader} → ${peer}`, [STATE_WORDS[link.state][0], ...(link.reasons || []).slice(0, 3)]),
    onpointerleave: () => tip(null),
  }, svg("path", { class: "reach", d }), svg("path", { class: "line", d }));
  if (cards || link.state !== "joined") group.append(svg("path", { class: "head", d: `M${f(b)} L${wing(1)} L${wing(-1)} Z` }));
  if (cards && link.state !== "joined") {
    const m = point((begin + end) / 2);
    group.append(svg("circle", { class: "badge", cx: m.x, cy: m.y, r: 12 }), sign(link.state, { x: m.x - 6.5, y: m.y - 6.5, width: 13, height: 13 }));
  }
  return group;
}

/** What the filter leaves out and what is chosen, on the drawing as it is. */
function markMap(lit) {
  const root = $("picture-map").firstElementChild;
  if (!root) return;
  const chosen = shown.chosen || {};
  for (const node of root.querySelectorAll(".node")) {
    const name = node.dataset.cluster;
    node.classList.toggle("dim", !matches(name));
    node.classList.toggle("chosen", name === chosenCluster());
    node.setAttribute("aria-pressed", String(name === chosen.cluster));
  }
  const focus = lit || (root.classList.contains("dense") ? chosenCluster() : null);
  for (const line of root.querySelectorAll(".link")) {
    const { reader, peer, state } = line.dataset;
    const away = focus && reader !== focus && peer !== focus;
    line.classList.toggle("dim", Boolean(away) || !matchesLink(reader, peer, state));
    line.classList.toggle("chosen", chosen.reader === reader && chosen.peer === peer);
  }
}

function light(name) {
  if (!name) tip(null);
  markMap(name);
}
