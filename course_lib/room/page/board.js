"use strict";
// The board. What learners send is only ever text here: no HTML is made of it.
const LONG = 8 * 60;  // seconds at one exercise from which on somebody may need help
const RETRY = 1000;   // milliseconds until a lost room is asked again
const SILENCE = 15000;  // milliseconds without a sign of life: the network is lost
const $ = (id) => document.getElementById(id);
const root = document.documentElement;

let key = takeKey();
let facts = null, seats = new Map(), state = null, skew = 0, names = true, code = true;

// The key comes behind the address's #, which is sent nowhere, and leaves the address bar at once.
function takeKey() {
  let given = location.hash.slice(1);
  try {
    if (given) sessionStorage.setItem("key", given);
    given = given || sessionStorage.getItem("key") || "";
  } catch { /* no storage: a reload needs the address once more */ }
  history.replaceState(null, "", location.pathname);
  return given;
}

function ask(path, body, signal) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body) headers["Content-Type"] = "application/json";
  return fetch(`/api/${path}`, { method: body ? "POST" : "GET", headers, signal,
    body: body && JSON.stringify(body) });
}

async function watch() {
  const leave = new AbortController();
  let silence = setTimeout(() => leave.abort(), SILENCE);
  try {
    const answer = await ask("watch", null, leave.signal);
    if (!answer.ok) throw new Error((await answer.json()).error);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    seats = new Map();  // all of them come first
    for (let rest = ""; ;) {
      const { value, done } = await reader.read();
      if (done) throw new Error("the room was closed");
      clearTimeout(silence);
      silence = setTimeout(() => leave.abort(), SILENCE);
      const events = (rest + value).split("\n\n");
      rest = events.pop();
      events.forEach(take);
    }
  } catch (error) {
    root.classList.add("lost");
    $("summary").textContent = `no room (${error.message || error}); asking again`;
  } finally {
    clearTimeout(silence);
    leave.abort();
    setTimeout(watch, RETRY);
  }
}

function take(event) {
  const [, kind, data] = /^event: (\w+)\ndata: (.*)$/.exec(event);
  const told = JSON.parse(data);
  if (kind === "room") {
    facts = told;
    options();
  } else {
    state = told;
    skew = Date.now() / 1000 - told.now;
    for (const seat of told.seats) seats.set(seat.seat, seat);
    root.classList.remove("lost");
    draw();
  }
}

function element(kind, text, className) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

const now = () => Date.now() / 1000 - skew;
const called = (seat) => names ? seat.name : `Seat ${seat.seat}`;
const current = (seat) => facts.exercises.find(({ id }) => seat.done[id] && !seat.done[id].passed)?.id;

// Seconds that a learner has been at an exercise which they have tried and not solved; 0 if none.
function stuck(seat) {
  const id = current(seat);
  return seat.here && id ? now() - seat.done[id].began : 0;
}

function draw() {
  if (!facts || !state) return;
  const all = [...seats.values()].sort((a, b) => a.seat - b.seat);
  root.classList.toggle("few", all.length <= 20);
  const solved = all.reduce((sum, seat) => sum + Object.values(seat.done).filter((d) => d.passed).length, 0);
  $("summary").textContent = `${all.filter((seat) => seat.here).length} here, ${solved} solved`;
  $("title").textContent = facts.title;
  $("join").textContent = code ? `Code ${facts.code}` : "";
  drawHands(all);
  drawGrid(all);
  drawDiagnoses();
  drawLong(all);
}

function drawHands(all) {
  const up = all.filter((seat) => seat.hand).sort((a, b) => a.hand - b.hand);
  const shown = up.slice(0, 2).map(called).join(", ");
  $("hands").textContent = up.length ? `✋ ${up.length}: ${shown}${up.length > 2 ? " …" : ""}` : "";
}

function drawGrid(all) {
  const head = element("tr", "");
  head.append(element("th", ""), ...facts.exercises.map(({ id, title }) => {
    const cell = element("th", id);
    cell.title = title;
    return cell;
  }));
  const top = document.createElement("thead"), rows = document.createElement("tbody");
  top.append(head);
  rows.append(...all.map(row));
  $("grid").replaceChildren(top, rows);
}

function row(seat) {
  const made = element("tr", "", [seat.hand ? "up" : "", seat.here ? "" : "gone"].join(" ").trim());
  made.append(element("th", `${seat.hand ? "✋ " : ""}${called(seat)}`));
  const long = stuck(seat) > LONG && current(seat);
  for (const { id } of facts.exercises) {
    const done = seat.done[id];
    const cell = element("td", !done ? "" : done.passed ? "✔" : `${done.attempts}✘`,
      [!done ? "" : done.passed ? "passed" : "failed", id === long ? "long" : ""].join(" ").trim());
    if (done) cell.title = `${done.attempts} attempts, ${done.hints} hints, ${done.minutes} min ${done.diagnosis}`;
    made.append(cell);
  }
  return made;
}

function drawDiagnoses() {
  $("diagnoses").replaceChildren(...state.diagnoses.slice(0, 4).map((each) => {
    const line = document.createElement("li");
    const words = each.diagnosis.replaceAll("-", " ");
    const sentence = facts.sentences[each.exercise]?.[each.diagnosis];
    const about = sentence && sentence !== words ? `, ${words}` : "";
    line.append(element("b", `${each.count} of ${each.of}: `), sentence || words,
      element("span", ` ${each.exercise}${about}`, "small"));
    const question = facts.questions[each.exercise]?.[each.diagnosis] || facts.questions["*"]?.[each.diagnosis];
    if (question) line.append(element("p", question, "small"));
    return line;
  }));
}

function drawLong(all) {
  const long = all.filter((seat) => stuck(seat) > LONG).sort((a, b) => stuck(b) - stuck(a));
  const shown = long.slice(0, 5).map((seat) =>
    element("li", `${called(seat)}: ${current(seat)}, ${Math.floor(stuck(seat) / 60)} min`));
  $("long").replaceChildren(...shown, ...(shown.length ? [] : [element("li", "nobody", "small")]));
}

function tick() {
  const timer = state && state.timer;
  const left = timer ? Math.round(timer.ends - now()) : 0;
  const shown = `${Math.floor(Math.abs(left) / 60)}:${String(Math.abs(left) % 60).padStart(2, "0")}`;
  $("timer").textContent = timer ? `⏱ ${timer.exercise} ${left < 0 ? "over by " : ""}${shown}` : "";
  $("timer").classList.toggle("over", left < 0);
}

function options() {
  const chosen = $("exercise").value;
  $("exercise").replaceChildren(...facts.exercises.map(({ id }) => element("option", id)));
  if (chosen) $("exercise").value = chosen;
}

async function send(path, body) {
  try {
    const answer = await ask(path, body);
    $("said").textContent = answer.ok ? "taken" : (await answer.json()).error;
    return answer.ok;
  } catch {
    $("said").textContent = "no room";
    return false;
  }
}

$("clock").addEventListener("submit", (event) => {
  event.preventDefault();
  send("timer", { exercise: $("exercise").value, seconds: Math.round(60 * $("minutes").valueAsNumber) });
});
$("stop").addEventListener("click", () => send("timer", { exercise: $("exercise").value, seconds: 0 }));
$("paste").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await send("paste", { line: $("line").value })) $("line").value = "";
});

function theme(wanted) { root.dataset.theme = wanted; }
const dark = matchMedia("(prefers-color-scheme: dark)");
theme(dark.matches ? "dark" : "light");
dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
addEventListener("keydown", (event) => {
  if (event.target.matches("input, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "n") names = !names;
  else if (event.key === "d") theme(root.dataset.theme === "dark" ? "light" : "dark");
  else if (event.key === "j") code = !code;
  else if (event.key === "c") root.classList.toggle("bare");
  draw();
});
setInterval(tick, 250);
setInterval(draw, 10000);  // times grow without news, too
watch();
