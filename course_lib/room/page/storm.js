"use strict";
// The provider that the room shares: a lane for each seat, and rates. It uses board.js' names.
const SPAN = 8, LONG_SPAN = 90;  // seconds of the lanes, and of the rates below them
let calls = [], open = [], rates = [], told = null, storming = null;

// P shows the provider, and P again the exercises; nothing is asked while it is hidden.
function toggleStorm() {
  document.body.classList.toggle("storm");
  if (storming) {
    storming.abort();
    storming = null;
  } else {
    storming = new AbortController();
    watchCalls(storming);
  }
}

async function watchCalls(mine) {
  try {
    const answer = await ask("calls", null, mine.signal);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the room was closed");
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      for (const event of events) takeCalls(JSON.parse(event.slice(event.indexOf("data: ") + 6)));
    }
  } catch {
    if (storming === mine) setTimeout(() => storming === mine && watchCalls(mine), RETRY);
  }
}

function takeCalls(frame) {
  if (told && frame.now < told.now) [calls, rates] = [[], []];  // another room's clock
  told = frame;
  open = frame.open;
  calls = calls.filter(([, , end]) => end > frame.now - SPAN).concat(frame.ended);
  rates = rates.filter(({ now }) => now > frame.now - LONG_SPAN).concat(
    { now: frame.now, answered: frame.answered, refused: frame.refused });
  const figures = { goodput: `${frame.answered.toFixed(0)} of ${frame.bound.toFixed(0)}/s`,
    refused: `${frame.refused.toFixed(0)}/s`, abandoned: `${frame.abandoned.toFixed(0)}/s`,
    p95: frame.p95 === null ? "–" : `${(1000 * frame.p95).toFixed(0)} ms`, queue: `${frame.queue}` };
  for (const [name, text] of Object.entries(figures)) $(name).textContent = text;
  drawLanes();
  drawRates();
}

function surface(id) {
  const canvas = $(id), scale = devicePixelRatio;
  const width = canvas.clientWidth, height = canvas.clientHeight;
  canvas.width = width * scale;
  canvas.height = height * scale;
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  const colours = getComputedStyle(root);
  return { pen, width, height, colour: (name) => colours.getPropertyValue(`--${name}`) };
}

const shade = (status) => status === 429 ? "refused" : status === 0 ? "abandoned"
  : status === 1 ? "line" : status < 300 ? "answered" : "bad";

function drawLanes() {
  const { pen, width, height, colour } = surface("lanes");
  const here = [...seats.values()].sort((a, b) => a.seat - b.seat);
  const step = Math.min(34, height / Math.max(1, here.length));
  const left = 130, x = (time) => left + (width - left) * Math.max(0, 1 - (told.now - time) / SPAN);
  const place = new Map(here.map(({ seat }, row) => [seat, row * step]));
  // Answers lie over what waits, and refusals, which take no time, over all.
  const rank = (call) => ["line", "abandoned", "answered", "bad", "refused"].indexOf(shade(call[3]));
  for (const [seat, start, end, status] of [...open, ...calls].sort((a, b) => rank(a) - rank(b))) {
    if (!place.has(seat)) continue;
    pen.fillStyle = colour(shade(status));
    // An answer's lane is as thick as the end of it, which stays in sight where calls overlap.
    const from = status >= 200 && status < 300 ? Math.max(x(start), x(end) - 6) : x(start);
    pen.fillRect(from, place.get(seat) + 1, Math.max(2.5, x(end) - from), Math.max(2, step - 2));
  }
  pen.font = `${Math.max(9, Math.min(16, step - 1))}px system-ui, "DejaVu Sans", sans-serif`;
  pen.fillStyle = colour("page");
  pen.fillRect(0, 0, left - 4, height);
  pen.fillStyle = colour("text");
  pen.textBaseline = "middle";
  for (const seat of here) pen.fillText(called(seat), 4, place.get(seat.seat) + step / 2, left - 12);
}

function drawRates() {
  const { pen, width, height, colour } = surface("rates");
  const most = 1.1 * Math.max(told.bound, ...rates.map(({ answered }) => answered));
  const y = (rate) => (height - 4) * (1 - Math.min(rate, most) / most) + 2;
  const line = (points, name, dashes) => {
    pen.strokeStyle = colour(name);
    pen.lineWidth = 3;
    pen.setLineDash(dashes);
    pen.beginPath();
    for (const [time, rate] of points) pen.lineTo(width * (1 - (told.now - time) / LONG_SPAN), y(rate));
    pen.stroke();
  };
  line([[told.now - LONG_SPAN, told.bound], [told.now, told.bound]], "faint", [6, 6]);
  line(rates.map(({ now, refused }) => [now, refused]), "refused", []);
  line(rates.map(({ now, answered }) => [now, answered]), "answered", []);
  pen.fillStyle = colour("text");
  pen.font = '15px system-ui, "DejaVu Sans", sans-serif';
  pen.fillText(`goodput and refusals a second, ${LONG_SPAN} s; dashed: the bound, ${told.bound.toFixed(0)}/s`, 8, height - 8);
}

addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "p") toggleStorm();
});
