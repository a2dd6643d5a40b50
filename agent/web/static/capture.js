// Runs on the audio thread: hands every block of the microphone's first channel to the page.

class Capture extends AudioWorkletProcessor {
  #on = true;

  constructor() {
    super();
    this.port.onmessage = () => {
      this.#on = false;
      this.port.postMessage(null);
    };
  }

  process([input]) {
    if (this.#on && input.length > 0) {
      const block = input[0].slice();
      this.port.postMessage(block, [block.buffer]);
    }
    return this.#on;
  }
}

registerProcessor("capture", Capture);
