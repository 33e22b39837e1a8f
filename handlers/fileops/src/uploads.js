// Uploads: files and folders that are chosen or dropped, a few at a time.

// What waits for its turn, what has begun, and what has come of this round so far.
const waiting = [], started = new Set(), newRound = () => ({ all: 0, done: 0, failed: 0, said: "" });
let round = newRound();

function duration(seconds) {
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  const minutes = Math.round(seconds / 60);
  return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

class Upload {
  constructor(file, replaces) {
    this.file = file;
    this.replaces = replaces;
    this.state = make("span", { className: "state" });
    this.buttons = make("span", { className: "buttons" });
    this.bar = make("progress", { max: 1, ariaLabel: `Upload of ${file.name}` });
    this.row = make("li", {}, make("span", { className: "name", textContent: file.name }),
      this.buttons, this.state, this.bar);
    $("#transfers").append(this.row);
    this.wait();
  }

  offer(...buttons) {
    this.buttons.replaceChildren(...buttons.map(([text, onclick]) =>
      make("button", { textContent: text, ariaLabel: `${text} ${this.file.name}`, onclick })));
  }

  wait() {
    this.canceled = new AbortController();
    this.bar.value = 0;
    this.bar.hidden = false;
    this.state.className = "state";
    this.state.textContent = "Waiting";
    this.offer(["Cancel", () => this.cancel()]);
    waiting.push(this);
    round.all++;
  }

  cancel() {
    this.canceled.abort();
    this.row.remove();
    const place = waiting.indexOf(this);
    if (place >= 0) waiting.splice(place, 1);
    round.all--;
    say(`“${this.file.name}” was not uploaded`);
    proceed();
  }

  again() {
    if (this.round === round) {
      round.all--;
      round.failed--;
    }
    this.wait();
    proceed();
  }

  fail(why, ...buttons) {
    round.failed++;
    this.round = round;
    this.bar.hidden = true;
    this.state.className = "state failed";
    this.state.textContent = why;
    this.offer(...buttons, ["Dismiss", () => this.row.remove()]);
  }

  // Tries until the server has the file, or has refused it. There is no part of an upload to go
  // on with: each try begins with the first byte.
  async run() {
    const again = () => this.again();
    for (let tries = 1; ; tries++) {
      const { status, text, wished } = await this.send();
      if (this.canceled.signal.aborted) return;
      if (status === 200) {
        this.row.remove();
        round.done++;
        round.said = text;
        return refreshSoon();
      }
      if (status === 412) {
        const perhaps = tries > 1 ? ", perhaps by the try that broke off" : "";
        return this.fail(`A file of this name is there${perhaps}`,
          ["Replace", () => { this.replaces = true; again(); }]);
      }
      if (status && status !== 503) return this.fail(text || `status ${status}`, ["Retry", again]);
      if (!await this.isReadable()) return this.fail("The file changed, or cannot be read: choose it again");
      if (tries === TRIES) return this.fail(text || "The connection broke", ["Retry", again]);
      const seconds = pause(tries, wished);
      this.bar.value = 0;
      this.state.textContent = `${status ? "The server is busy" : "The connection broke"}: again in ${seconds} s`;
      await Promise.race([sleep(seconds), this.isCanceled()]);
      if (this.canceled.signal.aborted) return;
    }
  }

  isCanceled() {
    return new Promise((resolve) => this.canceled.signal.addEventListener("abort", resolve));
  }

  // What the browser reports as a broken connection may be a file that is no more what was chosen.
  isReadable() {
    return this.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  }

  // One try. Resolves with the status of the answer: 0 where there was none.
  send() {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      const end = () => resolve({
        status: request.status, text: request.responseText.trim(), wished: request.getResponseHeader("Retry-After"),
      });
      request.onloadend = end;
      request.upload.onprogress = this.measure();
      this.canceled.signal.addEventListener("abort", () => request.abort());
      request.open("POST", at("upload", this.file.name));
      request.setRequestHeader("Content-Type", "application/octet-stream");
      // What came to be there since the list was loaded is not replaced.
      if (!this.replaces) request.setRequestHeader("If-None-Match", "*");
      request.send(this.file);
    });
  }

  // Shows how much has been sent, how fast of late, and how long the rest takes at that pace.
  measure() {
    let before = { loaded: 0, time: performance.now() }, speed = 0;
    return ({ loaded, total }) => {
      const time = performance.now(), seconds = (time - before.time) / 1000;
      if (seconds > 0.5) {
        const current = (loaded - before.loaded) / seconds;
        speed = speed ? 0.7 * speed + 0.3 * current : current;
        before = { loaded, time };
      }
      this.bar.value = total ? loaded / total : 1;
      const parts = [`${size(loaded)} of ${size(total)}`];
      if (speed) parts.push(`${size(speed)}/s`, `${duration((total - loaded) / speed)} left`);
      this.state.textContent = loaded < total ? parts.join(", ") : "Sent: the server stores it";
    };
  }
}

// Starts what may start, and says what came of a round when it is over.
function proceed() {
  while (started.size < PARALLEL && waiting.length) {
    const upload = waiting.shift();
    started.add(upload);
    upload.run().finally(() => {
      started.delete(upload);
      proceed();
    });
  }
  const { all, done, failed, said } = round;
  $("#queue").hidden = all < 2 || !started.size;
  $("#queue span").textContent = `${(done + failed).toLocaleString()} of ${counted(all, "file")}`;
  if (started.size || !all) return;
  round = newRound();
  const sum = all === 1 && done ? said : `${counted(done, "file")} uploaded`;
  say(!failed ? sum : done ? `${sum}, ${failed} not` : `${counted(failed, "file")} not uploaded`, failed > 0);
  refresh();
}

// Why a name cannot be that of a file here, if it cannot. The server has the last word.
function unfit(name) {
  if (name.isWellFormed?.() === false || /[\\\p{Cc}]/u.test(name)) {
    return "its name has a character that no name may have";
  }
  return new TextEncoder().encode(name).length > 255 ? "its name is too long" : "";
}

// Uploads files, each with the path that it had, after a question where one is due.
async function offer(found, hasFolders, unreadable = []) {
  const byName = new Map();
  let fit = [];
  const left = unreadable.map((path) => `“${path}” cannot be read`);
  for (const one of found) byName.set(one.file.name, [...byName.get(one.file.name) ?? [], one]);
  for (const [name, same] of byName) {
    const why = unfit(name);
    if (why) left.push(...same.map(({ path }) => `“${path}”: ${why}`));
    else if (same.length > 1) left.push(`${same.map(({ path }) => `“${path}”`).join(", ")}: all of the same name`);
    else fit.push(same[0].file);
  }
  const names = new Set((await load().catch(() => files)).map((file) => file.name));
  const there = fit.filter((file) => names.has(file.name));
  const parts = [];
  if (hasFolders) {
    parts.push([`This uploads ${counted(fit.length, "file")}, from the folder and all folders within it. The server ` +
      "has no folders: each file is stored by its own name. Empty folders are left out."]);
  }
  if (left.length) parts.push(["These are not uploaded:", left]);
  if (there.length) parts.push(["There are already files of these names:", there.map((file) => file.name)]);
  if (parts.length) {
    const answers = { no: "Cancel" };
    if (there.length < fit.length) answers.skip = there.length ? "Upload the others" : "Upload";
    if (there.length) answers.yes = there.length < fit.length ? "Upload and replace" : "Replace";
    const answer = await ask(parts, answers);
    if (answer !== "yes" && answer !== "skip") return say("Nothing was uploaded");
    if (answer === "skip") fit = fit.filter((file) => !names.has(file.name));
    report(left.map((text) => `Not uploaded: ${text}`));
  }
  fit.forEach((file) => new Upload(file, names.has(file.name)));
  proceed();
}

// The files of what was dropped, those of folders within folders included.
async function walk(entry, found, unreadable) {
  const path = entry.fullPath.replace(/^\//, "");
  try {
    if (entry.isFile) {
      found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path });
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const inner = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
      if (!inner.length) return;
      for (const one of inner) await walk(one, found, unreadable);
    }
  } catch {
    unreadable.push(path);
  }
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  const found = [], unreadable = [];
  for (const entry of entries) await walk(entry, found, unreadable);
  await offer(found, entries.some((entry) => entry.isDirectory), unreadable);
}

for (const input of [$("#pick"), $("#pick-folder")]) {
  input.onchange = () => {
    const found = [...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name }));
    input.value = "";
    offer(found, input.webkitdirectory);
  };
}
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("#drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && !$("dialog[open]")) dropped(event.dataTransfer);
  });
}
$("#queue button").onclick = () => {
  const all = [...waiting, ...started];
  for (const upload of all) upload.cancel();
  say(`${counted(all.length, "file")} not uploaded`);
};
// A page that is left loses its uploads.
addEventListener("beforeunload", (event) => { if (started.size) event.preventDefault(); });
$("#drop").hidden = false;
refresh();
