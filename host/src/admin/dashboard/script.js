// What is asked for, and when it is drawn. Whatever is kept has a bound.

// How often the state is asked for, in milliseconds.
const POLL = 1000;
// How often events are drawn at most.
const DRAW = 250;
// How often the sentence at the top is read out at most.
const ANNOUNCE = 5000;
// How long the page waits before it asks again for events that it did not get.
const AGAIN = 5000;
// Seconds of a curve.
const SECONDS = 120;
// Requests, stops, denials and swaps that are kept.
const REQUESTS = 200;
const STOPS = 50;
const DENIALS = 50;
const SWAPS = 50;
// Times of calls that are kept of one second.
const TIMES = 1000;

const requests = [];
const stops = [];
const denials = [];
const swaps = [];
const curves = { rate: [], middle: [], most: [], waiting: [] };
// What has come since the state was asked for.
let times = [];
let seen = 0;
let before = null;
// When the server has answered last.
let answered = null;
let events = null;
let poll = null;
let drawing = null;
let isPaused = false;
// Counts the times that somebody begins to look; null while nobody does.
let turn = null;
let turns = 0;
let announced = { kind: '', at: 0 };

function push(list, value, most) {
  list.push(value);
  if (list.length > most) list.shift();
}

function sayWhy(why) {
  const node = byId('why');
  setText(node, why.text);
  setClass(node, why.fails ? 'fails' : why.warns ? 'warns' : '');
  const now = Date.now();
  if (why.kind !== announced.kind && now - announced.at >= ANNOUNCE) {
    announced = { kind: why.kind, at: now };
    setText(byId('announced'), why.text);
  }
}

function endedOf({ requests: { total, active } }) {
  return total - active;
}

function drawCurves(status) {
  const elapsed = before ? status.uptime_seconds - before.uptime_seconds : 0;
  // The server has been started anew, or this is the first look.
  const rate = elapsed > 0 ? (status.requests.total - before.requests.total) / elapsed : null;
  const sorted = times.sort((a, b) => a - b);
  const [middle, most] = [quantile(sorted, 0.5), quantile(sorted, 0.99)];
  const waiting = status.handlers.reduce((sum, handler) => sum + handler.queue.waiting, 0);
  push(curves.rate, rate, SECONDS);
  push(curves.middle, middle, SECONDS);
  push(curves.most, most, SECONDS);
  push(curves.waiting, waiting, SECONDS);
  const ended = before ? endedOf(status) - endedOf(before) : 0;
  const isSampled = elapsed > 0 && seen < 0.9 * ended - 2;
  const [top, slow, line] = [curves.rate, curves.most, curves.waiting].map(values => Math.max(0, ...values));
  drawFigure('rate', `${rate === null ? '–' : number(rate)} now, ${number(top)} at most`, number(top), top, curves.rate);
  const took = middle === null ? 'no call ended in this second'
    : `median ${time(middle)}, 99th percentile ${time(most)}${isSampled ? ', of a sample' : ''}`;
  const isKnown = curves.most.some(value => value !== null);
  const slowest = isKnown ? time(slow) : '';
  drawFigure('latency', isKnown ? `${took}; ${slowest} at most` : took, slowest, slow, curves.middle, curves.most);
  drawFigure('waiting', `${number(waiting)} now, ${number(line)} at most`, number(line), line, curves.waiting);
  byId('log').dataset.sampled = isSampled
    ? `a sample: of ${number(ended / elapsed)} a second, ${number(seen / elapsed)} came here` : '';
  times = [];
  seen = 0;
}

function draw(status) {
  if (before && before.started_at !== status.started_at) {
    // Another server: what is told of the one before is not its history.
    before = null;
    events.close();
    listen(turn);
  }
  const pool = poolSentence(status);
  setText(byId('pool'), pool);
  document.title = `${pool} · Swapbox`;
  const uptime = time(status.uptime_seconds);
  setText(byId('server'), `Swapbox ${status.version}, up for ${uptime}, pid ${status.process.pid}`);
  sayWhy(explain(status, before));
  drawCurves(status);
  const template = byId('handler').content;
  const articles = children(byId('handlers'), status.handlers.length, () => template.cloneNode(true).firstElementChild);
  status.handlers.forEach((handler, at) => drawHandler(articles[at], handler, status));
  drawServer(status, before);
  before = status;
  drawSoon();
}

function timeCell(timestamp, isExact = false) {
  return { text: clock(new Date(timestamp), isExact), title: `${timestamp} (UTC)` };
}

// What is remarkable of a request: what ended its call, and what its call was denied.
function remarkOf({ stopped_by: layer, error, denied, denial }) {
  const stopped = [layer && `stopped by ${layer}`, error].filter(Boolean).join(': ');
  return [stopped, denied && `${several(denied, 'host call')} denied: ${denial}`].filter(Boolean).join('; ');
}

function requestRow(request) {
  const isBad = request.stopped_by !== undefined || request.status >= 500;
  return {
    className: isBad ? 'failed' : request.denied === undefined ? '' : 'denied',
    cells: [
      timeCell(request.timestamp, true), `#${request.request}`,
      { text: request.client, className: 'client' }, long(`${request.method} ${request.target}`),
      String(request.status), time(request.seconds),
      { text: request.worker === 0 ? '–' : String(request.worker), className: 'worker' }, long(request.remark),
    ],
  };
}

function stopRow({ timestamp, request, method, target, prefix, stopped_by: layer, error }) {
  return { cells: [timeCell(timestamp), long(`#${request} ${method} ${target}`), prefix, layer, long(error ?? '')] };
}

function denialRow({ timestamp, request, method, target, prefix, monitor, quota, first }) {
  const layers = Object.entries({ monitor, quota }).filter(([, count]) => count > 0).map(([layer]) => layer).join(', ');
  const what = `${several(monitor + quota, 'host call')} denied, the call went on: ${first}`;
  return { className: 'denied', cells: [timeCell(timestamp), long(`#${request} ${method} ${target}`), prefix, layers, long(what)] };
}

function swapText({ timestamp, prefix, outcome, old, new: next, milliseconds, reason }) {
  const at = `${clock(new Date(timestamp))} UTC`;
  return outcome === 'taken'
    ? `${at}  ${prefix}  ${old} → ${next} in ${number(milliseconds)} ms`
    : `${at}  ${prefix}  refused: ${reason}`;
}

function drawEvents() {
  drawing = null;
  const words = byId('filter').value.toLowerCase();
  const isChosen = byId('stopped').checked;
  const isRemarkable = ({ stopped_by: layer, denied }) => layer !== undefined || denied !== undefined;
  const matches = request => request.text.includes(words) && (!isChosen || isRemarkable(request));
  const shown = requests.filter(matches).reverse();
  drawRows(byId('log'), shown.map(requestRow));
  const sampled = byId('log').dataset.sampled;
  const last = `${number(shown.length)} of the last ${number(requests.length)}`;
  setText(byId('shown'), sampled ? `${last}; ${sampled}` : last);
  const ends = [...stops, ...denials].sort((a, b) => b.timestamp.localeCompare(a.timestamp));
  drawRows(byId('stops'), ends.map(end => end.stopped_by === undefined ? denialRow(end) : stopRow(end)));
  byId('no-stops').hidden = ends.length > 0;
  const items = children(byId('swaps'), swaps.length, () => make('li'));
  [...swaps].reverse().forEach((swap, at) => {
    const text = swapText(swap);
    setText(items[at], text);
    setClass(items[at], swap.outcome);
    setTitle(items[at], text.length < LONG ? '' : text);
  });
  byId('no-swaps').hidden = swaps.length > 0;
}

// Draws events, with all that come until then.
function drawSoon() {
  drawing ??= setTimeout(() => requestAnimationFrame(drawEvents), DRAW);
}

function take(request) {
  seen += 1;
  if (request.worker !== 0) push(times, request.seconds, TIMES);
  const { request: at, client, method, target, status } = request;
  request.remark = remarkOf(request);
  request.text = [at, client, method, target, status, request.remark].join(' ').toLowerCase();
  push(requests, request, REQUESTS);
}

function listen(mine) {
  const source = new EventSource('events?sample');
  events = source;
  // It begins with the last stops, denials and swaps. When the browser connects again by itself, only what is new comes.
  source.addEventListener('open', () => {
    for (const kept of [stops, denials, swaps]) kept.length = 0;
    drawSoon();
  }, { once: true });
  const on = (name, keep) => source.addEventListener(name, event => {
    keep(JSON.parse(event.data));
    drawSoon();
  });
  on('request', take);
  on('stop', stop => push(stops, stop, STOPS));
  on('denial', denial => push(denials, denial, DENIALS));
  on('swap', swap => push(swaps, swap, SWAPS));
  source.addEventListener('error', () => {
    // The browser tries again by itself, unless it was refused.
    if (source.readyState !== EventSource.CLOSED) return;
    setTimeout(() => turn === mine && events === source && listen(mine), AGAIN);
  });
}

async function ask(mine) {
  const began = performance.now();
  let status = null;
  try {
    const answer = await fetch('status', { cache: 'no-store', signal: AbortSignal.timeout(10 * POLL) });
    status = await answer.json();
  } catch {
    // There is none.
  }
  if (turn !== mine) return;
  document.body.classList.toggle('gone', !status);
  if (status) {
    answered = new Date();
    draw(status);
  } else {
    const below = answered ? ` What is below is of ${clock(answered)} UTC.` : '';
    sayWhy({ kind: 'gone', text: `The server does not answer.${below}`, fails: true });
  }
  poll = setTimeout(ask, Math.max(0, POLL - (performance.now() - began)), mine);
}

// Asks while somebody looks, and else does nothing.
function look() {
  const wants = !isPaused && !document.hidden;
  if (wants === (turn !== null)) return;
  turn = wants ? (turns += 1) : null;
  if (wants) {
    before = null;
    listen(turn);
    ask(turn);
  } else {
    clearTimeout(poll);
    events.close();
  }
}

function outcomeText(outcome) {
  const kinds = ['added', 'swapped', 'removed', 'unchanged', 'refused'];
  const counts = kinds.map(kind => `${outcome[kind]} ${kind}`).join(', ');
  const reasons = outcome.refusals.map(({ prefix, reason }) => `${prefix}: ${reason}`);
  if (outcome.certificate) reasons.push(`the certificate: ${outcome.certificate}`);
  return [`Reloaded: ${counts}.`, ...reasons].join(' ');
}

// Does what a button asks for, while it is disabled. Who pressed it by keyboard goes on from there.
async function during(button, work) {
  const hadFocus = document.activeElement === button;
  button.disabled = true;
  await work();
  button.disabled = false;
  const isNowhere = [document.body, button].includes(document.activeElement);
  if (hadFocus && isNowhere) button.focus();
}

async function reload() {
  const said = byId('reloaded');
  setText(said, 'Reloading …');
  let text;
  try {
    const answer = await fetch('reload', { method: 'POST' });
    const outcome = await answer.json();
    text = outcome.error ? `Refused: ${outcome.error}` : outcomeText(outcome);
  } catch {
    text = 'The server does not answer.';
  }
  setText(said, text);
}

byId('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  setText(byId('pause'), isPaused ? 'Go on' : 'Pause');
  look();
  if (isPaused) sayWhy({ kind: 'paused', text: `Paused at ${clock(new Date())} UTC: what happens is not shown.` });
});
byId('reload').addEventListener('click', () => during(byId('reload'), reload));
byId('filters').addEventListener('submit', event => event.preventDefault());
byId('filters').addEventListener('input', drawEvents);
document.addEventListener('visibilitychange', look);
look();
