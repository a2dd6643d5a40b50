// Records the microphone as it is, without the processing meant for calls, into 16-bit mono WAV.

const RATE = 48000;
const UNPROCESSED = {
  channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: false,
};
const FLOOR_DB = -60;

export function microphoneAllowed() {
  return Boolean(globalThis.isSecureContext && navigator.mediaDevices?.getUserMedia && globalThis.AudioWorkletNode);
}

export function explain(error) {
  switch (error.name) {
    case "NotAllowedError":
      return "The microphone was refused. Allow it for this page in the browser's address bar, then record again.";
    case "NotFoundError":
      return "No microphone was found. Plug one in, then record again.";
    case "NotReadableError":
      return "Another program holds the microphone. Close it, then record again.";
    case "TypeError":
      return "The server can't be reached. Is it running, and are you online?";
    default:
      return error.message || String(error);
  }
}

function header(rate, bytes) {
  const view = new DataView(new ArrayBuffer(44));
  const tag = (at, text) => [...text].forEach((letter, n) => view.setUint8(at + n, letter.charCodeAt(0)));
  tag(0, "RIFF"); view.setUint32(4, bytes + 36, true); tag(8, "WAVE");
  tag(12, "fmt "); view.setUint32(16, 16, true); view.setUint16(20, 1, true); view.setUint16(22, 1, true);
  view.setUint32(24, rate, true); view.setUint32(28, 2 * rate, true);
  view.setUint16(32, 2, true); view.setUint16(34, 16, true);
  tag(36, "data"); view.setUint32(40, bytes, true);
  return view.buffer;
}

export function toWav(blocks, rate) {
  const count = blocks.reduce((sum, block) => sum + block.length, 0);
  const samples = new Int16Array(count);
  let at = 0;
  for (const block of blocks) {
    for (const value of block) {
      samples[at++] = Math.max(-32768, Math.min(32767, Math.round(value * 32768)));
    }
  }
  return new Blob([header(rate, 2 * count), samples], { type: "audio/wav" });
}

// A WAV that was streamed doesn't know its length; a player wants to.
export function finished(bytes) {
  const whole = new Uint8Array(bytes).slice();
  const view = new DataView(whole.buffer);
  view.setUint32(4, whole.length - 8, true);
  view.setUint32(40, whole.length - 44, true);
  return new Blob([whole], { type: "audio/wav" });
}

export class Recorder {
  #context = null;
  #stream = null;
  #node = null;
  #blocks = [];
  #frames = 0;

  // Called with the seconds recorded and the last block's level, 0 to 1.
  onprogress = () => {};

  async start() {
    this.#blocks = [];
    this.#frames = 0;
    try {
      this.#stream = await navigator.mediaDevices.getUserMedia({ audio: UNPROCESSED });
      this.#context = new AudioContext({ sampleRate: RATE });
      await this.#context.audioWorklet.addModule("/enrol/capture.js");
      this.#node = new AudioWorkletNode(this.#context, "capture", { numberOfOutputs: 0, channelCount: 1, channelCountMode: "explicit" });
      this.#node.port.onmessage = ({ data }) => data && this.#take(data);
      this.#context.createMediaStreamSource(this.#stream).connect(this.#node);
      await this.#context.resume();
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  get seconds() {
    return this.#context ? this.#frames / this.#context.sampleRate : 0;
  }

  #take(block) {
    this.#blocks.push(block);
    this.#frames += block.length;
    const power = block.reduce((sum, value) => sum + value * value, 0) / block.length;
    const level = 1 - 10 * Math.log10(power + 1e-10) / FLOOR_DB;
    this.onprogress(this.seconds, Math.min(1, Math.max(0, level)));
  }

  // Ends the recording; gives the WAV once the audio thread has handed over its last block.
  async stop() {
    const node = this.#node;
    await new Promise((resolve) => {
      node.port.onmessage = ({ data }) => (data ? this.#take(data) : resolve());
      node.port.postMessage("stop");
    });
    const wav = toWav(this.#blocks, this.#context.sampleRate);
    this.#release();
    return wav;
  }

  #release() {
    this.#stream?.getTracks().forEach((track) => track.stop());
    this.#context?.close();
    this.#stream = this.#context = this.#node = null;
    this.#blocks = [];
  }
}
