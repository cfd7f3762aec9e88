// The mesh as a matrix: a row reaches, a column is reached. For more clusters than a circle can hold.

const matrix = { cell: 10, left: 0, top: 0, rows: [], columns: [], at: null, tones: {} };
const LABEL = 12;

function drawMatrix() {
  const host = $("picture-matrix");
  const columns = shown.order;
  const rows = shown.text ? columns.filter(matches) : columns;
  const longest = Math.min(18, Math.max(4, ...columns.map((name) => name.length)));
  const margin = Math.round(longest * LABEL * .62) + 14;
  const room = Math.max(280, host.clientWidth - margin - 2);
  const cell = Math.max(3, Math.min(26, room / Math.max(1, columns.length)));
  Object.assign(matrix, { cell, left: margin, top: margin, rows, columns, tones: colours() });
  const size = { width: margin + edge(columns.length) + 2, height: margin + edge(rows.length) + 2 };
  const had = document.activeElement && document.activeElement.id === "cells";
  const base = el("canvas", { "aria-hidden": "true" });
  const over = el("canvas", {
    id: "cells", tabindex: 0, role: "application", "aria-roledescription": "matrix of links",
    "aria-label": `Matrix of ${plural(rows.length, "row")} and ${plural(columns.length, "column")}. Arrow keys move between links, Enter shows one; the table below has the same.`,
    onpointermove: hoverMatrix, onpointerleave: () => { matrix.at = null; tip(null); markMatrix(); },
    onclick: (event) => { if (cellAt(event)) openCell(); }, onkeydown: walkMatrix,
    onfocus: () => { matrix.at = matrix.at || startCell(); markMatrix(); sayCell(); },
  });
  const box = el("div", { class: "matrix" }, base, over);
  box.style.width = `${size.width}px`;
  const axes = el("p", { class: "axes" }, el("span", {}, "Rows reach columns: clients in the row’s cluster, services in the column’s"), el("span", {}, `${plural(rows.length, "row")} × ${plural(columns.length, "column")}`));
  host.replaceChildren(axes, box);
  for (const canvas of [base, over]) sharpen(canvas, size);
  paint(base.getContext("2d"), size);
  markMatrix();
  if (had) over.focus();
}

/** Where a cell begins: on a whole pixel, although cells may be wider by a part of one. */
const edge = (index) => Math.round(index * matrix.cell);

function sharpen(canvas, { width, height }) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  canvas.style.width = `${width}px`;
  canvas.style.height = `${height}px`;
  canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
}

/** The colours of the theme, as a canvas needs them. */
function colours() {
  const probe = el("i", { hidden: true });
  document.body.append(probe);
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color;
  };
  const names = [...STATES, ...STATES.map((state) => `${state}-wash`), "ink", "soft", "rule", "edge", "card", "focus", "raised"];
  const found = Object.fromEntries(names.map((name) => [name, read(name)]));
  probe.remove();
  return found;
}

function paint(ink, size) {
  const { cell, left, top, rows, columns, tones } = matrix;
  ink.clearRect(0, 0, size.width, size.height);
  const gap = cell >= 6 ? 1 : 0;
  rows.forEach((reader, row) => {
    const links = shown.picture.links[reader] || {};
    columns.forEach((peer, column) => {
      const [x, y] = [left + edge(column), top + edge(row)];
      const [width, height] = [edge(column + 1) - edge(column) - gap, edge(row + 1) - edge(row) - gap];
      if (reader === peer) {
        ink.fillStyle = tones.rule;
        ink.fillRect(x, y, width, height);
        return;
      }
      const link = links[peer];
      if (link && matchesLink(reader, peer, link.state)) cellFace(ink, link.state, x, y, width, height);
    });
  });
  ink.strokeStyle = tones.rule;
  ink.lineWidth = 1;
  ink.strokeRect(left - .5, top - .5, edge(columns.length) + 1, edge(rows.length) + 1);
  labels(ink, rows, "row");
  labels(ink, columns, "column");
}

/** A state by colour, weight and, where there is room, by shape. */
function cellFace(ink, state, x, y, width, height) {
  const { tones } = matrix;
  const face = Math.min(width, height);
  const middle = face / 2;
  ink.fillStyle = face < 9 && state !== "joined" ? tones[state] : tones[`${state}-wash`];
  ink.fillRect(x, y, width, height);
  if (face < 9) {
    if (state !== "joined") return;
    const inset = face >= 5 ? 1.5 : 0;
    ink.fillStyle = tones.joined;
    ink.globalAlpha = .16;
    ink.fillRect(x + inset, y + inset, width - 2 * inset, height - 2 * inset);
    ink.globalAlpha = 1;
    return;
  }
  ink.strokeStyle = ink.fillStyle = tones[state];
  ink.lineWidth = Math.max(1.5, face / 9);
  ink.lineCap = "round";
  const r = face * .24;
  const [cx, cy] = [x + middle, y + middle];
  ink.beginPath();
  if (state === "broken") {
    ink.fillRect(x, y, width, height);
    ink.strokeStyle = tones.card;
    ink.moveTo(cx - r, cy - r); ink.lineTo(cx + r, cy + r); ink.moveTo(cx + r, cy - r); ink.lineTo(cx - r, cy + r);
  } else if (state === "at-risk") {
    ink.moveTo(cx, cy - r); ink.lineTo(cx, cy + r * .3); ink.moveTo(cx, cy + r); ink.lineTo(cx, cy + r + .1);
  } else if (state === "waiting") {
    ink.arc(cx, cy, r, 0, 2 * Math.PI);
  } else if (state === "leaving") {
    ink.moveTo(cx - r, cy - r); ink.lineTo(cx + r, cy + r);
  } else if (state === "paused") {
    ink.moveTo(cx - r * .6, cy - r); ink.lineTo(cx - r * .6, cy + r); ink.moveTo(cx + r * .6, cy - r); ink.lineTo(cx + r * .6, cy + r);
  } else {
    ink.arc(cx, cy, Math.max(1.5, face * .12), 0, 2 * Math.PI);
    ink.fill();
    return;
  }
  ink.stroke();
}

/** Names beside the matrix: all where there is room, else those that are not well. */
function labels(ink, names, side) {
  const { cell, left, top, tones } = matrix;
  const all = cell >= LABEL;
  ink.font = `${LABEL}px Inter, system-ui, sans-serif`;
  ink.textBaseline = "middle";
  ink.textAlign = side === "row" ? "right" : "left";
  let free = -Infinity;
  names.forEach((name, index) => {
    const state = loudest(name);
    const middle = (index + .5) * cell;
    if (!all && (state === "joined" || middle - free < LABEL + 1)) return;
    free = middle;
    ink.fillStyle = state === "joined" ? tones.soft : tones[state];
    write(ink, side, side === "row" ? top + middle : left + middle, clip(name, 18));
  });
}

/** The state of a cluster, or of its links where most of a direction share one that is not well. */
function loudest(name) {
  const { state } = shown.picture.clusters[name];
  if (state !== "joined") return state;
  const counts = shown.tallies.get(name);
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return STATES.find((state) => state !== "joined" && counts[state] > total / 4) || "joined";
}

function write(ink, side, at, message) {
  const { left, top } = matrix;
  ink.save();
  if (side === "row") ink.translate(left - 7, at);
  else { ink.translate(at, top - 7); ink.rotate(-Math.PI / 2); }
  ink.fillText(message, 0, 0);
  ink.restore();
}

function markMatrix() {
  const over = $("cells");
  if (!over) return;
  const ink = over.getContext("2d");
  const { cell, left, top, rows, columns, at, tones } = matrix;
  ink.clearRect(0, 0, over.width, over.height);
  const band = (names, name, side, fillTone) => {
    const index = names.indexOf(name);
    if (index < 0) return;
    ink.fillStyle = fillTone;
    ink.globalAlpha = .14;
    if (side === "row") ink.fillRect(left, top + edge(index), edge(columns.length), edge(index + 1) - edge(index));
    else ink.fillRect(left + edge(index), top, edge(index + 1) - edge(index), edge(rows.length));
    ink.globalAlpha = 1;
    const middle = (index + .5) * cell;
    const message = clip(name, 18);
    ink.font = `600 ${LABEL}px Inter, system-ui, sans-serif`;
    ink.textBaseline = "middle";
    ink.textAlign = side === "row" ? "right" : "left";
    // the name on a ground of its own, above what is written there
    ink.save();
    if (side === "row") ink.translate(left - 7, top + middle);
    else { ink.translate(left + middle, top - 7); ink.rotate(-Math.PI / 2); }
    const width = ink.measureText(message).width;
    ink.fillStyle = tones.card;
    ink.fillRect(side === "row" ? -width - 5 : -5, -LABEL * .75, width + 10, LABEL * 1.5);
    ink.fillStyle = tones.ink;
    ink.fillText(message, 0, 0);
    ink.restore();
  };
  const chosen = shown.chosen || {};
  const [row, column] = at || [chosen.cluster || chosen.reader, chosen.cluster || chosen.peer];
  if (row) band(rows, row, "row", tones.ink);
  if (column) band(columns, column, "column", tones.ink);
  const spot = at || (chosen.reader ? [chosen.reader, chosen.peer] : null);
  if (spot) {
    const [r, c] = [rows.indexOf(spot[0]), columns.indexOf(spot[1])];
    ink.strokeStyle = tones.ink;
    ink.lineWidth = 2;
    if (r >= 0 && c >= 0) ink.strokeRect(left + edge(c) - 1.5, top + edge(r) - 1.5, cell + 2, cell + 2);
  }
}

function cellAt(event) {
  const box = event.currentTarget.getBoundingClientRect();
  const column = Math.floor((event.clientX - box.left - matrix.left) / matrix.cell);
  const row = Math.floor((event.clientY - box.top - matrix.top) / matrix.cell);
  const [reader, peer] = [matrix.rows[row], matrix.columns[column]];
  return reader !== undefined && peer !== undefined ? [reader, peer] : null;
}

function cellWords([reader, peer]) {
  if (reader === peer) return [reader, [STATE_WORDS[shown.picture.clusters[reader].state][0], tally(reader)]];
  const link = linkOf(reader, peer);
  return [`${reader} → ${peer}`, link ? [STATE_WORDS[link.state][0], ...(link.reasons || []).slice(0, 3)] : ["No link is asked for"]];
}

function hoverMatrix(event) {
  matrix.at = cellAt(event);
  if (matrix.at) tip(event, ...cellWords(matrix.at));
  else tip(null);
  markMatrix();
}

function openCell() {
  const [reader, peer] = matrix.at || [];
  if (!reader) return;
  choose(linkOf(reader, peer) ? { reader, peer } : { cluster: reader }, true);
}

/** Where the keyboard begins: at what is chosen, else at the first link that is not well. */
function startCell() {
  const chosen = shown.chosen;
  if (chosen && chosen.reader) return [chosen.reader, chosen.peer];
  const worst = allLinks().filter(({ link }) => link.state !== "joined").sort((a, b) => rank(a.link.state) - rank(b.link.state))[0];
  return worst && matrix.rows.includes(worst.reader) ? [worst.reader, worst.peer] : [matrix.rows[0], matrix.columns[0]];
}

function walkMatrix(event) {
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  if (event.key === "Enter" || event.key === " ") {
    event.preventDefault();
    openCell();
  } else if (steps[event.key]) {
    event.preventDefault();
    const [reader, peer] = matrix.at || startCell();
    const move = (names, name, by) => names[Math.max(0, Math.min(names.length - 1, names.indexOf(name) + by))];
    const [down, right] = steps[event.key];
    matrix.at = [move(matrix.rows, reader, down), move(matrix.columns, peer, right)];
    markMatrix();
    sayCell();
  }
}

function sayCell() {
  if (!matrix.at || !matrix.at[0]) return;
  const [title, message] = cellWords(matrix.at);
  say(`${title}: ${message.join(", ")}`);
}
