"use strict";
// Elements, numbers and colours. Text from a model goes through `textContent` only; nothing here writes markup.

const SVG = "http://www.w3.org/2000/svg";
const COLOURS = 8;

/** An element: `make("p.hint", {title: "x"}, "text", child)`; attributes that are null are left out. */
function make(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElement(tag), classes, attributes, children);
}

function svg(kind, attributes = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  return filled(document.createElementNS(SVG, tag), classes, attributes, children);
}

function filled(element, classes, attributes, children) {
  if (classes.length) element.classList.add(...classes);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const byId = (id) => document.getElementById(id);

/** A number with about three digits. */
function shown(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  const size = Math.abs(value);
  if (value === 0 || (Number.isInteger(value) && size < 1e5)) return String(value);
  if (size >= 1e5 || size < 1e-3) return value.toExponential(1);
  return size >= 100 ? value.toFixed(0) : size >= 10 ? value.toFixed(1) : value.toFixed(size >= 1 ? 2 : 3);
}

/** How many decimals the numbers of a column share: about three digits of the largest; none where all are whole. */
function decimalsOf(values) {
  const known = values.filter((value) => Number.isFinite(value));
  if (known.every(Number.isInteger)) return 0;
  const size = Math.max(...known.map(Math.abs));
  return size >= 100 ? 0 : size >= 10 ? 1 : size > 1 ? 2 : 3;
}

/** A number with so many decimals. */
const fixed = (value, decimals) => (Number.isFinite(value) ? value.toFixed(decimals) : "–");

/** A difference with its sign. */
const signedFixed = (value, decimals) => (Number.isFinite(value) ? `${value > 0 ? "+" : value < 0 ? "−" : "±"}${Math.abs(value).toFixed(decimals)}` : "–");

/** Whether less of a number is better, by its name; what is not named so is taken for a score. */
const lessIsBetter = (name) => /error|fail|loss|truncated|cut off|not readable|false/i.test(name);

const signed = (value) => (value > 0 ? "+" : value < 0 ? "−" : "") + Math.abs(value).toFixed(2);
const mean = (values) => (values.length ? values.reduce((a, b) => a + b, 0) / values.length : null);
const runColour = (number) => `var(--r${number % COLOURS})`;
const answerColour = (number) => `var(--c${number % COLOURS})`;
const counted = (number, word) => `${number} ${word}${number === 1 ? "" : "s"}`;

/** Reasoning and answer of a completion, by its tags; what has no tags is shown as it is. */
function pieces(text) {
  const between = (name) => {
    const start = text.indexOf(`<${name}>`);
    if (start < 0) return null;
    const end = text.indexOf(`</${name}>`, start);
    return text.slice(start + name.length + 2, end < 0 ? undefined : end).trim();
  };
  return { thought: between("think"), answer: between("answer") };
}
