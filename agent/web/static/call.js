// One WebRTC call to an agent. Emits "track", "open", "message", "lost" and "closed".

const GATHER_MS = 2000;
const CONNECT_MS = 15000;
const LOST_MS = 6000;

export class CallError extends Error {}

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
      return "The server can't be reached. Is it running, and are you online?";
    default:
      return error.message || String(error);
  }
}

export async function request(path, body) {
  const response = await fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body ?? {}),
  });
  const reply = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new CallError(reply.message ?? `The server answered ${response.status}.`);
  }
  return reply;
}

export function microphoneAllowed() {
  return Boolean(globalThis.isSecureContext && navigator.mediaDevices?.getUserMedia);
}

export class Call extends EventTarget {
  #pc = null;
  #channel = null;
  #microphone = null;
  #lost = null;
  #over = false;
  #hungUp = false;
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
    const session = await request("/webrtc/session");
    this.#microphone = await navigator.mediaDevices.getUserMedia({
      audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true },
    });
    this.#checkAlive();
    const pc = new RTCPeerConnection({ iceServers: session.ice_servers, bundlePolicy: "max-bundle" });
    this.#pc = pc;
    this.#channel = pc.createDataChannel("ringtrue", { ordered: true });
    this.#channel.addEventListener("open", () => this.#emit("open"));
    this.#channel.addEventListener("message", ({ data }) => this.#emit("message", JSON.parse(data)));
    this.#channel.addEventListener("close", () => this.close());
    pc.addEventListener("track", ({ track, streams }) =>
      this.#emit("track", streams[0] ?? new MediaStream([track])));
    pc.addEventListener("connectionstatechange", () => this.#connectionChanged());
    for (const track of this.#microphone.getTracks()) {
      pc.addTrack(track, this.#microphone);
      track.addEventListener("ended", () => this.#fail("The microphone was unplugged."));
    }
    await pc.setLocalDescription(await pc.createOffer());
    await gathered(pc);
    this.#checkAlive();
    const answer = await request("/webrtc/offer", {
      sdp: pc.localDescription.sdp, type: "offer", token: session.token, agent,
    });
    this.#checkAlive();
    this.id = answer.call_id;
    await pc.setRemoteDescription({ type: "answer", sdp: answer.sdp });
    await this.#connected(pc);
  }

  mute(on) {
    for (const track of this.#microphone?.getAudioTracks() ?? []) {
      track.enabled = !on;
    }
  }

  press(digit) {
    this.#send({ type: "dtmf", digit });
  }

  hangUp() {
    this.#hungUp = true;
    this.#send({ type: "hangup" });
    this.close();
  }

  async stats() {
    return this.#pc ? [...(await this.#pc.getStats()).values()] : [];
  }

  close() {
    if (this.#over) {
      return;
    }
    this.#over = true;
    clearTimeout(this.#lost);
    this.#pc?.close();
    for (const track of this.#microphone?.getTracks() ?? []) {
      track.stop();
    }
    this.#emit("closed");
  }

  #connected(pc) {
    return new Promise((resolve, reject) => {
      const late = setTimeout(
        () => reject(new CallError("No audio path to the server was found. A firewall may be in the way.")),
        CONNECT_MS,
      );
      const settle = () => {
        if (pc.connectionState === "connected") {
          clearTimeout(late);
          resolve();
        } else if (["failed", "closed"].includes(pc.connectionState)) {
          clearTimeout(late);
          reject(new CallError("No audio path to the server was found. A firewall may be in the way."));
        }
      };
      pc.addEventListener("connectionstatechange", settle);
      this.addEventListener("closed", () => {
        clearTimeout(late);
        reject(new CallError("The call ended before it was connected."));
      });
      settle();
    });
  }

  #connectionChanged() {
    clearTimeout(this.#lost);
    const state = this.#pc.connectionState;
    if (state === "disconnected") {
      this.#lost = setTimeout(() => this.#fail("The connection to the server was lost."), LOST_MS);
    } else if (state === "failed") {
      this.#fail("The connection to the server was lost.");
    }
  }

  #fail(why) {
    if (!this.#over) {
      this.#emit("lost", why);
      this.close();
    }
  }

  #send(message) {
    if (this.#channel?.readyState === "open") {
      this.#channel.send(JSON.stringify(message));
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

function gathered(pc) {
  return new Promise((resolve) => {
    if (pc.iceGatheringState === "complete") {
      resolve();
      return;
    }
    const timer = setTimeout(resolve, GATHER_MS);
    pc.addEventListener("icegatheringstatechange", () => {
      if (pc.iceGatheringState === "complete") {
        clearTimeout(timer);
        resolve();
      }
    });
  });
}
