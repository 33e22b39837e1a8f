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

/** A time that was measured to a part of a millisecond. */
const milliseconds = (number) => `${number < 10 ? number.toFixed(1) : Math.round(number)} ms`;

/** A time that was counted in whole milliseconds. */
const wholeMilliseconds = (number) => number === 0 ? "less than 1 ms" : `${number} ms`;

/** What is taken away, in words. */
const without = (layers) => layers.length ? ` without ${layers.join(" and ")}` : "";

/** Where on its way each missing layer would have been. */
const stepOfLayer = { paths: "monitor", quota: "monitor", deadline: "monitor", landlock: "kernel", seccomp: "kernel" };

/** What goes where a layer is only partly taken away. */
const partOfLayer = {
  paths: "only the check of symbolic links: a path with .. is still refused",
  deadline: "only the look at the clock in host calls: compiled code that loops is still ended",
};

/** The steps that a request passed, and where it ended. Without an answer the last one is its end. */
function drawWay(list, steps, outcome, missing) {
  const end = outcome.step ?? (outcome.passed.includes(steps.at(-1)) ? null : steps.at(-1));
  const isBehindEnd = (at) => end !== null && at > steps.indexOf(end);
  steps.forEach((step, at) => {
    const item = element("li", step);
    if (step === end) {
      item.classList.add("ended");
      item.textContent = `${step}: ${outcome.step ? outcome.layer : "none came"}`;
      item.setAttribute("aria-current", "step");
    } else if (outcome.passed.includes(step)) {
      item.classList.add("passed");
    } else if (!isBehindEnd(at)) {
      item.classList.add("unmet");
      item.textContent = `${step}: not met`;
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
  const unstopped = { nothing: "nothing stopped it", "not applicable": "there is nothing to attack" };
  const ended = unstopped[outcome.layer] ?? `stopped by: ${outcome.layer}`;
  find(".pool").textContent = `${pools[outcome.pool]}:`;
  find(".verdict").textContent = predicted === "" ? ended : `${ended}. ${isRight ? "As predicted" : `Predicted: ${predicted}`}`;
  if (predicted !== "") find(".verdict").classList.add(isRight ? "right" : "wrong");
  drawWay(find(".way"), steps, outcome, missing);
  find(".got").textContent = outcome.got;
  const { answered, median, slowest, unserved } = outcome.others;
  const served = answered === 0 ? "none answered"
    : `${answered} answered, ${milliseconds(median)} in the median, ${milliseconds(slowest)} at most`;
  drawFacts(find(".facts"), [
    ["Took", wholeMilliseconds(outcome.milliseconds)],
    ["Other clients", unserved ? `${served}; ${unserved}` : served],
    ["The server", outcome.lives ? "lives" : "died"],
    ["Outside", outcome.changed_outside ? "a file outside the directory has changed" : "unchanged"],
    ["Workers have", outcome.sandbox],
    ["Evidence", outcome.observed.join("; ")],
  ]);
  drawAudit(find(".scroll"), outcome.audit);
  return card;
}

/** Host calls that did not end well, with their paths where one has any. */
function drawAudit(region, calls) {
  region.hidden = calls.length === 0;
  const hasPath = calls.some(({ path }) => path !== null);
  region.querySelector(".path").hidden = !hasPath;
  for (const { function: name, path, other_path: other, outcome, reason } of calls) {
    const row = document.createElement("tr");
    const paths = [path, other].filter((part) => part !== null).join(" → ");
    row.append(element("td", name), element("td", outcome), element("td", reason));
    if (hasPath) row.firstElementChild.after(element("td", paths, "path"));
    region.querySelector("tbody").append(row);
  }
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
    ["Then GET /edited", `${swap.status ?? "no answer"}, ${wholeMilliseconds(swap.milliseconds)}`],
    ["Stopped by", swap.stopped_by ?? ""],
    ["Body", swap.body],
  ]);
  card.append(element("h3", pools[swap.pool]), facts);
  return card;
}
