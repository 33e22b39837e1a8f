"use strict";

// What is drawn. All that servers, handlers and attacks say is shown as text.

const byId = (id) => document.getElementById(id);

/** An element of this name with a text, and a class if there is one. */
function element(name, text, kind) {
  const made = document.createElement(name);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function option(value, text) {
  const made = element("option", text);
  made.value = value;
  return made;
}

const pools = { thread: "Thread pool", process: "Process pool" };

const milliseconds = (number) => number == null ? "none" : `${number < 10 ? number.toFixed(1) : Math.round(number)} ms`;

/** What is taken away, in words. */
const without = (layers) => layers.length ? ` without ${layers.join(" and ")}` : "";

/** Where on its way each missing layer would have been. */
const stepOfLayer = { paths: "monitor", quota: "monitor", deadline: "worker", landlock: "kernel", seccomp: "kernel" };

/** The steps that a request went through, and where it ended. */
function drawWay(list, steps, outcome, missing) {
  const end = outcome.step ? steps.indexOf(outcome.step) : steps.length;
  steps.forEach((step, at) => {
    const item = element("li", step);
    if (at < end) item.classList.add("passed");
    if (at === end) {
      item.classList.add("ended");
      item.textContent = `${step}: ${outcome.layer}`;
      item.setAttribute("aria-current", "step");
    }
    const lacks = missing.filter((layer) => stepOfLayer[layer] === step);
    if (lacks.length) {
      item.classList.add("missing");
      item.append(` (no ${lacks.join(", no ")})`);
    }
    list.append(item);
  });
}

function drawFacts(list, facts) {
  for (const [name, value] of facts) {
    if (value !== "") list.append(element("dt", name), element("dd", value));
  }
}

/** What was seen in one pool, beside what was predicted. */
function drawOutcome(outcome, predicted, steps, missing) {
  const card = byId("outcome").content.cloneNode(true);
  const find = (selector) => card.querySelector(selector);
  const isRight = predicted === outcome.layer;
  const ended = outcome.layer === "nothing" ? "nothing stopped it" : `stopped by: ${outcome.layer}`;
  find(".pool").textContent = `${pools[outcome.pool]}:`;
  find(".verdict").textContent = predicted === "" ? ended : `${ended}. ${isRight ? "As predicted" : `Predicted: ${predicted}`}`;
  if (predicted !== "") find(".verdict").classList.add(isRight ? "right" : "wrong");
  drawWay(find(".way"), steps, outcome, missing);
  find(".got").textContent = outcome.got;
  const { answered, median, slowest, unserved } = outcome.others;
  const times = `${milliseconds(median)} in the median, ${milliseconds(slowest)} at most`;
  drawFacts(find(".facts"), [
    ["Took", milliseconds(outcome.milliseconds)],
    ["Other clients", `${answered} answered, ${times}${unserved ? `; ${unserved}` : ""}`],
    ["The server", outcome.lives ? "lives" : "died"],
    ["Outside", outcome.changed_outside ? "a file outside the directory has changed" : "unchanged"],
    ["Workers have", outcome.sandbox],
    ["Evidence", outcome.observed.join("; ")],
  ]);
  if (outcome.audit.length) {
    find(".scroll").hidden = false;
    for (const call of outcome.audit) {
      const row = document.createElement("tr");
      row.append(element("td", call.function), element("td", call.outcome), element("td", call.reason));
      find("tbody").append(row);
    }
  }
  return card;
}

/** Where a server is watched. */
function drawDashboard({ pool, url }) {
  const link = element("a", `${pools[pool]}: dashboard`);
  Object.assign(link, { href: url, target: "_blank", rel: "noreferrer" });
  const item = document.createElement("li");
  item.append(link);
  return item;
}

/** What came of a swap in one pool. */
function drawSwap(swap) {
  const card = document.createElement("article");
  const facts = element("dl", "", "facts");
  drawFacts(facts, [
    ["The server", swap.said],
    ["Then GET /edited", `${swap.status ?? "no answer"}, ${milliseconds(swap.milliseconds)}`],
    ["Stopped by", swap.stopped_by ?? ""],
    ["Body", swap.body],
  ]);
  card.append(element("h3", pools[swap.pool]), facts);
  return card;
}
