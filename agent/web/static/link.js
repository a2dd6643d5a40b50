// One peer connection of a call: its offer, its candidates as they are found, its end.

const CONNECT_MS = 15000;
export const ANSWER_MS = 2000;
const LEAST_PAUSE_MS = 50;

export class CallError extends Error {}

// Rejects after `within` ms: a request over a network that is gone would be waited for without end.
export async function request(path, body, secret, within = CONNECT_MS) {
  const headers = { "Content-Type": "application/json" };
  if (secret) {
    headers.Authorization = `Bearer ${secret}`;
  }
  const response = await fetch(path, {
    method: "POST", headers, body: JSON.stringify(body ?? {}), signal: AbortSignal.timeout(within),
  });
  const reply = await response.json().catch(() => ({}));
  if (!response.ok) {
    throw new CallError(reply.message ?? `The server answered ${response.status}.`);
  }
  return reply;
}

// Emits "track", "message", "state" and "gone" (the server closed the call's channel).
export class Link extends EventTarget {
  #pc;
  #channel;
  #found = [];
  #address = null;
  #sending = false;
  #closed = false;

  constructor(session, microphone) {
    super();
    this.#pc = new RTCPeerConnection({
      iceServers: session.ice_servers,
      iceTransportPolicy: session.ice_transport_policy,
      bundlePolicy: "max-bundle",
    });
    this.#channel = this.#pc.createDataChannel("ringtrue", { ordered: true });
    this.#channel.addEventListener("message", ({ data }) => this.#emit("message", JSON.parse(data)));
    this.#channel.addEventListener("close", () => this.#emit("gone"));
    this.#pc.addEventListener("track", ({ track, streams }) =>
      this.#emit("track", streams[0] ?? new MediaStream([track])));
    this.#pc.addEventListener("connectionstatechange", () => this.#emit("state", this.state));
    this.#pc.addEventListener("icecandidate", ({ candidate }) => {
      this.#found.push(candidate?.candidate ? `a=${candidate.candidate}` : "a=end-of-candidates");
      this.#trickle();
    });
    for (const track of microphone.getTracks()) {
      this.#pc.addTrack(track, microphone);
    }
  }

  get state() {
    return this.#closed ? "closed" : this.#pc.connectionState;
  }

  async offer() {
    await this.#pc.setLocalDescription(await this.#pc.createOffer());
    return this.#pc.localDescription.sdp;
  }

  // The server's answer, and where candidates go: {path, secret}.
  async accept(sdp, address) {
    this.#address = address;
    await this.#pc.setRemoteDescription({ type: "answer", sdp });
    this.#trickle();
  }

  connected(within = CONNECT_MS) {
    return new Promise((resolve, reject) => {
      const none = () =>
        reject(new CallError("No audio path to the server was found. A firewall may be in the way."));
      const late = setTimeout(none, within);
      const settle = () => {
        if (this.state === "connected") {
          clearTimeout(late);
          resolve();
        } else if (["failed", "closed"].includes(this.state)) {
          clearTimeout(late);
          none();
        }
      };
      this.addEventListener("state", settle);
      settle();
    });
  }

  send(message) {
    if (this.#channel.readyState === "open") {
      this.#channel.send(JSON.stringify(message));
    }
  }

  async stats() {
    return [...(await this.#pc.getStats()).values()];
  }

  // Packets of the agent's voice so far; the server sends one every 20 ms, silence too.
  async heard() {
    const inbound = (await this.stats()).find(({ type }) => type === "inbound-rtp");
    return inbound?.packetsReceived ?? 0;
  }

  close() {
    if (!this.#closed) {
      this.#closed = true;
      this.#pc.close();
      this.#emit("state", "closed");
    }
  }

  // RFC 8840: candidates in the order they were found, those that wait together.
  async #trickle() {
    if (this.#sending || !this.#address) {
      return;
    }
    this.#sending = true;
    while (this.#found.length > 0 && !this.#closed) {
      const fragment = this.#fragment(this.#found.splice(0));
      const { path, secret } = this.#address;
      const headers = {
        "Content-Type": "application/trickle-ice-sdpfrag", Authorization: `Bearer ${secret}`,
      };
      // One that is lost may not be needed; whether the call comes up shows soon enough.
      await fetch(path, {
        method: "PATCH", headers, body: fragment, signal: AbortSignal.timeout(ANSWER_MS),
      }).catch(() => null);
      await new Promise((done) => setTimeout(done, LEAST_PAUSE_MS));
    }
    this.#sending = false;
  }

  #fragment(lines) {
    const sdp = this.#pc.localDescription.sdp;
    const generation = sdp.match(/^a=ice-(ufrag|pwd):.*$/gm).slice(0, 2);
    const mid = sdp.match(/^a=mid:.*$/m)[0];
    const media = sdp.match(/^m=.*$/m)[0];
    return [...generation, media, mid, ...lines, ""].map((line) => line.trim()).join("\r\n");
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }
}
