// The page: name and purpose, two recordings, then a voice or what was wrong with them.

import { Recorder, explain, finished, microphoneAllowed } from "./recorder.js";

const PASSAGE = "Every morning the baker opens her shop while the street is still quiet. She chooses fresh rye, "
  + "mixes the dough, and listens to the weather on a small radio. By eight, there is a queue of neighbours: "
  + "some in a hurry, others happy to chat about the garden, the news, or a joke they heard on the way.";
const TAKES = [
  {
    part: "statement", title: "Read this out, word for word", least: 2, most: 30,
    how: "Speak as you always do, in a quiet room, an arm's length from the microphone. Stop when you are done.",
  },
  {
    part: "speech", title: "Now say anything, or read this", least: 5, most: 30,
    how: "10 to 30 seconds. The more you say, the better the voice.",
  },
];
const STATES = { idle: "Ready", recording: "Recording", working: "Working…", enrolled: "Enrolled", refused: "Refused" };

const $ = (id) => document.getElementById(id);
const recorder = new Recorder();
let key = "";
let asked = null; // name and purpose, for another try
let challenge = null;
let take = 0;
let takes = {};
let wav = null;
let attempt = 0; // grows when an enrolment is left behind
let voice = null;

class Refused extends Error {}

function show(step) {
  document.body.dataset.step = step;
}

function showState(name) {
  $("state").dataset.state = name;
  $("state").textContent = STATES[name];
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

async function api(method, path, body) {
  const headers = { Authorization: `Bearer ${key}` };
  if (body && !(body instanceof FormData)) {
    headers["Content-Type"] = "application/json";
    body = JSON.stringify(body);
  }
  const response = await fetch(path, { method, headers, body });
  if (!response.ok) {
    const problem = await response.json().catch(() => ({}));
    const wrong = (problem.errors ?? []).map((error) => `${error.field}: ${error.allowed}`);
    throw new Refused(wrong.join("; ") || problem.detail || `The server answered ${response.status}.`);
  }
  return response;
}

async function begin() {
  showError("");
  challenge = await (await api("POST", "/v1/voices", asked)).json();
  takes = {};
  takeNext(0);
}

function takeNext(number) {
  take = number;
  const { title, how } = TAKES[take];
  $("count").textContent = `Recording ${take + 1} of ${TAKES.length}`;
  $("take-title").textContent = title;
  $("how").textContent = how;
  if (take === 0) {
    const phrase = document.createElement("strong");
    phrase.textContent = `${challenge.phrase}.`;
    $("read").replaceChildren(`${challenge.statement} `, phrase);
    const until = new Date(challenge.expires).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    $("expires").textContent = `These words are good once, until ${until}.`;
  } else {
    $("read").textContent = PASSAGE;
    $("expires").textContent = "";
  }
  showTake(null);
  show("take");
  $("read").focus();
}

function showTake(recorded) {
  wav = recorded;
  if ($("taken").src) {
    URL.revokeObjectURL($("taken").src);
    $("taken").removeAttribute("src");
  }
  if (wav) {
    $("taken").src = URL.createObjectURL(wav);
  } else {
    $("timer").textContent = "0.0 s";
  }
  $("taken").hidden = $("keep").hidden = !wav;
  $("record").hidden = false;
  $("record").textContent = wav ? "Record again" : "Record";
  $("record").classList.toggle("primary", !wav);
  $("stop").hidden = true;
  showLevel(0);
  showState("idle");
}

function showLevel(level) {
  $("level").firstElementChild.style.transform = `scaleX(${level.toFixed(3)})`;
  $("level").setAttribute("aria-valuenow", String(Math.round(100 * level)));
}

async function record() {
  showError("");
  $("record").disabled = true;
  try {
    await recorder.start();
  } catch (error) {
    showError(explain(error));
    return;
  } finally {
    $("record").disabled = false;
  }
  showTake(null);
  showState("recording");
  $("record").hidden = true;
  $("stop").hidden = false;
  $("stop").focus();
}

let stopping = false;

recorder.onprogress = (seconds, level) => {
  $("timer").textContent = `${seconds.toFixed(1)} s`;
  showLevel(level);
  if (seconds >= TAKES[take].most) {
    stop();
  }
};

async function stop() {
  if (stopping) {
    return;
  }
  stopping = true;
  const { seconds } = recorder;
  const { least } = TAKES[take];
  try {
    const recorded = await recorder.stop();
    showTake(seconds < least ? null : recorded);
    if (seconds < least) {
      showError(`That was ${seconds.toFixed(1)} s; at least ${least} s are needed.`);
    }
  } finally {
    stopping = false;
  }
}

async function keep() {
  takes[TAKES[take].part] = wav;
  if (take + 1 < TAKES.length) {
    takeNext(take + 1);
    return;
  }
  showTake(null);
  await enrol();
}

async function enrol() {
  const mine = ++attempt;
  showError("");
  show("work");
  showState("working");
  showProgress({ done: 0, doing: "sending the recordings" });
  const form = new FormData();
  form.append("token", challenge.token);
  for (const [part, recorded] of Object.entries(takes)) {
    form.append(part, recorded, `${part}.wav`);
  }
  let enrolment = await (await api("POST", challenge.recordings, form)).json();
  while (mine === attempt && ["queued", "running"].includes(enrolment.state)) {
    showProgress(enrolment.progress);
    const query = `?after=${enrolment.version}&wait=20`;
    enrolment = await (await api("GET", `/v1/enrolments/${challenge.enrolment}${query}`)).json();
  }
  if (mine === attempt) {
    takes = {};
    showOutcome(enrolment);
  }
}

function showProgress({ done, doing }) {
  $("progress").value = done;
  $("doing").textContent = `${doing[0].toUpperCase()}${doing.slice(1)}…`;
}

function showOutcome(enrolment) {
  const enrolled = enrolment.state === "enrolled";
  voice = enrolment.voice;
  document.body.dataset.outcome = enrolled ? "enrolled" : "refused";
  showState(enrolled ? "enrolled" : "refused");
  $("done-title").textContent = enrolled ? `${asked.name}'s voice is ready` : "No voice was made";
  const failed = enrolment.findings.filter((finding) => !finding.passed);
  $("told").textContent = enrolled
    ? `It may speak for ${asked.purpose}.`
    : failed.length ? "This is what was wrong:" : enrolment.problem?.detail ?? `The enrolment was ${enrolment.state}.`;
  $("findings").replaceChildren(...failed.map((finding) => {
    const item = document.createElement("li");
    item.className = "failed";
    item.dataset.check = finding.check;
    item.textContent = finding.message;
    return item;
  }));
  $("again").textContent = enrolled ? "Enrol another voice" : "Try again";
  $("text").value = `Hello, this is ${asked.name}. How can I help you?`;
  show("done");
  $("done-title").focus();
}

async function listen() {
  showError("");
  const request = { text: $("text").value, purpose: asked.purpose };
  const response = await api("POST", `/v1/voices/${encodeURIComponent(voice)}/speech`, request);
  if ($("voice").src) {
    URL.revokeObjectURL($("voice").src);
  }
  $("voice").src = URL.createObjectURL(finished(await response.arrayBuffer()));
  $("voice").hidden = false;
  await $("voice").play();
}

async function again() {
  showError("");
  $("voice").hidden = true;
  if (document.body.dataset.outcome === "enrolled") {
    $("who").reset();
    show("who");
    showState("idle");
    $("name").focus();
    return;
  }
  await begin();
}

// A button that is at work can't be pressed again, and what goes wrong is told.
function busy(button, work) {
  return async (event) => {
    event?.preventDefault();
    button.disabled = true;
    try {
      await work();
    } catch (error) {
      showError(explain(error));
      if (document.body.dataset.step === "work") {
        show("who");
        showState("idle");
      }
    } finally {
      button.disabled = false;
    }
  };
}

const submit = $("who").querySelector("button");
$("who").addEventListener("submit", busy(submit, () => {
  key = $("key").value.trim();
  asked = { name: $("name").value, purpose: $("purpose").value };
  return begin();
}));
$("record").addEventListener("click", record);
$("stop").addEventListener("click", stop);
$("keep").addEventListener("click", busy($("keep"), keep));
$("cancel").addEventListener("click", busy($("cancel"), async () => {
  attempt += 1;
  await api("DELETE", `/v1/enrolments/${challenge.enrolment}`);
  show("who");
  showState("idle");
}));
$("hear").addEventListener("submit", busy($("hear").querySelector("button"), listen));
$("again").addEventListener("click", busy($("again"), again));

if (microphoneAllowed()) {
  submit.disabled = false;
} else {
  showError("The browser gives a microphone only to secure pages. Open this one over https or from localhost.");
}
