"""A plain Pipecat application, as its guides show it: ``python pipecat_app.py PORT LLM_URL``.

Twilio Media Streams at ``/ws`` (FastAPIWebsocketTransport and TwilioFrameSerializer), WebRTC at
``/api/offer`` (SmallWebRTCTransport); silero VAD, the default turn strategies (smart-turn v3).
"""

from __future__ import annotations

import json
import sys
from typing import Any

import uvicorn
from fastapi import BackgroundTasks, FastAPI, WebSocket
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import LLMRunFrame
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.transports.base_transport import BaseTransport, TransportParams
from pipecat.transports.smallwebrtc.connection import SmallWebRTCConnection
from pipecat.transports.smallwebrtc.transport import SmallWebRTCTransport
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner
from pipecat_standins import StandInSTT, StandInTTS

app = FastAPI()


async def converse(transport: BaseTransport, rate: int) -> None:
    """One call."""
    settings = OpenAILLMService.Settings(
        model="fixed", system_instruction="You are a helpful receptionist."
    )
    llm = OpenAILLMService(api_key="none", base_url=app.state.llm_url, settings=settings)
    context = LLMContext()
    pair = LLMContextAggregatorPair(
        context, user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer())
    )
    pipeline = Pipeline(
        [
            transport.input(),
            StandInSTT(),
            pair.user(),
            llm,
            StandInTTS(),
            transport.output(),
            pair.assistant(),
        ]
    )
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(audio_in_sample_rate=rate, audio_out_sample_rate=rate),
    )

    @transport.event_handler("on_client_connected")  # type: ignore[untyped-decorator]
    async def connected(*_: Any) -> None:
        await worker.queue_frames([LLMRunFrame()])

    @transport.event_handler("on_client_disconnected")  # type: ignore[untyped-decorator]
    async def disconnected(*_: Any) -> None:
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()


@app.websocket("/ws")
async def twilio(websocket: WebSocket) -> None:
    """A Media Streams connection."""
    await websocket.accept()
    messages = websocket.iter_text()
    await anext(messages)
    start = json.loads(await anext(messages))["start"]
    serializer = TwilioFrameSerializer(
        stream_sid=start["streamSid"],
        call_sid=start["callSid"],
        params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
    )
    transport = FastAPIWebsocketTransport(
        websocket,
        FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            serializer=serializer,
        ),
    )
    await converse(transport, 8000)


@app.post("/api/offer")
async def offer(body: dict[str, Any], background: BackgroundTasks) -> dict[str, Any]:
    """A WebRTC offer."""
    connection = SmallWebRTCConnection()
    await connection.initialize(sdp=body["sdp"], type=body["type"])
    transport = SmallWebRTCTransport(
        webrtc_connection=connection,
        params=TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    )
    background.add_task(converse, transport, 16000)
    answer: dict[str, Any] = connection.get_answer()
    return answer


def main() -> None:
    """Serve until terminated."""
    app.state.llm_url = sys.argv[2]
    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")


if __name__ == "__main__":
    main()
