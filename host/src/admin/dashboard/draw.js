// What is drawn. Whatever others wrote goes into the page as text, and never as markup.

const byId = id => document.getElementById(id);

function make(tag, className) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  return node;
}

// Changes nothing that is the same, so that nothing is laid out anew.
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

// As many children as wanted, those that were there and others.
function children(parent, count, makeOne) {
  while (parent.children.length < count) parent.append(makeOne());
  while (parent.children.length > count) parent.lastElementChild.remove();
  return parent.children;
}

// Characters from which on a text may be clipped, and so is in its title, too.
const LONG = 60;

function setTitle(node, title) {
  if (node.title !== title) node.title = title;
}

// A cell with what others wrote, of whatever length.
function long(text) {
  return { text, className: 'long', title: text.length < LONG ? '' : text };
}

// Rows of a table, each of as many cells: texts, or texts with a class and a title.
function drawRows(body, rows) {
  const columns = rows.length > 0 ? rows[0].cells.length : 0;
  const nodes = children(body, rows.length, () => {
    const row = make('tr');
    for (let at = 0; at < columns; at += 1) row.append(make('td'));
    for (const cell of row.children) cell.append(make('span'));
    return row;
  });
  rows.forEach((row, at) => {
    setClass(nodes[at], row.className ?? '');
    row.cells.forEach((cell, column) => {
      const node = nodes[at].children[column];
      const { text, className = '', title = '' } = typeof cell === 'string' ? { text: cell } : cell;
      setText(node.firstElementChild, text);
      setClass(node, className);
      setTitle(node, title);
    });
  });
}

// Terms with what is said of each, and with a meter where there is a limit.
function drawFacts(list, facts) {
  const nodes = children(list, 2 * facts.length, () => make(list.children.length % 2 === 0 ? 'dt' : 'dd'));
  facts.forEach(({ term, text, value, limit }, at) => {
    const [name, said] = [nodes[2 * at], nodes[2 * at + 1]];
    setText(name, term);
    if (said.children.length === 0) said.append(make('meter'), make('span'));
    const [meter, words] = said.children;
    meter.hidden = limit === undefined;
    if (limit !== undefined) {
      meter.max = limit;
      meter.value = value;
      meter.setAttribute('aria-label', term);
    }
    setText(words, text);
  });
}

// A curve of the last values, the newest at the right. Where a value is null there is a gap, and one between two gaps is a
// line of its own, a second long.
function drawCurve(line, values, most) {
  const isGap = at => (values[at] ?? null) === null;
  const parts = values.map((value, at) => {
    if (isGap(at)) return '';
    const [x, y] = [SECONDS - values.length + at, (39 - 38 * value / (most || 1)).toFixed(2)];
    if (!isGap(at - 1)) return `L${x} ${y}`;
    return isGap(at + 1) ? `M${x - 0.5} ${y}h1` : `M${x} ${y}`;
  });
  line.setAttribute('d', parts.join(''));
}

// A figure: what it shows now in words, the most that it has shown in words and as a number, and its curves.
function drawFigure(id, now, top, most, ...curves) {
  const figure = byId(id);
  const part = name => figure.querySelector(name);
  setText(part('.now'), now);
  setText(part('.top'), most > 0 ? top : '');
  part('svg').setAttribute('aria-label', `${part('.title').textContent}: ${now}`);
  curves.forEach((values, at) => drawCurve(part('svg').children[at], values, most));
}

function drawCell(cell, worker, handler, status) {
  if (cell.children.length === 0) {
    for (const name of ['number', 'what', 'more', 'more target', 'more', 'part']) cell.append(make('span', name));
  }
  const [label, what, call, target, process, part] = cell.children;
  const isRunning = worker.state === 'running';
  const share = isRunning ? Math.min(1, worker.seconds / handler.limits.timeout_seconds) : 0;
  setClass(cell, `cell ${worker.state}${share >= LATE ? ' late' : ''}`);
  setText(label, String(worker.number));
  setText(what, isRunning ? time(worker.seconds) : worker.state);
  const behind = worker.behind > 0 ? ` + ${worker.behind}` : '';
  const asked = isRunning ? `${worker.method} ${worker.target}` : '';
  setText(call, isRunning ? `#${worker.request}${behind}, ${worker.client}` : '');
  setText(target, asked);
  setTitle(target, asked);
  const isProcess = worker.pid !== undefined;
  setText(process, isProcess ? `pid ${worker.pid}, ${bytes(worker.resident_bytes)}` : '');
  part.style.width = `${100 * share}%`;
  const does = isRunning
    ? `runs request ${worker.request}, ${asked}, of ${worker.client} since ${time(worker.seconds)}`
    : `is ${worker.state}`;
  const kind = status.pool === 'thread' ? 'Thread' : 'Process';
  const name = `${kind} ${worker.number} of ${handler.prefix} ${does}${isProcess ? `, process id ${worker.pid}` : ''}`;
  cell.setAttribute('aria-label', name);
}

function queueText(queue) {
  const { shares } = queue;
  const said = [`${number(queue.waiting)} of ${number(queue.limit)} wait (--queue)`];
  if (shares.addresses > 0) {
    const named = shares.largest.map(share => `${share.client} ${number(share.waiting)}`).join(', ');
    const others = shares.addresses > shares.largest.length ? ' …' : '';
    const addresses = shares.addresses === 1 ? '1 address' : `${number(shares.addresses)} addresses`;
    said.push(`in line, of ${addresses}: ${named}${others}`);
  }
  said.push(`one address may have ${number(shares.limit)} in line (--client-share)`);
  return said.join('; ');
}

function memoryFact(handler, status) {
  const limit = handler.limits.memory_bytes;
  if (status.pool === 'thread') {
    const { running } = byState(handler.workers.all);
    const said = [
      `a call may have ${bytes(limit)} (--memory)`,
      `${several(running, 'running call')} may have ${bytes(running * limit)}`,
      `the process has ${bytes(status.process.resident_bytes)}`,
    ];
    return { term: 'Memory', text: said.join('; ') };
  }
  const all = handler.workers.all.map(worker => worker.resident_bytes ?? 0);
  const most = Math.max(0, ...all);
  const sum = all.reduce((a, b) => a + b, 0);
  const largest = `the largest process has ${bytes(most)}, a call may have ${bytes(limit)} of it (--memory)`;
  return { term: 'Memory', text: `${largest}; all have ${bytes(sum)}`, value: most, limit };
}

function directoryFact({ bytes: held, limit_bytes: limit, entries, limit_entries: most }) {
  const room = `${bytes(limit)} (--quota) and ${number(most)} entries (--max-files)`;
  if (held === null || entries === null) return { term: 'Directory', text: `not counted yet, of ${room}` };
  const text = `${bytes(held)} and ${number(entries)} entries of ${room}`;
  return { term: 'Directory', text, value: Math.max(held / limit, entries / most), limit: 1 };
}

// What there is some of, and how much.
function countsText(counts) {
  const some = Object.entries(counts).filter(([, count]) => count > 0);
  return some.map(([name, count]) => `${name} ${number(count)}`).join(', ');
}

function deniedText(denied) {
  const count = Object.values(denied).reduce((a, b) => a + b, 0);
  return count === 0 ? 'nothing yet' : `${several(count, 'host call')}: ${countsText(denied)}`;
}

function drawHandler(article, handler, status) {
  const part = name => article.querySelector(`.${name}`);
  const isThread = status.pool === 'thread';
  setClass(article, isThread ? 'threads' : 'processes');
  setText(part('prefix'), handler.prefix);
  setText(part('name'), handler.name);
  const { generation, workers, queue } = handler;
  const since = new Date(1000 * generation.swapped_at);
  const age = time(Math.max(0, status.started_at + status.uptime_seconds - generation.swapped_at));
  const which = `Generation ${generation.number}, ${handler.digest}, since ${clock(since)} UTC (${age})`;
  setText(part('generation'), `${which}; sandbox ${handler.sandbox}`);
  const states = byState(workers.all);
  const counts = `${number(states.running)} busy, ${number(states.idle)} idle, ${number(workers.limit)} at most`;
  setText(part('workers-title'), isThread
    ? `Threads of one process, pid ${status.process.pid}: ${counts}`
    : `Each in a process of its own: ${counts}`);
  const cells = children(part('workers'), workers.all.length, () => make('li'));
  workers.all.forEach((worker, at) => drawCell(cells[at], worker, handler, status));
  drawFacts(part('facts'), [
    { term: 'Queue', text: queueText(queue), value: queue.waiting, limit: queue.limit },
    memoryFact(handler, status),
    directoryFact(handler.directory),
    { term: 'Requests', text: number(handler.requests) },
    { term: 'Stopped by', text: countsText(handler.stopped) || 'nothing yet' },
    { term: 'Denied', text: deniedText(handler.denied) },
  ]);
}

function drawServer(status, before) {
  const { connections, memory, requests, process, code_cache: cache, swaps } = status;
  const elapsed = before ? status.uptime_seconds - before.uptime_seconds : 0;
  const cpu = elapsed > 0 ? (process.cpu_seconds - before.process.cpu_seconds) / elapsed : 0;
  const refused = countsText(requests.refused);
  const total = `${number(requests.total)}, ${number(requests.active)} under way`;
  const left = `${number(requests.abandoned)} left by their clients`;
  const percent = Math.round(100 * cpu);
  const cached = `compiled code was cached ${number(cache.hits)} times of ${number(cache.hits + cache.misses)}`;
  const of = (value, limit, show, option) => ({ text: `${show(value)} of ${show(limit)} (${option})`, value, limit });
  drawFacts(byId('limits'), [
    { term: 'Connections', ...of(connections.open, connections.limit, number, '--max-connections') },
    { term: 'Messages in memory', ...of(memory.buffered_bytes, memory.buffered_limit_bytes, bytes, '--max-buffered') },
    { term: 'Bodies in files', ...of(memory.spooled_bytes, memory.spooled_limit_bytes, bytes, '--max-spooled') },
    { term: 'Requests', text: `${total}; ${left}; refused: ${refused || 'none'}` },
    { term: 'Process', text: `pid ${process.pid}, ${bytes(process.resident_bytes)}, ${percent} % of a processor` },
    { term: 'Swaps', text: `${number(swaps.taken)} taken up, ${number(swaps.refused)} refused; ${cached}` },
    { term: 'Log', text: `${several(status.dropped_log_lines, 'line')} dropped` },
  ]);
}

// The time of day in UTC, as the log has it, to the second or to the millisecond; with the day unless that is today.
function clock(date, isExact = false) {
  const [day, rest] = date.toISOString().split('T');
  const text = rest.slice(0, isExact ? 12 : 8);
  return day === new Date().toISOString().slice(0, day.length) ? text : `${day} ${text}`;
}

