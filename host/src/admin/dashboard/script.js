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
// Requests, stops and swaps that are kept.
const REQUESTS = 200;
const STOPS = 50;
const SWAPS = 20;
// Times of calls that are kept of one second.
const TIMES = 1000;

const requests = [];
const stops = [];
const swaps = [];
const curves = { rate: [], middle: [], most: [], waiting: [] };
// What has come since the state was asked for.
let times = [];
let seen = 0;
let before = null;
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
  const isSampled = elapsed > 0 && seen < 0.9 * rate * elapsed - 2;
  const [top, slow, line] = [curves.rate, curves.most, curves.waiting].map(values => Math.max(0, ...values));
  setText(byId('rate-now'), `${rate === null ? '–' : number(rate)} now, ${number(top)} at most`);
  setText(byId('latency-now'), middle === null ? 'no call ended in this second'
    : `median ${time(middle)}, 99th percentile ${time(most)}${isSampled ? ', of a sample' : ''}`);
  setText(byId('waiting-now'), `${number(waiting)} now, ${number(line)} at most`);
  drawCurve(byId('rate').lastElementChild, curves.rate, top);
  drawCurve(byId('latency').firstElementChild, curves.most, slow);
  drawCurve(byId('latency').lastElementChild, curves.middle, slow);
  drawCurve(byId('waiting').lastElementChild, curves.waiting, line);
  byId('log').dataset.sampled = isSampled
    ? `a sample: of ${number(rate)} a second, ${number(seen / elapsed)} came here` : '';
  times = [];
  seen = 0;
}

function draw(status) {
  if (before && before.process.pid !== status.process.pid) before = null;
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

function requestRow(request) {
  const isBad = request.stopped_by !== undefined || request.status >= 500;
  const remark = [request.stopped_by && `stopped by ${request.stopped_by}`, request.error].filter(Boolean).join(': ');
  return {
    className: isBad ? 'failed' : '',
    cells: [
      clock(new Date(request.timestamp), true), `#${request.request}`,
      { text: request.client, className: 'client' }, `${request.method} ${request.target}`,
      String(request.status), time(request.seconds),
      { text: request.worker === 0 ? '–' : String(request.worker), className: 'worker' }, remark,
    ],
  };
}

function stopRow({ at, request, method, target, prefix, stopped_by: layer, error }) {
  return { cells: [clock(at), `#${request} ${method} ${target}`, prefix, layer, error ?? ''] };
}

function swapText({ at, prefix, outcome, old, new: next, milliseconds, reason }) {
  return outcome === 'taken'
    ? `${clock(at)}  ${prefix}  ${old} → ${next} in ${number(milliseconds)} ms`
    : `${clock(at)}  ${prefix}  refused: ${reason}`;
}

function drawEvents() {
  drawing = null;
  const words = byId('filter').value.toLowerCase();
  const isStopped = byId('stopped').checked;
  const matches = request => request.text.includes(words) && (!isStopped || request.stopped_by !== undefined);
  const shown = requests.filter(matches).reverse();
  drawRows(byId('log'), shown.map(requestRow));
  const sampled = byId('log').dataset.sampled;
  const last = `${number(shown.length)} of the last ${number(requests.length)}`;
  setText(byId('shown'), sampled ? `${last}; ${sampled}` : last);
  drawRows(byId('stops'), stops.map(stopRow).reverse());
  byId('no-stops').hidden = stops.length > 0;
  const items = children(byId('swaps'), swaps.length, () => make('li'));
  [...swaps].reverse().forEach((swap, at) => {
    setText(items[at], swapText(swap));
    setClass(items[at], swap.outcome);
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
  const { request: at, client, method, target, status, stopped_by: layer, error } = request;
  request.text = [at, client, method, target, status, layer, error].join(' ').toLowerCase();
  push(requests, request, REQUESTS);
}

function listen(mine) {
  const source = new EventSource('events?sample');
  events = source;
  const on = (name, keep) => source.addEventListener(name, event => {
    keep(JSON.parse(event.data));
    drawSoon();
  });
  on('request', take);
  on('stop', stop => push(stops, { ...stop, at: new Date() }, STOPS));
  on('swap', swap => push(swaps, { ...swap, at: new Date() }, SWAPS));
  source.addEventListener('error', () => {
    // The browser tries again by itself, unless it was refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(() => turn === mine && listen(mine), AGAIN);
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
  if (status) draw(status);
  else sayWhy({ kind: 'gone', text: 'The server does not answer.', fails: true });
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
  return [`Reloaded: ${counts}.`, ...reasons].join(' ');
}

async function reload() {
  const [button, said] = [byId('reload'), byId('reloaded')];
  button.disabled = true;
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
  button.disabled = false;
}

byId('pause').addEventListener('click', () => {
  isPaused = !isPaused;
  byId('pause').setAttribute('aria-pressed', String(isPaused));
  setText(byId('pause'), isPaused ? 'Go on' : 'Pause');
  look();
  if (isPaused) sayWhy({ kind: 'paused', text: `Paused at ${clock(new Date())}: what happens is not shown.` });
});
byId('reload').addEventListener('click', reload);
byId('filters').addEventListener('submit', event => event.preventDefault());
byId('filters').addEventListener('input', drawEvents);
document.addEventListener('visibilitychange', look);
look();
