"use strict";
// The provider's ledger as it grows: swim lanes, and answers and refusals a second.
const token = location.hash.slice(1);
const SPAN = 10, LONG = 30, STEP = 0.5, RETRY = 1000;  // seconds, seconds, seconds, milliseconds
const START = 2, END = 3, STATUS = 4;  // places in a call
const $ = (id) => document.getElementById(id);
const refused = (call) => call[STATUS] === 429;
const good = (call) => call[STATUS] >= 200 && call[STATUS] < 300;
let history = [];

async function watch() {
  try {
    const answer = await fetch("/api/live", { headers: { Authorization: `Bearer ${token}` } });
    if (!answer.ok) throw new Error(answer.statusText);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the provider has ended");
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      if (events.length) draw(JSON.parse(events.at(-1).slice(6)));
    }
  } catch {
    document.body.classList.add("lost");
    setTimeout(watch, RETRY);
  }
}

function draw({ now, ledger }) {
  document.body.classList.remove("lost");
  const finished = ledger.answered + ledger.rejected + ledger.errors + ledger.dropped;
  history = history.filter((each) => each.now > now - LONG - 2 && each.finished <= finished);
  history.push({ now, finished, answered: ledger.answered, rejected: ledger.rejected });
  const recent = ledger.calls.filter((call) => call[END] > now - SPAN);
  const before = history.find((each) => each.now > now - 2) || history[0];
  const rate = (name) => now > before.now ? (ledger[name] - before[name]) / (now - before.now) : 0;
  $("goodput").textContent = `${rate("answered").toFixed(0)}/s`;
  $("refused").textContent = `${rate("rejected").toFixed(0)}/s`;
  $("failed").textContent = `${ledger.errors + ledger.dropped}`;
  $("open").textContent = `${Math.max(0, ledger.requests - finished)}`;
  const times = recent.filter(good).map((call) => call[END] - call[START]).sort((a, b) => a - b);
  const p95 = times[Math.min(times.length - 1, Math.floor(0.95 * times.length))];
  $("p95").textContent = times.length ? `${(1000 * p95).toFixed(0)} ms` : "–";
  drawLanes(recent.sort((a, b) => a[START] - b[START]), now);
  drawRates(now);
}

function surface(id) {
  const canvas = $(id), scale = devicePixelRatio;
  canvas.width = canvas.clientWidth * scale;
  canvas.height = canvas.clientHeight * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colours = getComputedStyle(document.documentElement);
  return { pen, width: canvas.clientWidth, height: canvas.clientHeight,
    colour: (name) => colours.getPropertyValue(`--${name}`) };
}

function drawLanes(calls, now) {
  const { pen, width, height, colour } = surface("lanes");
  const ends = [];  // of the last call in each lane
  const placed = calls.map((call) => {
    let lane = ends.findIndex((end) => end <= call[START]);
    if (lane < 0) lane = ends.length;
    ends[lane] = call[END];
    return lane;
  });
  const step = Math.min(16, height / Math.max(1, ends.length));
  const x = (time) => width * (1 - (now - time) / SPAN);
  calls.forEach((call, k) => {
    pen.fillStyle = colour(refused(call) ? "bad" : good(call) ? "good" : "odd");
    pen.fillRect(x(call[START]), placed[k] * step, Math.max(2, x(call[END]) - x(call[START])), Math.max(1, step - 1));
  });
}

function drawRates(now) {
  const { pen, width, height, colour } = surface("rates");
  const lines = { answered: "good", rejected: "bad" };
  const points = history.map((each, k) => {
    const before = history.slice(0, k).findLast((other) => other.now <= each.now - STEP);
    const rate = (name) => before ? (each[name] - before[name]) / (each.now - before.now) : 0;
    return { now: each.now, answered: rate("answered"), rejected: rate("rejected") };
  });
  const most = Math.max(1, ...points.flatMap((each) => [each.answered, each.rejected]));
  for (const [name, shade] of Object.entries(lines)) {
    pen.strokeStyle = colour(shade);
    pen.lineWidth = 2;
    pen.beginPath();
    for (const each of points) {
      pen.lineTo(width * (1 - (now - each.now) / LONG), (height - 16) * (1 - each[name] / most) + 14);
    }
    pen.stroke();
  }
  pen.fillStyle = colour("text");
  pen.fillText(`answers and refusals a second, up to ${most.toFixed(0)}`, 8, 11);
}

watch();
