"""A plain FastRTC application: ``python fastrtc_app.py PORT LLM_URL``.

``Stream(ReplyOnPause(...))`` mounted on FastAPI: Twilio Media Streams at ``/telephone/handler``,
WebRTC at ``/webrtc/offer``. FastRTC would fetch its silero network from a hub; it is given the
one that Pipecat ships instead, behind the protocol it has for that.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from importlib.resources import files
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import uvicorn
from fastapi import FastAPI
from fastrtc import AlgoOptions, ReplyOnPause, Stream
from openai import OpenAI
from standins import (
    CHUNK_SECONDS,
    RECOGNIZER_SECONDS,
    SYNTHESIZER_SECONDS,
    TRANSCRIPT,
    begin_utterance,
    tone,
)

RATE = 8000
WINDOW = 512


class Silero:
    """Seconds of speech in a chunk, by silero at 16 kHz (FastRTC's ``PauseDetectionModel``)."""

    def __init__(self) -> None:
        """Load the network."""
        options = onnxruntime.SessionOptions()
        options.inter_op_num_threads = options.intra_op_num_threads = 1
        path = files("pipecat.audio.vad.data") / "silero_vad.onnx"
        self._session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def warmup(self) -> None:
        """Nothing to warm."""

    def vad(
        self, audio: tuple[int, npt.NDArray[Any]], options: Any
    ) -> tuple[float, list[dict[str, int]]]:
        """Seconds of speech in ``audio``."""
        rate, samples = audio
        signal = np.squeeze(samples)
        if signal.dtype == np.int16:
            signal = signal.astype(np.float32) / 32768
        if rate != 16000:
            positions = np.arange(0, len(signal), rate / 16000)
            signal = np.interp(positions, np.arange(len(signal)), signal).astype(np.float32)
        state = np.zeros((2, 1, 128), np.float32)
        context = np.zeros(64, np.float32)
        spoken = 0
        for start in range(0, len(signal) - WINDOW + 1, WINDOW):
            window = signal[start : start + WINDOW].astype(np.float32)
            feed = {
                "input": np.concatenate([context, window])[None],
                "state": state,
                "sr": np.array(16000, np.int64),
            }
            probability, state = self._session.run(None, feed)
            context = window[-64:]
            spoken += float(probability[0, 0]) > 0.5
        return spoken * WINDOW / 16000, []


def application(llm_url: str) -> FastAPI:
    """The application, with ``llm_url`` as its language model."""
    llm = OpenAI(api_key="none", base_url=llm_url)

    def speak(text: str) -> Iterator[tuple[int, npt.NDArray[np.int16]]]:
        number, samples = begin_utterance(text)
        time.sleep(SYNTHESIZER_SECONDS)
        chunk = round(CHUNK_SECONDS * RATE)
        for start in range(0, samples, chunk):
            yield RATE, tone(number, start, min(chunk, samples - start), RATE)[None]

    def reply(audio: tuple[int, npt.NDArray[np.int16]]) -> Iterator[Any]:
        time.sleep(RECOGNIZER_SECONDS)
        messages: Any = [{"role": "user", "content": TRANSCRIPT}]
        sentence = ""
        for chunk in llm.chat.completions.create(model="fixed", messages=messages, stream=True):
            sentence += (chunk.choices[0].delta.content or "") if chunk.choices else ""
            if sentence.rstrip().endswith((".", "?", "!")):
                yield from speak(sentence)
                sentence = ""
        if sentence.strip():
            yield from speak(sentence)

    handler = ReplyOnPause(
        reply,
        algo_options=AlgoOptions(),
        model=Silero(),  # type: ignore[arg-type]
        output_sample_rate=RATE,
        input_sample_rate=16000,
    )
    stream = Stream(handler, modality="audio", mode="send-receive", concurrency_limit=1000)
    app = FastAPI()
    stream.mount(app)
    return app


def main() -> None:
    """Serve until terminated."""
    app = application(sys.argv[2])
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
