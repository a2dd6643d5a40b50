// The page: what is pressed goes to the call, what the call tells is shown.

import { Call, Cancelled, explain, microphoneAllowed, request } from "./call.js";
import { LatencyView } from "./chart.js";
import { Meter } from "./meter.js";

const MAX_LINES = 200;
const KEYS = ["1", "2", "3", "4", "5", "6", "7", "8", "9", "*", "0", "#"];
const STATES = {
  idle: "Ready", connecting: "Connecting…", answered: "Connected", listening: "Listening",
  thinking: "Thinking…", speaking: "Agent is speaking", ended: "Call ended",
};
const REASONS = {
  agent_hung_up: "The agent hung up", caller_hung_up: "You hung up",
  max_duration: "The longest call time was reached", shutdown: "The server is shutting down",
  transferred: "The call was transferred", far_end_lost: "The connection was lost",
  error: "Something went wrong on the server",
};

const $ = (id) => document.getElementById(id);
const meter = new Meter($("level"));
const latency = new LatencyView({
  figure: $("figure"), table: $("turns"), rows: $("latency"), legend: $("stages"),
});
let call = null;
let partial = null;
let agentLine = null;
let atEnd = true;
let timer = 0;

// For support: what the browser knows of the call, from its console.
globalThis.ringtrue = { stats: () => call?.stats() ?? [] };

function showState(name, reason) {
  $("state").dataset.state = name;
  $("state").textContent = REASONS[reason] ?? STATES[name] ?? name;
}

function showError(text) {
  $("error").textContent = text;
  $("error").hidden = !text;
}

function showButtons(inCall) {
  document.body.dataset.call = inCall ? "on" : "off";
  $("call").hidden = inCall;
  $("hangup").hidden = !inCall;
  $("mute").disabled = !inCall;
  $("agents").disabled = inCall;
  for (const key of $("keypad").children) {
    key.disabled = !inCall;
  }
  if (!inCall) {
    $("mute").setAttribute("aria-pressed", "false");
    $("mute").textContent = "Mute";
  }
}

// Add to the transcript, or change it, and keep its end in sight unless the reader scrolled up.
function keepEnd(change) {
  const list = $("transcript");
  change(list);
  $("empty").hidden = list.children.length > 0;
  if (atEnd) {
    list.scrollTop = list.scrollHeight;
  }
}

function line(kind) {
  const item = document.createElement("li");
  item.className = kind;
  keepEnd((list) => {
    list.append(item);
    while (list.children.length > MAX_LINES) {
      list.firstElementChild.remove();
    }
  });
  return item;
}

function write(item, text) {
  keepEnd(() => {
    item.textContent = text;
  });
}

const shown = {
  state: ({ state, reason }) => showState(state, reason),
  partial: ({ text }) => {
    partial ??= line("caller partial");
    write(partial, text);
  },
  final: ({ text }) => {
    partial?.remove();
    partial = null;
    if (text) {
      write(line("caller"), text);
    }
  },
  agent: ({ text, turn, interrupted }) => {
    if (agentLine?.dataset.turn !== String(turn)) {
      agentLine = line("agent");
      agentLine.dataset.turn = String(turn);
    }
    write(agentLine, text);
    agentLine.classList.toggle("interrupted", Boolean(interrupted));
  },
  latency: (turn) => latency.add(turn),
};

function startTimer() {
  const began = performance.now();
  const tick = () => {
    const seconds = Math.floor((performance.now() - began) / 1000);
    $("timer").textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
  };
  tick();
  timer = setInterval(tick, 500);
}

function over(current) {
  if (call !== current) {
    return;
  }
  call = null;
  clearInterval(timer);
  meter.stop();
  $("voice").srcObject = null;
  partial?.remove();
  partial = agentLine = null;
  if ($("state").dataset.state !== "ended") {
    showState("ended");
  }
  showButtons(false);
  $("call").focus();
}

async function place() {
  const agent = document.querySelector("input[name=agent]:checked")?.value;
  showError("");
  showState("connecting");
  latency.clear();
  $("timer").textContent = "0:00";
  keepEnd((list) => list.replaceChildren());
  const current = new Call();
  call = current;
  showButtons(true);
  $("hangup").focus();
  current.addEventListener("track", ({ detail }) => {
    $("voice").srcObject = detail;
    $("voice").play().catch(() => showError("The browser holds the sound back. Click anywhere on the page."));
  });
  current.addEventListener("message", ({ detail }) => shown[detail.type]?.(detail));
  current.addEventListener("waiting", ({ detail }) => showError(detail ? "Reconnecting…" : ""));
  current.addEventListener("lost", ({ detail }) => showError(detail));
  current.addEventListener("closed", () => over(current));
  try {
    await current.start(agent);
    if (call === current) {
      showState("answered");
      startTimer();
      meter.start(current.microphone);
    }
  } catch (error) {
    over(current);
    if (!(error instanceof Cancelled)) {
      showError(explain(error));
      showState("idle");
    }
  }
}

function makeKeypad() {
  for (const key of KEYS) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = key;
    button.dataset.key = key;
    button.setAttribute("aria-label", { "*": "star", "#": "hash" }[key] ?? key);
    button.disabled = true;
    button.addEventListener("click", () => call?.press(key));
    $("keypad").append(button);
  }
}

function showExamples(examples) {
  $("examples").replaceChildren(...examples.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
  $("try").hidden = examples.length === 0;
}

function makeChoices(agents) {
  for (const [index, agent] of agents.entries()) {
    const label = document.createElement("label");
    label.className = "choice";
    const radio = document.createElement("input");
    Object.assign(radio, { type: "radio", name: "agent", value: agent.name, checked: index === 0 });
    const text = document.createElement("span");
    text.textContent = agent.title;
    if (agent.description) {
      const small = document.createElement("small");
      small.textContent = agent.description;
      text.append(small);
    }
    label.append(radio, text);
    radio.addEventListener("change", () => showExamples(agent.examples));
    $("agents").append(label);
  }
  showExamples(agents[0].examples);
}

async function open() {
  makeKeypad();
  if (!microphoneAllowed()) {
    showError("The browser gives a microphone only to secure pages. Open this one over https or from localhost.");
    return;
  }
  try {
    const session = await request("/webrtc/session");
    $("name").textContent = document.title = session.name;
    makeChoices(session.agents);
    $("call").disabled = false;
  } catch (error) {
    showError(explain(error));
  }
}

$("call").addEventListener("click", place);
$("hangup").addEventListener("click", () => {
  showState("ended", "caller_hung_up");
  call?.hangUp();
});
$("mute").addEventListener("click", () => {
  const muted = $("mute").getAttribute("aria-pressed") !== "true";
  $("mute").setAttribute("aria-pressed", String(muted));
  $("mute").textContent = muted ? "Unmute" : "Mute";
  call?.mute(muted);
});
$("transcript").addEventListener("scroll", ({ target }) => {
  atEnd = target.scrollTop + target.clientHeight >= target.scrollHeight - 24;
});
new ResizeObserver(() => keepEnd(() => {})).observe($("transcript"));
document.addEventListener("click", () => {
  if ($("voice").srcObject && $("voice").paused) {
    $("voice").play().then(() => showError(""), () => {});
  }
});
addEventListener("keydown", (event) => {
  if (call && KEYS.includes(event.key) && !event.ctrlKey && !event.metaKey && !event.altKey) {
    call.press(event.key);
  }
});
addEventListener("pagehide", () => call?.hangUp());
open();
