// Shows how loud the microphone is, so that nobody talks into a dead one unawares.

const FLOOR_DB = -60;

export class Meter {
  #bar;
  #element;
  #context = null;
  #frame = 0;

  constructor(element) {
    this.#element = element;
    this.#bar = element.firstElementChild;
  }

  start(stream) {
    this.stop();
    this.#context = new AudioContext();
    const analyser = this.#context.createAnalyser();
    analyser.fftSize = 1024;
    this.#context.createMediaStreamSource(stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const draw = () => {
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, value) => sum + value * value, 0) / samples.length;
      const decibels = 10 * Math.log10(power + 1e-10);
      this.#show(Math.min(1, Math.max(0, 1 - decibels / FLOOR_DB)));
      this.#frame = requestAnimationFrame(draw);
    };
    draw();
  }

  stop() {
    cancelAnimationFrame(this.#frame);
    this.#context?.close();
    this.#context = null;
    this.#show(0);
  }

  #show(level) {
    this.#bar.style.transform = `scaleX(${level.toFixed(3)})`;
    this.#element.setAttribute("aria-valuenow", String(Math.round(100 * level)));
  }
}
