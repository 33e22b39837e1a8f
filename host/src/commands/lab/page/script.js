
// What the controls do.

let catalogue = null;

/** Asks the laboratory; an error has its reason as message. */
async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(path, options);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error);
  return answer;
}

function say(id, text, isError) {
  byId(id).textContent = text;
  byId(id).classList.toggle("error", Boolean(isError));
}

/** Does what a button asks for, while it is disabled. Who pressed it by keyboard goes on from there. */
async function during(button, work) {
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  await work();
  button.disabled = false;
  const isNowhere = [document.body, button].includes(document.activeElement);
  if (hadFocus && isNowhere) button.focus();
}

const checked = () => [...document.querySelectorAll("#layers input:checked")].map((box) => box.value);

function showAttack() {
  const { tries, file, source } = catalogue.attacks.find(({ name }) => name === byId("attack").value);
  byId("tries").textContent = `It ${tries}.`;
  byId("file").textContent = file;
  byId("source").textContent = source;
}

/** An exercise sets its attack and its layers, and leaves the prediction open. */
function showExercise() {
  const exercise = catalogue.exercises[byId("exercise").value];
  if (!exercise) return;
  byId("attack").value = exercise.attack;
  for (const box of document.querySelectorAll("#layers input")) box.checked = exercise.without.includes(box.value);
  for (const pool in pools) byId(`predict-${pool}`).value = "";
  showAttack();
}

/** What is chosen by hand is the exercise that it is equal to, or none. */
function findExercise() {
  const attack = byId("attack").value;
  const layers = checked().sort().join();
  const at = catalogue.exercises.findIndex((one) => one.attack === attack && [...one.without].sort().join() === layers);
  byId("exercise").value = at < 0 ? "" : at;
}

async function attack() {
  const [name, missing] = [byId("attack").value, checked()];
  const predicted = Object.fromEntries(Object.keys(pools).map((pool) => [pool, byId(`predict-${pool}`).value]));
  say("state", `${name}${without(missing)}: two servers are started and attacked …`);
  try {
    const { outcomes, exercise } = await ask("attack", { attack: name, without: missing });
    byId("outcomes").replaceChildren(...outcomes.map((outcome) =>
      drawOutcome(outcome, predicted[outcome.pool], catalogue.steps, missing)));
    byId("why").textContent = exercise?.why ?? "";
    const ends = outcomes.map(({ pool, layer }) => `${pools[pool]}: ${layer}`).join(". ");
    say("state", `${name}${without(missing)} was tried. ${ends}.`);
  } catch (error) {
    say("state", `It was not tried: ${error.message}`, true);
  }
}

/** Has the servers that stay started, unless both run, and shows where they are watched. Says whether others had run before. */
async function start() {
  const { dashboards } = await ask("watch", {});
  const links = dashboards.map(drawDashboard);
  const addresses = (items) => [...items].map((item) => item.firstElementChild.href).join();
  const shown = addresses(byId("dashboards").children);
  if (shown === addresses(links)) return "";
  byId("dashboards").replaceChildren(...links);
  return shown && " One had ended, and both were started again.";
}

async function watch() {
  say("live-state", "Two servers are started …");
  try {
    say("live-state", `Both serve.${await start()}`);
  } catch (error) {
    say("live-state", `They were not started: ${error.message}`, true);
  }
}

async function send() {
  const attack = byId("attack").value;
  say("live-state", `${attack} is sent …`);
  try {
    const restarted = await start();
    const { sent } = await ask("send", { attack });
    const ends = sent.map(({ pool, layer, milliseconds: took }) => `${pools[pool]}: ${layer}, ${wholeMilliseconds(took)}`).join(". ");
    say("live-state", `${attack} was sent. ${ends}.${restarted}`);
  } catch (error) {
    say("live-state", `${attack} came to nothing: ${error.message}`, true);
  }
}

async function swap() {
  say("swap-state", "It is compiled …");
  try {
    const restarted = await start();
    const { swaps } = await ask("handler", { text: byId("text").value });
    byId("swaps").replaceChildren(...swaps.map(drawSwap));
    say("swap-state", `Both servers were told.${restarted}`);
  } catch (error) {
    byId("swaps").replaceChildren();
    say("swap-state", error.message, true);
  }
}

function fill() {
  byId("exercise").append(...catalogue.exercises.map((one, at) => option(at, `${at + 1}. ${one.attack}${without(one.without)}`)));
  byId("attack").append(...catalogue.attacks.map(({ name, tries }) => option(name, `${name}: ${tries}`)));
  for (const pool in pools) {
    byId(`predict-${pool}`).append(option("", "no prediction"), ...catalogue.layers.map((layer) => option(layer, layer)));
  }
  for (const layer of catalogue.removable) {
    const [item, label, box] = ["li", "label", "input"].map((name) => element(name, ""));
    Object.assign(box, { type: "checkbox", value: layer, id: `without-${layer}` });
    box.addEventListener("change", findExercise);
    label.append(box, ` ${layer}`);
    item.append(label);
    const part = partOfLayer[layer];
    if (part) {
      const hint = element("small", part);
      hint.id = `part-of-${layer}`;
      box.setAttribute("aria-describedby", hint.id);
      item.append(" ", hint);
    }
    byId("layers").append(item);
  }
  byId("text").value = catalogue.example;
  byId("exercise").value = 0;
  showExercise();
}

async function begin() {
  try {
    catalogue = await ask("catalogue");
  } catch (error) {
    say("state", `The laboratory does not answer: ${error.message}`, true);
    return;
  }
  fill();
  byId("exercise").addEventListener("change", showExercise);
  byId("attack").addEventListener("change", () => { showAttack(); findExercise(); });
  byId("trial").addEventListener("submit", (event) => {
    event.preventDefault();
    during(byId("run"), attack);
  });
  for (const [id, work] of [["watch", watch], ["send", send]]) {
    byId(id).addEventListener("click", () => during(byId(id), work));
  }
  byId("swap").addEventListener("click", () => during(byId("swap"), swap));
  byId("reset").addEventListener("click", () => { byId("text").value = catalogue.example; });
}

begin();
