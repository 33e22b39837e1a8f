"use strict";
// The list of files: sorted, filtered, shown in place and deleted. All names are others' text.

const $ = (selector) => document.querySelector(selector);
const rows = $("#files tbody"), nameOrder = new Intl.Collator(undefined, { numeric: true });

// How many rows are drawn before the browser has a moment for something else.
const PIECE = 500;
// How many requests are made at the same time.
const PARALLEL = 3;
// How often a request is made that the server has no time for, or that the network loses.
const TRIES = 5;
// How much of a text is shown, in bytes.
const PREVIEW = 65536;

// Relative, as all links here: the page may be below a prefix, or a proxy's path.
const at = (route, name) => `${route}/${encodeURIComponent(name)}`;

// An element with these properties. A child that is a string is text, never HTML.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

const counted = (count, noun) => `${count.toLocaleString()} ${noun}${count === 1 ? "" : "s"}`;

function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (bytes >= 1024 && unit < units.length - 1) { bytes /= 1024; unit++; }
  return `${unit && bytes < 10 ? bytes.toFixed(1) : Math.round(bytes)} ${units[unit]}`;
}

function say(text, failed = false) {
  $("#status").textContent = text;
  $("#status").classList.toggle("failed", failed);
}

// Adds messages that stay until they are cleared.
function report(messages) {
  $("#results ul").append(...messages.map((text) => make("li", { textContent: text })));
  $("#results").hidden = !$("#results li");
}

// Asks a question of parts, each a text and the names it is about. Resolves with the key of an
// answer, or with "" where the dialog is left without one.
function ask(parts, answers) {
  const dialog = $("#confirm");
  const shown = parts.map(([text, names = []]) => [
    make("p", { textContent: text }),
    ...(names.length ? [make("ul", { tabIndex: 0 }, ...names.map((name) => make("li", {}, name)))] : []),
  ]);
  $("#confirm-text").replaceChildren(...shown.flat());
  const button = ([key, textContent]) =>
    make("button", { id: `confirm-${key}`, textContent, onclick: () => dialog.close(key) });
  dialog.querySelector(".answers").replaceChildren(...Object.entries(answers).map(button));
  dialog.returnValue = "";
  dialog.showModal();
  $("#confirm-no").focus();
  return new Promise((resolve) => { dialog.onclose = () => resolve(dialog.returnValue); });
}

const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, 1000 * seconds));

// Seconds until another try: more each time, and no less than the server asks for.
const pause = (tries, wished) => Math.max(2 ** (tries - 1), Math.min(Number(wished) || 0, 60));

async function patiently(attempt) {
  for (let tries = 1; ; tries++) {
    const answer = await attempt();
    if (answer.status !== 503 || tries === TRIES) return answer;
    await sleep(pause(tries, answer.headers.get("Retry-After")));
  }
}

// Does something with each item, with a few at a time.
async function each(items, action) {
  const rest = items.values();
  const work = async () => { for (const item of rest) await action(item); };
  await Promise.all(Array.from({ length: PARALLEL }, work));
}

// All files, in the order shown; those of them that the filter lets through; the names chosen.
let files = [], shown = [], chosen = new Set();
const order = { key: "name", sign: 1 };
// Rows that were made, by name: most files stay as they are when the list is loaded again.
let drawn = new Map(), drawing = 0;

function newRow(file) {
  const box = make("input", { type: "checkbox", ariaLabel: `Select ${file.name}`, onchange: () => {
    if (box.checked) chosen.add(file.name); else chosen.delete(file.name);
    showChosen();
  } });
  const cell = (className, ...children) => make("td", { className }, ...children);
  const button = (className, text, onclick) =>
    make("button", { className, textContent: text, ariaLabel: `${text} ${file.name}`, onclick });
  const when = new Date(file.modified * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  const row = make("tr", {},
    cell("chosen", box),
    cell("name", make("a", { href: at("download", file.name), download: file.name, textContent: file.name })),
    cell("size", size(file.size)),
    cell("time", when),
    cell("actions", button("show", "Show", () => preview(file)),
      button("delete", "Delete", () => remove([file.name]))));
  return { file, row, box };
}

function rowOf(file) {
  let known = drawn.get(file.name);
  if (known?.file.size !== file.size || known.file.modified !== file.modified) {
    known = newRow(file);
    drawn.set(file.name, known);
  }
  known.box.checked = chosen.has(file.name);
  return known.row;
}

// Draws the list piece by piece, so that a long one does not hold up the browser.
function draw() {
  const wanted = $("#filter").value.toLowerCase();
  shown = wanted ? files.filter((file) => file.name.toLowerCase().includes(wanted)) : files;
  const turn = ++drawing, focused = document.activeElement;
  let next = PIECE;
  const more = () => {
    if (turn !== drawing || next >= shown.length) return;
    rows.append(...shown.slice(next, next += PIECE).map(rowOf));
    requestAnimationFrame(more);
  };
  rows.replaceChildren(...shown.slice(0, PIECE).map(rowOf));
  requestAnimationFrame(more);
  if (rows.contains(focused)) focused.focus({ preventScroll: true });
  $("#tools").hidden = !files.length;
  $("#files").hidden = !shown.length;
  $("#empty").hidden = shown.length > 0;
  $("#empty").textContent =
    files.length ? `No name contains “${wanted}”.` : "Nothing here yet. Upload the first file.";
  $("#matches").textContent = wanted ? `${shown.length.toLocaleString()} of ${counted(files.length, "file")}` : "";
  const bytes = files.reduce((sum, file) => sum + file.size, 0);
  $("#total").textContent = `${counted(files.length, "file")}, ${size(bytes)}`;
  showChosen();
}

// What is chosen but filtered out is left alone.
const chosenNames = () => shown.map((file) => file.name).filter((name) => chosen.has(name));

function showChosen() {
  const count = chosenNames().length, all = $("#choose-all");
  $("#delete-chosen").disabled = !count;
  $("#delete-chosen").textContent = count ? `Delete selected (${count.toLocaleString()})` : "Delete selected";
  all.checked = count > 0 && count === shown.length;
  all.indeterminate = count > 0 && count < shown.length;
}

function sort() {
  const { key, sign } = order;
  const compare = key === "name"
    ? (a, b) => nameOrder.compare(a.name, b.name)
    : (a, b) => a[key] - b[key] || nameOrder.compare(a.name, b.name);
  files.sort((a, b) => sign * compare(a, b));
  for (const head of document.querySelectorAll("th[data-key]")) {
    head.ariaSort = head.dataset.key !== key ? null : sign > 0 ? "ascending" : "descending";
  }
}

// Only with the script can the list be sorted and files be chosen.
function prepareTable() {
  const all = make("input", { type: "checkbox", id: "choose-all", ariaLabel: "Select all", onchange: () => {
    for (const { name } of shown) if (all.checked) chosen.add(name); else chosen.delete(name);
    for (const { file, box } of drawn.values()) box.checked = chosen.has(file.name);
    showChosen();
  } });
  $("#files thead tr").prepend(make("th", { className: "chosen" }, all));
  for (const head of document.querySelectorAll("th[data-key]")) {
    head.replaceChildren(make("button", { textContent: head.textContent, onclick: () => {
      order.sign = order.key === head.dataset.key ? -order.sign : 1;
      order.key = head.dataset.key;
      sort();
      draw();
    } }));
  }
}

async function load() {
  const answer = await fetch("listdir", { cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}

let refreshing;
async function refresh() {
  clearTimeout(refreshing);
  refreshing = undefined;
  try {
    files = await load();
    if (!$("#choose-all")) prepareTable();
    const names = new Set(files.map((file) => file.name));
    chosen = new Set([...chosen].filter((name) => names.has(name)));
    drawn = new Map([...drawn].filter(([name]) => names.has(name)));
    sort();
    draw();
  } catch (error) {
    say(`The list could not be loaded: ${error.message}`, true);
  }
}

const refreshSoon = () => { refreshing ??= setTimeout(refresh, 1000); };

async function remove(names) {
  const [question, list] = names.length === 1
    ? [`Delete “${names[0]}”? This cannot be undone.`]
    : [`Delete ${counted(names.length, "file")}? This cannot be undone.`, names];
  if (await ask([[question, list]], { no: "Keep", yes: "Delete" }) !== "yes") return;
  const failures = [];
  let last = "", done = 0;
  await each(names, async (name) => {
    try {
      const answer = await patiently(() => fetch(at("delete", name), { method: "DELETE" }));
      const text = await answer.text();
      if (!answer.ok) throw new Error(text);
      last = text;
      done++;
      chosen.delete(name);
      if (names.length > 1) say(`${done.toLocaleString()} of ${counted(names.length, "file")} deleted`);
    } catch (error) {
      failures.push(`“${name}” was not deleted: ${error.message}`);
    }
  });
  if (names.length > 1) last = `${counted(done, "file")} deleted`;
  say(failures.length ? `${last || "Nothing deleted"}, ${failures.length} not` : last, failures.length > 0);
  report(failures);
  await refresh();
  // The button that was pressed may be gone, and the keyboard's place with it.
  if (document.activeElement === document.body) $(files.length ? "#filter" : "#pick").focus();
}

// The beginning of a file as text, or null where it is none.
async function beginning(file) {
  if (!file.size) return "";
  const range = { Range: `bytes=0-${PREVIEW - 1}` };
  const answer = await fetch(at("download", file.name), { headers: range, cache: "no-store" });
  if (!answer.ok) throw new Error(await answer.text());
  try {
    // The last character may be cut off.
    const decoder = new TextDecoder("utf-8", { fatal: true });
    const text = decoder.decode(await answer.arrayBuffer(), { stream: true });
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

// Shows a file in place: a picture, a sound or a film by the browser's own element, all else as text.
async function preview(file) {
  const dialog = $("#preview"), place = $("#preview-content"), note = $("#preview-note");
  const url = at("download", file.name);
  $("#preview-name").textContent = file.name;
  Object.assign($("#preview-download"), { href: url, download: file.name });
  place.replaceChildren();
  note.textContent = "Loading …";
  dialog.showModal();
  const closed = new Promise((resolve) => { dialog.onclose = resolve; });
  let element;
  try {
    const answer = await fetch(url, { method: "HEAD", cache: "no-store" });
    if (!answer.ok) throw new Error(answer.status === 404 ? "File not found" : `status ${answer.status}`);
    const [kind] = (answer.headers.get("Content-Type") ?? "").split("/");
    if (kind === "image") {
      element = make("img", { src: url, alt: file.name });
    } else if (kind === "audio" || kind === "video") {
      element = make(kind, { src: url, controls: true, ariaLabel: file.name });
    } else {
      const text = await beginning(file);
      if (text !== null) element = make("pre", { textContent: text, tabIndex: 0 });
    }
    if (!dialog.open || $("#preview-name").textContent !== file.name) return;
    const cut = element?.localName === "pre" && file.size > PREVIEW;
    note.textContent = !element ? "This kind of file is not shown here."
      : cut ? `The first ${size(PREVIEW)} of ${size(file.size)}.` : size(file.size);
    if (!element) return;
    element.onerror = () => {
      place.replaceChildren();
      note.textContent = "This browser cannot show the file.";
    };
    place.replaceChildren(element);
    await closed;
  } catch (error) {
    note.textContent = `The file cannot be shown: ${error.message}`;
  } finally {
    // Without a source it stops to play and to load.
    element?.removeAttribute("src");
    element?.load?.();
    element?.remove();
  }
}

$("#preview-close").onclick = () => $("#preview").close();
$("#filter").oninput = draw;
$("#delete-chosen").onclick = () => remove(chosenNames());
$("#results button").onclick = () => {
  $("#results ul").replaceChildren();
  $("#results").hidden = true;
};
