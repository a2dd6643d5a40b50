// The page: a recording is dropped, the server searches it, and what it found is shown.

import { clock, evidence } from "./evidence.js";

const MAX_BYTES = 30 * 1024 * 1024;
const WAIT_SECONDS = 20;
const STATES = { idle: "Ready", working: "Searching…", found: "Made here", nothing: "No finding" };

const $ = (id) => document.getElementById(id);
let search = null; // address of the one under way
let attempt = 0; // grows when a search is left behind

class Refused extends Error {}

function show(step, state) {
  document.body.dataset.step = step;
  $("state").dataset.state = state;
  $("state").textContent = STATES[state];
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function api(method, path, body) {
  const response = await fetch(path, { method, headers: { Authorization: `Bearer ${$("key").value.trim()}` }, body });
  const answer = await response.json().catch(() => ({}));
  if (!response.ok) throw new Refused(answer.detail || `The server answered ${response.status}.`);
  return { answer, location: response.headers.get("location") };
}

async function begin(file) {
  showError("");
  if (!$("key").reportValidity()) return;
  if (file.size > MAX_BYTES) {
    showError(`${file.name} has ${(file.size / 1048576).toFixed(0)} MiB; allowed: 30. The command "ringtrue watermark detect" takes any.`);
    return;
  }
  const mine = ++attempt;
  $("progress").removeAttribute("value");
  show("work", "working");
  try {
    const thorough = $("thorough").checked;
    let { answer, location } = await api("POST", `/v1/watermark/detect?thorough=${thorough}`, file);
    search = location;
    while (mine === attempt && (answer.state === "queued" || answer.state === "running")) {
      if (answer.state === "running") $("progress").value = answer.progress;
      ({ answer } = await api("GET", `${search}?after=${answer.version}&wait=${WAIT_SECONDS}`));
    }
    if (mine !== attempt) return;
    if (answer.state !== "done") throw new Refused(answer.problem?.detail ?? `The search was ${answer.state}.`);
    showReport(answer);
  } catch (error) {
    if (mine !== attempt) return;
    show("file", "idle");
    showError(error instanceof Refused ? error.message : "The server can't be reached.");
  } finally {
    if (mine === attempt) search = null;
  }
}

function chance(probability) {
  if (probability >= 1) return "as much shows by chance in any recording";
  const power = Math.floor(Math.log10(probability));
  const lead = Math.ceil(probability / 10 ** power);
  return power < -30 ? "less than one in 10³⁰" : `at most ${lead} × 10${String(power).replace(/./g, (c) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(c)])}`;
}

function item(...lines) {
  const element = document.createElement("li");
  for (const [n, line] of lines.filter(Boolean).entries()) {
    const part = document.createElement(n ? "div" : "strong");
    part.textContent = line;
    if (n) part.className = "small";
    element.append(part);
  }
  return element;
}

function showReport({ report, sessions }) {
  document.body.dataset.found = report.found ? "yes" : "no";
  $("verdict").textContent = report.found
    ? "Synthetic: this speech was made here" : "No finding";
  $("surely").textContent = report.found
    ? `The probability that an unmarked recording shows as much is ${chance(report.false_alarm)}.`
    : "No watermark of this server was found. That is no proof that a person spoke.";
  const many = report.channels.length > 1;
  $("pictures").replaceChildren(...report.channels.map((channel, n) =>
    evidence(channel, report.seconds, report.threshold, many ? `Channel ${n + 1}` : "Recording")));
  const stretches = report.channels.flatMap((channel) => channel.stretches).sort((a, b) => a.start - b.start);
  $("tokens").replaceChildren(...stretches.map((part) => {
    const where = `${clock(part.start)} to ${clock(part.end)}, key ${part.key}`;
    if (!part.token) return item("Marked, but too short or faint to read", where);
    const began = new Date(part.token.time).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    const call = sessions.find((session) => session.mark === part.token.id);
    const whose = call
      ? `Call ${call.call ?? "unknown"}, agent ${call.agent ?? "unknown"}, voice ${call.voices.join(", ") || "not named"}`
      : "No call of this key's tenant is known by that session";
    return item(`Session ${part.token.session}, begun ${began}; authentication code valid`, where, whose);
  }));
  show("done", report.found ? "found" : "nothing");
  $("verdict").focus();
}

$("file").addEventListener("submit", (event) => event.preventDefault());
$("recording").addEventListener("change", () => {
  const [file] = $("recording").files;
  $("recording").value = "";
  if (file) begin(file);
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop" && document.body.dataset.step === "file" && event.dataTransfer.files.length) {
      begin(event.dataTransfer.files[0]);
    }
  });
}
$("cancel").addEventListener("click", async () => {
  attempt += 1;
  const left = search;
  search = null;
  show("file", "idle");
  if (left) await api("DELETE", left).catch(() => {});
});
$("again").addEventListener("click", () => {
  delete document.body.dataset.found;
  show("file", "idle");
});
