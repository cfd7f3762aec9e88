"use strict";
// Words and small parts. Every text goes in by textContent; nothing is parsed as HTML.

const STATES = ["broken", "at-risk", "waiting", "leaving", "paused", "joined"];
const STATE_WORDS = {
  "broken": ["Broken", "Action is needed: it fails, is held back, or lacks what it should have."],
  "at-risk": ["At risk", "It worked and may not for long: something ends soon, or one end is broken."],
  "waiting": ["Waiting", "On its way; it waits for what another cluster has yet to show."],
  "leaving": ["Leaving", "On its way out, stage by stage."],
  "paused": ["Paused", "Kept as it is, and not asked."],
  "joined": ["Joined", "As the specs ask."],
};
const SIGNS = {
  "broken": "M3 3l10 10M13 3L3 13",
  "at-risk": "M8 1.5v8M8 13.4v.2",
  "waiting": "M8 1.8a6.2 6.2 0 1 0 .01 0M8 4.6V8l2.4 1.6",
  "leaving": "M3 3l9.4 9.4M12.6 5v7.6H5",
  "paused": "M5 2.5v11M11 2.5v11",
  "joined": "M2 8.6l4 4 8-9",
};

const $ = (id) => document.getElementById(id);
const rank = (state) => STATES.indexOf(state);
const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);

/** An HTML element; children are texts or elements, null is left out. */
function el(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** An SVG element. */
function svg(tag, attributes, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function sign(state, attributes) {
  const path = svg("path", { d: SIGNS[state], fill: "none", stroke: "currentColor", "stroke-width": 2.2, "stroke-linecap": "round", "stroke-linejoin": "round" });
  return svg("svg", { class: "sign", viewBox: "0 0 16 16", "aria-hidden": "true", ...attributes }, path);
}

function tag(state, word, large) {
  return el("span", { class: large ? "tag large" : "tag", "data-state": state }, sign(state), word || STATE_WORDS[state][0]);
}

const plural = (count, word) => `${count.toLocaleString("en")} ${word}${count === 1 ? "" : "s"}`;

function list(message) {
  if (message.length < 2) return message.join("");
  return `${message.slice(0, -1).join(", ")} and ${message[message.length - 1]}`;
}

/** A span of seconds in the largest unit that says enough. */
function span(seconds) {
  const units = [["year", 31557600], ["month", 2629800], ["day", 86400], ["hour", 3600], ["minute", 60]];
  for (const [word, size] of units) {
    const most = word === "month" || word === "year" ? 2 : 1;
    if (seconds >= size * most) return plural(Math.floor(seconds / size), word);
  }
  return seconds < 10 ? "a few seconds" : `${Math.floor(seconds)} seconds`;
}

const day = (seconds) => new Date(seconds * 1000).toISOString().slice(0, 10);
const minute = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ")} UTC`;

/** The viewer's clock, never before the picture was made. */
const clock = () => Math.max(Date.now() / 1000, shown.picture.generatedAt);
const ago = (seconds) => `${span(Math.max(0, clock() - seconds))} ago`;

/** When something ends, as text, and how near that is. */
function expiry(seconds, soon) {
  const left = seconds - clock();
  if (left <= 0) return { message: `ended ${span(-left)} ago, ${day(seconds)}`, near: "past" };
  return { message: `in ${span(left)}, ${day(seconds)}`, near: left < soon ? "near" : null };
}

const DAY = 86400;
const firstEnd = (cluster) => cluster.roots ? Math.min(...cluster.roots.map((root) => root.expires)) : null;

/** Age of a cluster's metadata, as text. */
function readWords(cluster) {
  if (cluster.readAt) return ago(cluster.readAt);
  return shown.picture.asked ? "not read" : "not asked";
}
