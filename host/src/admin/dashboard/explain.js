'use strict';

// What the numbers of the state mean, in words. Pure: no page, no clock.

// Workers in which a call has used up this part of its time count as late.
const LATE = 0.5;

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${unit === 0 || count >= 100 ? Math.round(count) : count.toFixed(1)} ${units[unit]}`;
}

function time(seconds) {
  if (seconds < 0.001) return `${Math.round(seconds * 1e6)} µs`;
  if (seconds < 0.01) return `${(seconds * 1e3).toFixed(1)} ms`;
  if (seconds < 1) return `${Math.round(seconds * 1e3)} ms`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor(seconds % 86400 / 3600)} h`;
}

// A limit as it was typed: whole seconds without a fraction.
function limitOf(seconds) {
  return Number.isInteger(seconds) && seconds < 60 ? `${seconds} s` : time(seconds);
}

function number(value) {
  return Math.round(value).toLocaleString('en');
}

function several(count, noun) {
  return `${number(count)} ${noun}${count === 1 ? '' : 's'}`;
}

function are(count) {
  return count === 1 ? 'is' : 'are';
}

// As many workers as there are, by what they do.
function byState(workers) {
  const counts = { idle: 0, running: 0, starting: 0, ending: 0 };
  for (const worker of workers) counts[worker.state] += 1;
  return counts;
}

// Which pool it is: all workers of all handlers.
function poolSentence(status) {
  const count = status.handlers.reduce((sum, handler) => sum + handler.workers.all.length, 0);
  return status.pool === 'thread'
    ? `Thread pool: ${several(count, 'thread')} of one process`
    : `Process pool: ${number(count)} process${count === 1 ? '' : 'es'}`;
}

// Why requests of a handler wait, or nothing where none waits.
function whyAtHandler(handler) {
  const { prefix, workers, queue, limits } = handler;
  if (queue.waiting === 0) return null;
  const states = byState(workers.all);
  const wait = queue.waiting === 1 ? '1 request waits' : `${number(queue.waiting)} requests wait`;
  const said = [];
  if (states.idle === 0 && states.running > 0) {
    const longest = Math.max(...workers.all.map(worker => worker.seconds ?? 0));
    const all = states.running === 1 ? `The one worker of ${prefix} is busy`
      : `All ${number(states.running)} workers of ${prefix} are busy`;
    const timeout = `${limitOf(limits.timeout_seconds)} (--timeout)`;
    said.push(`${all}; ${wait}; the longest call has run for ${time(longest)} of ${timeout}.`);
    if (states.starting > 0) {
      said.push(`${several(states.starting, 'more worker')} ${are(states.starting)} being started.`);
    } else if (workers.all.length >= workers.limit) {
      said.push('There are as many workers as may be (--max-workers).');
    }
  } else if (states.idle === 0) {
    said.push(`${wait} for ${prefix}: its workers are being started.`);
  } else if (queue.shares.most_held >= queue.shares.held_limit) {
    const mostHeld = 'one address has all the workers that it may have (--client-share)';
    const idle = `${several(states.idle, 'worker')} ${are(states.idle)} idle`;
    said.push(`${wait} for ${prefix} although ${idle}: ${mostHeld}.`);
  } else {
    said.push(`${wait} for ${prefix} for a moment: short calls stay on as many workers as there are processors.`);
  }
  if (queue.waiting >= queue.limit) said.push('The queue is full (--queue): more get a 503.');
  const [first] = queue.shares.largest;
  if (first && first.waiting >= queue.shares.limit) {
    said.push(`${first.client} has its whole share of the queue (--client-share): more of it get a 503.`);
  }
  const kind = `${prefix} waits ${states.idle === 0} ${queue.waiting >= queue.limit}`;
  return { kind, text: said.join(' '), warns: states.idle === 0 };
}

// Why requests got a 503, by the reason that the state has for it.
const REFUSED = {
  queue: ': the queue was full (--queue)',
  share: ': one client had its whole share of the queue (--client-share)',
  memory: ' for want of room (--max-buffered)',
  spool: ' for want of room (--max-spooled)',
  draining: ': the server is shutting down',
};

// What was refused between two states; `before` may be null.
function refusals(status, before) {
  const said = [];
  for (const [reason, count] of Object.entries(status.requests.refused)) {
    const more = before ? count - (before.requests.refused[reason] ?? 0) : 0;
    if (more > 0) said.push({ reason, text: `${several(more, 'request')} got a 503${REFUSED[reason] ?? ` (${reason})`}.` });
  }
  return said;
}

// What becomes of requests while the server is not ready. Only before it serves and while it ends are new ones not served.
function whileUnready({ reasons, requests }) {
  if (reasons.includes('the server is starting')) return 'No request is served yet.';
  if (!reasons.includes('the server is shutting down')) return 'It still serves what comes.';
  if (requests.active === 0) return 'No request is served.';
  return `No new request is served; ${several(requests.active, 'request')} ${are(requests.active)} being finished.`;
}

// The sentence at the top: why a request waits, or that none does. `kind` is the same while it is about the same.
function explain(status, before) {
  const unready = status.ready ? [] : [`The server is not ready: ${status.reasons.join(', ')}. ${whileUnready(status)}`];
  const waits = status.handlers.map(whyAtHandler).filter(why => why !== null);
  const refused = refusals(status, before);
  const { connections } = status;
  if (connections.open >= connections.limit) {
    const text = `All ${number(connections.limit)} connections are open (--max-connections): others wait.`;
    refused.push({ reason: 'connections', text });
  }
  if (unready.length > 0 || waits.length > 0 || refused.length > 0) {
    const text = [...unready, ...[...waits.slice(0, 3), ...refused].map(why => why.text)].join(' ');
    const kind = [...status.reasons, ...waits.map(why => why.kind), ...refused.map(why => why.reason)].join(';');
    return { kind, text, fails: !status.ready, warns: refused.length > 0 || waits.some(why => why.warns) };
  }
  const states = byState(status.handlers.flatMap(handler => handler.workers.all));
  const all = states.idle + states.running;
  const busy = states.running === 0 ? `All ${number(all)} workers are idle.`
    : `${number(states.running)} of ${several(all, 'worker')} ${are(states.running)} busy.`;
  return { kind: 'calm', text: `No request waits. ${busy}` };
}

// The value below which this part of the sorted values is; null where there are none.
function quantile(sorted, part) {
  return sorted.length === 0 ? null : sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))];
}

