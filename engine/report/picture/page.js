// The page: what is shown, the filter, the choice, and news from a server.

const shown = { picture: null, order: [], text: "", states: new Set(), chosen: null, view: null, tallies: new Map(), source: "" };
const MOST_ROUND = 24;
const POLL = 5000;

/** Takes a picture in. Names are keys of clusters and may be words of the language, so no object here inherits any. */
function take(source) {
  const picture = JSON.parse(source);
  const bare = (object) => Object.setPrototypeOf(object, null);
  bare(picture.clusters);
  bare(picture.links);
  Object.values(picture.links).forEach(bare);
  shown.source = source;
  shown.picture = picture;
  shown.order = Object.keys(picture.clusters).sort(compare);
  shown.tallies = new Map(shown.order.map((name) => [name, {}]));
  for (const { reader, peer, link } of allLinks()) {
    for (const end of [reader, peer]) {
      const tally = shown.tallies.get(end);
      if (tally) tally[link.state] = (tally[link.state] || 0) + 1;
    }
  }
  if (shown.chosen && !isThere(shown.chosen)) shown.chosen = null;
}

const clusterNames = () => shown.order;
const linkOf = (reader, peer) => (shown.picture.links[reader] || {})[peer];
const isThere = (chosen) => (chosen.cluster ? chosen.cluster in shown.picture.clusters : Boolean(linkOf(chosen.reader, chosen.peer)));
const chosenCluster = () => (shown.chosen && shown.chosen.cluster) || null;

function allLinks() {
  const links = [];
  for (const reader of Object.keys(shown.picture.links)) {
    for (const peer of Object.keys(shown.picture.links[reader])) links.push({ reader, peer, link: shown.picture.links[reader][peer] });
  }
  return links;
}

/** The states of a cluster's links, counted, the worst first. */
function tally(name) {
  const counts = shown.tallies.get(name) || {};
  const message = STATES.filter((state) => counts[state]).map((state) => `${counts[state].toLocaleString("en")} ${STATE_WORDS[state][0].toLowerCase()}`);
  return message.length ? `Links: ${message.join(", ")}` : "No links";
}

// ---------------------------------------------------------------- filter

function matchesText(name) {
  if (!shown.text) return true;
  const { network, trustDomain, clusterId, uuid, reconciler } = shown.picture.clusters[name];
  return [name, network, trustDomain, clusterId, uuid, reconciler].some((word) => word && word.toLowerCase().includes(shown.text));
}

function matches(name) {
  if (!matchesText(name)) return false;
  const counts = shown.tallies.get(name);
  return !shown.states.size || shown.states.has(shown.picture.clusters[name].state) || [...shown.states].some((state) => counts[state]);
}

function matchesLink(reader, peer, state) {
  return (!shown.states.size || shown.states.has(state)) && (!shown.text || matchesText(reader) || matchesText(peer));
}

function drawChips() {
  const { clusters, links } = shown.picture.counts;
  $("states").replaceChildren(...STATES.map((state) => {
    const [ofClusters, ofLinks] = [clusters[state] || 0, links[state] || 0];
    const message = `${plural(ofClusters, "cluster")}, ${plural(ofLinks, "link")}`;
    const count = state === "joined" || ofLinks ? ofLinks : ofClusters;
    return el("button", {
      type: "button", class: ofClusters + ofLinks ? "chip" : "chip none", "data-state": state, "aria-pressed": String(shown.states.has(state)), title: message,
      onclick: () => toggleState(state),
    }, sign(state), `${STATE_WORDS[state][0]} `, el("b", {}, count.toLocaleString("en")));
  }));
}

function toggleState(state) {
  if (!shown.states.delete(state)) shown.states.add(state);
  for (const chip of $("states").children) chip.setAttribute("aria-pressed", String(shown.states.has(chip.dataset.state)));
  filtered();
}

function filtered() {
  const count = shown.order.filter(matches).length;
  const filters = shown.text || shown.states.size;
  $("matches").textContent = filters ? `${count} of ${plural(shown.order.length, "cluster")} match. Escape shows all.` : "";
  if (shown.view === "matrix") drawMatrix();
  else markMap();
  drawTable();
}

function clearFilter() {
  shown.text = $("search").value = "";
  shown.states.clear();
  drawChips();
  filtered();
}

// ---------------------------------------------------------------- headline

/** Links that are not well although no end of them is to blame, by their first reason. */
function lonelyTroubles(state) {
  const groups = new Map();
  for (const { reader, peer, link } of allLinks()) {
    const ends = [reader, peer].map((name) => shown.picture.clusters[name]);
    if (link.state !== state || ends.some((end) => end && (end.state === "broken" || end.state === state))) continue;
    const why = (link.reasons || [])[0] || STATE_WORDS[state][1];
    if (!groups.has(why)) groups.set(why, []);
    groups.get(why).push({ reader, peer });
  }
  return groups;
}

/** The state and the message of the headline. Files alone cannot say that a cluster is well, and so it is said whose word this is. */
function verdict() {
  const [state, message] = judged();
  if (shown.picture.asked || state === "broken" || state === "paused") return [state, message];
  return [state, `By the files, ${message[0].toLowerCase()}${message.slice(1)}`];
}

function judged() {
  const { clusters, links } = shown.picture.counts;
  const total = shown.order.length;
  const linkCount = Object.values(links).reduce((sum, count) => sum + count, 0);
  const broken = shown.order.filter((name) => shown.picture.clusters[name].state === "broken");
  if (!total) return ["paused", "No cluster is declared"];
  if (broken.length) {
    const held = broken.every((name) => shown.picture.clusters[name].trustChange);
    const what = held ? "held back" : "broken";
    if (broken.length <= 3) return ["broken", `${list(broken)} ${broken.length === 1 ? "is" : "are"} ${what}`];
    return ["broken", `${broken.length} of ${total} clusters are ${what}`];
  }
  if (links.broken === 1) {
    const { reader, peer } = allLinks().find(({ link }) => link.state === "broken");
    return ["broken", `The link ${reader} → ${peer} is broken`];
  }
  if (links.broken) return ["broken", `${plural(links.broken, "link")} are broken`];
  if (clusters["at-risk"] || links["at-risk"]) return ["at-risk", "Nothing is broken, but something is at risk"];
  if (links.waiting || clusters.waiting) return ["waiting", links.waiting ? `Nothing is broken; ${plural(links.waiting, "link")} still ${links.waiting === 1 ? "waits" : "wait"}` : "Nothing is broken; some clusters wait"];
  if (clusters.leaving && clusters.leaving < total) return ["joined", "Nothing is broken"];
  if (!linkCount) return ["paused", "No links yet"];
  return ["joined", total === 2 ? "Both clusters are joined" : `All ${total} clusters are joined`];
}

function drawHero() {
  const [state, message] = verdict();
  const { clusters, links } = shown.picture.counts;
  const total = Object.values(links).reduce((sum, count) => sum + count, 0);
  const mark = sign(state);
  $("headline").replaceChildren(el("span", { "data-state": state }, mark), message);
  const parts = STATES.filter((state) => links[state]).map((state) => `${links[state].toLocaleString("en")} ${STATE_WORDS[state][0].toLowerCase()}`);
  $("summary").textContent = `${plural(shown.order.length, "cluster")}, ${plural(total, "link")}${parts.length ? `: ${list(parts)}` : ""}.`;
  document.title = `${state === "joined" ? "" : `${STATE_WORDS[state][0]} · `}${shown.picture.mesh} · isthmus`;
  drawIcon(state);
  drawProblems();
}

function drawIcon(state) {
  const tones = { "broken": "c9252d", "at-risk": "c77700", "waiting": "2458ad", "paused": "6b7480", "joined": "1d7153" };
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="#${tones[state]}"/></svg>`;
  $("icon").href = `data:image/svg+xml,${encodeURIComponent(image)}`;
}

function drawProblems() {
  const problems = [];
  for (const state of ["broken", "at-risk"]) {
    for (const name of shown.order) {
      const cluster = shown.picture.clusters[name];
      if (cluster.state !== state) continue;
      const why = cluster.trustChange ? "Its trust change is held back until it is accepted" : (cluster.reasons || [])[0] || STATE_WORDS[state][1];
      problems.push({ state, title: name, why, act: () => choose({ cluster: name }, true) });
    }
    for (const [why, links] of lonelyTroubles(state)) {
      const [first] = links;
      const title = links.length === 1 ? `${first.reader} → ${first.peer}` : plural(links.length, "link");
      const names = links.slice(0, 3).map(({ reader, peer }) => `${reader} → ${peer}`).join(", ");
      const more = links.length > 1 ? ` (${names}${links.length > 3 ? ", …" : ""})` : "";
      problems.push({ state, title, why: why + more, act: () => choose(first, true) });
    }
  }
  const most = problems.length > 6 ? 5 : 6;
  const items = problems.slice(0, most).map(({ state, title, why, act }) => el("li", {},
    el("button", { type: "button", class: "problem", "data-state": state, onclick: act }, sign(state), el("span", {}, el("b", {}, title), el("span", { class: "why" }, why)))));
  if (problems.length > most) {
    const all = () => { shown.states = new Set(problems.map(({ state }) => state)); drawChips(); filtered(); $("list-title").scrollIntoView(); };
    items.push(el("li", {}, el("button", { type: "button", class: "problem", "data-state": "paused", onclick: all }, sign("broken", { "data-state": problems[most].state }), el("span", {}, el("b", {}, `and ${problems.length - most} more`), el("span", { class: "why" }, "Show all of them in the table")))));
  }
  $("problems").replaceChildren(...items);
}

function drawAge() {
  const { generatedAt, asked, waiting } = shown.picture;
  const age = clock() - generatedAt;
  const live = document.documentElement.hasAttribute("data-live");
  const old = !live && age > 3600;
  $("when").replaceChildren(el("span", { class: old ? "old" : null, title: minute(generatedAt) }, `${live ? "Last run" : "Drawn"} ${ago(generatedAt)}`), asked ? "" : " from files alone; no cluster was asked", waiting ? el("span", { class: "old", title: waiting.hint }, ` · ${waiting.message}`) : "");
}

// ---------------------------------------------------------------- table

function drawTable() {
  const names = shown.order.filter(matches).sort((a, b) => rank(shown.picture.clusters[a].state) - rank(shown.picture.clusters[b].state) || compare(a, b));
  const rows = names.map((name) => {
    const cluster = shown.picture.clusters[name];
    const end = firstEnd(cluster);
    const ends = end === null ? { message: "not known", near: null } : expiry(end, 30 * DAY);
    return el("tr", { class: name === chosenCluster() ? "chosen" : null },
      el("th", { scope: "row" }, el("button", { type: "button", class: "textual", tabindex: -1, "data-cluster": name, onclick: () => choose({ cluster: name }, true) }, name)),
      el("td", {}, tag(cluster.state)), el("td", { class: "wrap" }, tally(name).replace("Links: ", "")), el("td", { class: ends.near }, ends.message),
      el("td", {}, readWords(cluster)), el("td", {}, cluster.istio || "not known"), el("td", { class: "wrap" }, cluster.network || "not known"));
  });
  const head = ["Cluster", "State", "Links, both ways", "Root CA ends", "Metadata read", "Istio", "Network"].map((word) => el("th", { scope: "col" }, word));
  const active = document.activeElement && document.activeElement.closest("#table") ? document.activeElement.dataset.cluster : null;
  $("table").replaceChildren(el("caption", { class: "unseen" }, "Clusters of the mesh, the worst first; arrow keys move between them, Enter shows one"), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows));
  rove($("table"), "button", Math.max(0, names.indexOf(active || chosenCluster())));
  if (active && names.includes(active)) $("table").querySelectorAll("button")[names.indexOf(active)].focus();
}

/** One tab stop for many things; arrow keys move between them. */
function rove(root, selector, first) {
  const items = [...root.querySelectorAll(selector)];
  if (!items.length) return;
  let current = Math.max(0, first);
  items[current].setAttribute("tabindex", "0");
  const go = (index) => {
    items[current].setAttribute("tabindex", "-1");
    current = (index + items.length) % items.length;
    items[current].setAttribute("tabindex", "0");
    items[current].focus();
  };
  items.forEach((item, index) => item.addEventListener("keydown", (event) => {
    const to = { ArrowRight: index + 1, ArrowDown: index + 1, ArrowLeft: index - 1, ArrowUp: index - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); go(to); }
    if (item.localName === "g" && (event.key === "Enter" || event.key === " ")) { event.preventDefault(); choose({ cluster: item.dataset.cluster }, true); }
  }));
}

// ---------------------------------------------------------------- details

function choose(chosen, move) {
  shown.chosen = chosen;
  tip(null);
  drawDetails();
  markMap();
  markMatrix();
  drawTable();
  if (!move) return;
  const panel = $("details");
  panel.scrollTop = 0;
  panel.focus({ preventScroll: window.innerWidth > 980 });
}

function unchoose() {
  const { cluster, reader } = shown.chosen;
  choose(null, false);
  const back = [...document.querySelectorAll(".node")].find((node) => node.dataset.cluster === (cluster || reader));
  if (shown.view === "map" && back) back.focus();
  else if ($("cells")) $("cells").focus();
}

function drawDetails() {
  const panel = $("details");
  const chosen = shown.chosen;
  if (!chosen) panel.replaceChildren(...legend());
  else panel.replaceChildren(el("button", { type: "button", class: "quiet close", "aria-label": "Close", onclick: unchoose }, "✕"), ...(chosen.cluster ? clusterDetails(chosen.cluster) : linkDetails(chosen)));
}

const DASHES = { "broken": "13 7", "at-risk": "18 4", "waiting": "5 6", "leaving": "1 6", "paused": "10 5 2 5", "joined": null };

function legend() {
  const items = STATES.map((state) => {
    const dash = { d: "M0 8h40", stroke: "currentColor", fill: "none", "stroke-width": state === "broken" ? 3.25 : 2, "stroke-dasharray": DASHES[state], "stroke-linecap": state === "leaving" ? "round" : null };
    const sample = svg("svg", { class: "sample sign", viewBox: "0 0 52 16", "aria-hidden": "true" }, svg("path", dash), svg("path", { d: "M52 8l-11-5v10z", fill: "currentColor" }));
    return el("li", { "data-state": state }, sample, tag(state), el("span", { class: "note" }, STATE_WORDS[state][1]));
  });
  return [el("h2", {}, "How to read it"), el("p", { class: "note" }, "An arrow east → west: clients in east reach services in west. Each direction is a link of its own."),
    el("ul", { class: "legend" }, items),
    el("p", { class: "keys" }, el("kbd", {}, "/"), " filters, ", el("kbd", {}, "Tab"), " and ", el("kbd", {}, "← ↑ ↓ →"), " move, ", el("kbd", {}, "Enter"), " shows, ", el("kbd", {}, "Esc"), " goes back.")];
}

function facts(rows) {
  const found = rows.filter(([, value]) => value);
  return el("dl", {}, found.flatMap(([name, value, near]) => [el("dt", {}, name), el("dd", { class: near }, value)]));
}

function reasonBox(state, reasons) {
  if (!reasons || !reasons.length) return null;
  return el("div", { class: "box", "data-state": state }, el("ul", {}, reasons.map((reason) => el("li", {}, reason))));
}

function clusterDetails(name) {
  const cluster = shown.picture.clusters[name];
  const trust = cluster.trustChange;
  const mono = (text) => text && el("code", {}, text);
  const change = trust && el("div", { class: "box", "data-state": "broken" }, el("p", {}, el("b", {}, trust.accept ? "Its trust change is held back" : "Its trust change is refused")),
    trust.findings.map((finding) => el("p", {}, finding.what, finding.before && el("del", {}, finding.before), finding.after && el("ins", {}, finding.after), finding.meaning)),
    trust.accept && el("p", {}, "If it is meant:", el("code", {}, `engine apply --accept-trust ${trust.accept}`)));
  const roots = (cluster.roots || []).map((root) => [root, expiry(root.expires, 30 * DAY)]);
  return [el("h2", {}, name), tag(cluster.state, null, true), change, reasonBox(cluster.state, cluster.reasons),
    facts([
      ["Metadata read", readWords(cluster)],
      ...roots.flatMap(([root, ends]) => [["Root CA ends", ends.message, ends.near], ["Root CA", el("span", { title: `SHA-256 ${root.sha256}` }, root.subject, " ", mono(root.sha256.slice(0, 12)))]]),
      ["Istio", cluster.istio], ["Network", cluster.network], ["Gateways", (cluster.gateways || []).join(", ")], ["API host", cluster.apiHost],
      ["Trust domain", cluster.trustDomain], ["Cluster ID", cluster.clusterId], ["UUID", cluster.uuid && mono(cluster.uuid)],
      ["Acts in it", { "rendered": "a GitOps tool, on rendered files", "deckhouse": "Deckhouse", "external": "another team’s checkout" }[cluster.reconciler]],
      ["Endpoint", mono(cluster.endpoint)],
    ]), ...linkTable(name)].filter(Boolean);
}

function linkTable(name) {
  const out = shown.picture.links[name] || {};
  const peers = shown.order.filter((peer) => out[peer] || linkOf(peer, name));
  if (!peers.length) return [];
  const worst = (peer) => Math.min(...[out[peer], linkOf(peer, name)].filter(Boolean).map((link) => rank(link.state)));
  peers.sort((a, b) => worst(a) - worst(b) || compare(a, b));
  const cell = (reader, peer) => {
    const link = linkOf(reader, peer);
    const word = link && STATE_WORDS[link.state][0];
    return el("td", {}, link ? el("button", { type: "button", class: "textual tag", "data-state": link.state, "aria-label": `${reader} to ${peer}: ${word.toLowerCase()}`, onclick: () => choose({ reader, peer }, true) }, sign(link.state), word) : "—");
  };
  const rows = peers.map((peer) => el("tr", {}, el("th", { scope: "row" }, el("button", { type: "button", class: "textual", onclick: () => choose({ cluster: peer }, true) }, peer)), cell(name, peer), cell(peer, name)));
  const head = ["Peer", "Reaches it", "Reached by it"].map((word) => el("th", { scope: "col" }, word));
  return [el("h3", {}, "Links"), el("table", {}, el("caption", { class: "unseen" }, `Links of ${name}`), el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows))];
}

function linkDetails({ reader, peer }) {
  const link = linkOf(reader, peer);
  const back = linkOf(peer, reader);
  const to = (name) => el("button", { type: "button", class: "textual", onclick: () => choose({ cluster: name }, true) }, name);
  const end = firstEnd(shown.picture.clusters[peer] || {});
  const root = end === null ? null : expiry(end, 30 * DAY);
  return [el("h2", {}, to(reader), " → ", to(peer)), tag(link.state, null, true),
    el("p", { class: "note" }, `Clients in ${reader} reach services in ${peer}.`), reasonBox(link.state, link.reasons),
    link.unproven && el("div", { class: "box", "data-state": "paused" }, el("p", {}, el("b", {}, "Not proven")), link.unproven.map((message) => el("p", {}, message))),
    facts([
      ["Stage", { "none": "no link yet", "leaving-trust": "leaving, trust last" }[link.stage] || link.stage || "joined"],
      ["Evidence", link.evidence || "proven"], ["Remote secret", link.secret || "in the tree"],
      ["Peer’s root CA ends", root && root.message, root && root.near],
    ]),
    back && el("h3", {}, "The other way"),
    back && el("button", { type: "button", class: "textual tag", "data-state": back.state, onclick: () => choose({ reader: peer, peer: reader }, true) }, sign(back.state), `${peer} → ${reader}: ${STATE_WORDS[back.state][0].toLowerCase()}`),
  ].filter(Boolean);
}

// ---------------------------------------------------------------- small things

function tip(event, title, message) {
  const box = $("tip");
  box.hidden = !event;
  if (!event) return;
  box.replaceChildren(el("b", {}, title), ...message.map((word) => el("div", {}, word)));
  const { offsetWidth: width, offsetHeight: height } = box;
  const x = event.clientX + 16 + width > window.innerWidth ? event.clientX - width - 12 : event.clientX + 16;
  const y = event.clientY + 16 + height > window.innerHeight ? event.clientY - height - 12 : event.clientY + 16;
  box.style.transform = `translate(${Math.max(4, x)}px, ${Math.max(4, y)}px)`;
}

function say(message) {
  $("said").textContent = message;
}

function drawViews() {
  const few = shown.order.length <= MOST_ON_MAP;
  if (!shown.view || (shown.view === "map" && !few)) shown.view = shown.order.length <= MOST_ROUND ? "map" : "matrix";
  $("views").hidden = !few || shown.order.length < 3;
  $("views").replaceChildren(...[["map", "Map"], ["matrix", "Matrix"]].map(([view, word]) => el("button", { type: "button", "aria-pressed": String(shown.view === view), onclick: () => { shown.view = view; drawViews(); drawStage(); $("views").querySelector("[aria-pressed=true]").focus(); } }, word)));
}

function drawStage() {
  const round = shown.view === "map";
  $("picture-map").hidden = !round;
  $("picture-matrix").hidden = round;
  $(round ? "picture-matrix" : "picture-map").replaceChildren();
  if (round) drawMap();
  else drawMatrix();
}

function draw() {
  $("mesh").textContent = shown.picture.mesh;
  $("made").textContent = `isthmus ${shown.picture.engine} · ${minute(shown.picture.generatedAt)}`;
  drawAge();
  drawHero();
  drawChips();
  drawViews();
  drawStage();
  drawDetails();
  drawTable();
  const notes = shown.picture.notes || [];
  $("notes").hidden = !notes.length;
  $("notes").querySelector("ul").replaceChildren(...notes.slice(0, 50).map((note) => el("li", {}, note)));
}

function themed() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  $("theme").textContent = dark ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", dark ? "Use light colours" : "Use dark colours");
  return dark;
}

function begin() {
  take($("picture").textContent);
  draw();
  themed();
  $("search").addEventListener("input", (event) => { shown.text = event.target.value.trim().toLowerCase(); filtered(); });
  $("theme").addEventListener("click", () => {
    document.documentElement.dataset.theme = themed() ? "light" : "dark";
    themed();
    if (shown.view === "matrix") drawMatrix();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { themed(); if (shown.view === "matrix") drawMatrix(); });
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== $("search")) { event.preventDefault(); $("search").focus(); }
    if (event.key === "Escape") {
      if (shown.text || shown.states.size) clearFilter();
      else if (shown.chosen) unchoose();
    }
  });
  let width = 0;
  new ResizeObserver(([{ contentRect }]) => {
    if (Math.abs(contentRect.width - width) < 1) return;
    width = contentRect.width;
    drawStage();
  }).observe(document.querySelector(".stage"));
  setInterval(drawAge, 15000);
  if (document.documentElement.hasAttribute("data-live") && location.protocol.startsWith("http")) follow();
}

// ---------------------------------------------------------------- news

/** Asks the server that gave the page for the newest picture; the choice, the filter and the focus stay. */
function follow() {
  let goneSince = null;
  $("live").hidden = false;
  $("live").textContent = "Live";
  const ask = async () => {
    try {
      const answer = await fetch("picture.json", { cache: "no-store", signal: AbortSignal.timeout(4000) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const source = await answer.text();
      if (source !== shown.source) refresh(source);
      goneSince = null;
    } catch {
      goneSince = goneSince || Date.now() / 1000;
    }
    $("live").hidden = goneSince !== null;
    $("gone").hidden = goneSince === null;
    if (goneSince !== null) $("gone").textContent = `The server does not answer since ${minute(goneSince)}. This is what it said last.`;
    drawAge();
    setTimeout(ask, POLL);
  };
  setTimeout(ask, POLL);
}

function refresh(source) {
  const before = JSON.stringify(verdict());
  const focus = document.activeElement;
  const node = focus && focus.closest(".node");
  const scroll = $("details").scrollTop;
  take(source);
  draw();
  $("details").scrollTop = scroll;
  const again = node && [...document.querySelectorAll(".node")].find((other) => other.dataset.cluster === node.dataset.cluster);
  if (again) again.focus({ preventScroll: true });
  if (shown.text || shown.states.size) filtered();
  if (JSON.stringify(verdict()) !== before) say(verdict()[1]);
}

begin();
