// One call to an agent. Emits "track", "message", "waiting", "lost" and "closed".

import { ANSWER_MS, CallError, Link, request } from "./link.js";

export { CallError, request };

const WATCH_MS = 500;
const UNHEARD_MS = 2000;
const ATTEMPT_MS = 4000;
const PAUSE_MS = 500;

// Whoever called hung up before the call was up: nothing went wrong.
export class Cancelled extends Error {}

// What a failure means to the person in front of the page.
export function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone was refused. Allow it for this page in the browser's address bar, then call again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, then call again.";
    case "NotReadableError":
      return "Another program holds the microphone. Close it, then call again.";
    case "TypeError":
    case "TimeoutError":
      return "The server can't be reached. Is it running, and are you online?";
    default:
      return error.message || String(error);
  }
}

export function microphoneAllowed() {
  return Boolean(globalThis.isSecureContext && navigator.mediaDevices?.getUserMedia);
}

export class Call extends EventTarget {
  #session = null;
  #link = null;
  #microphone = null;
  #watch = 0;
  #heard = { packets: 0, at: 0 };
  #reconnecting = false;
  #over = false;
  #hungUp = false;
  #secret = "";
  id = "";

  get microphone() {
    return this.#microphone;
  }

  async start(agent) {
    try {
      await this.#start(agent);
    } catch (error) {
      this.close();
      throw this.#hungUp ? new Cancelled() : error;
    }
  }

  async #start(agent) {
    if (!microphoneAllowed()) {
      throw new CallError(
        "The browser gives a microphone only to secure pages. Open this one over https or from localhost.",
      );
    }
    this.#session = await request("/webrtc/session", { agent });
    this.#microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    this.#checkAlive();
    for (const track of this.#microphone.getTracks()) {
      track.addEventListener("ended", () => this.#fail("The microphone was unplugged."));
    }
    const link = this.#open();
    this.#link = link;
    const sdp = await link.offer();
    this.#checkAlive();
    const answer = await request("/webrtc/offer", {
      token: this.#session.token, agent, type: "offer", sdp,
    });
    this.id = answer.call_id;
    this.#secret = answer.call_token;
    this.#checkAlive();
    await link.accept(answer.sdp, this.#address());
    await link.connected();
    this.#checkAlive();
    this.#watch = setInterval(() => this.#look(), WATCH_MS);
  }

  mute(on) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) {
      track.enabled = !on;
    }
  }

  press(digit) {
    this.#link?.send({ type: "dtmf", digit });
  }

  hangUp() {
    this.#hungUp = true;
    this.#link?.send({ type: "hangup" });
    if (this.#reconnecting) {
      const headers = { Authorization: `Bearer ${this.#secret}` };
      fetch(this.#address().path, { method: "DELETE", headers, keepalive: true }).catch(() => null);
    }
    this.close();
  }

  async stats() {
    return this.#link?.stats() ?? [];
  }

  close() {
    if (this.#over) {
      return;
    }
    this.#over = true;
    clearInterval(this.#watch);
    this.#link?.close();
    for (const track of this.#microphone?.getTracks() ?? []) {
      track.stop();
    }
    this.#emit("closed");
  }

  #address() {
    return { path: `/webrtc/calls/${this.id}`, secret: this.#secret };
  }

  #open() {
    const link = new Link(this.#session, this.#microphone);
    const current = (act) => (event) => link === this.#link && act(event.detail);
    link.addEventListener("message", current((message) => this.#emit("message", message)));
    link.addEventListener("track", ({ detail }) => this.#emit("track", detail));
    link.addEventListener("gone", current(() => this.close()));
    link.addEventListener("state", current((state) => {
      if (this.#watch && ["disconnected", "failed"].includes(state)) {
        this.#reconnect();
      }
    }));
    return link;
  }

  // The agent's silence is sent too, so that nothing at all means that the path is gone.
  async #look() {
    const packets = await this.#link.heard();
    const now = performance.now();
    if (packets !== this.#heard.packets || !this.#heard.at) {
      this.#heard = { packets, at: now };
    } else if (now - this.#heard.at > UNHEARD_MS) {
      this.#reconnect();
    }
  }

  async #reconnect() {
    if (this.#reconnecting || this.#over) {
      return;
    }
    this.#reconnecting = true;
    this.#emit("waiting", true);
    const until = performance.now() + 1000 * this.#session.reconnect_seconds;
    while (!this.#over && performance.now() < until && !(await this.#isBack())) {
      if (await this.#replace()) {
        break;
      }
      await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
    this.#reconnecting = false;
    if (!this.#over && !(await this.#isBack())) {
      this.#fail("The connection to the server was lost.");
      return;
    }
    this.#heard = { packets: 0, at: 0 };
    this.#emit("waiting", false);
  }

  async #isBack() {
    return this.#link.state === "connected" && (await this.#link.heard()) !== this.#heard.packets;
  }

  async #replace() {
    const link = this.#open();
    try {
      const sdp = await link.offer();
      const { path, secret } = this.#address();
      const answer = await request(`${path}/resume`, { sdp, type: "offer" }, secret, ANSWER_MS);
      await link.accept(answer.sdp, this.#address());
      await link.connected(ATTEMPT_MS);
    } catch {
      link.close();
      return false;
    }
    const before = this.#link;
    this.#link = link;
    this.#heard = { packets: -1, at: 0 };
    before.close();
    if (this.#over) {
      link.close();
    }
    return true;
  }

  #fail(why) {
    if (!this.#over) {
      this.#emit("lost", why);
      this.close();
    }
  }

  #checkAlive() {
    if (this.#over) {
      throw new Cancelled();
    }
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
