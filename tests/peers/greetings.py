"""What an agent says first, as its voice renders it."""

from __future__ import annotations

import numpy as np

from ringtrue.config.agent_schema import Agent
from ringtrue.streaming.phrases import PhraseSplitter, spoken_text
from ringtrue.voices.stock import FliteEngine


async def rendered_greetings(agent: Agent, rate: int) -> list[np.ndarray]:
    """The agent's greetings as the engine renders them, phrase by phrase, alone."""
    engine = FliteEngine()
    try:
        await engine.warm()
        renderings = []
        for template in agent.openings():
            greeting = template.format(**agent.variables)
            splitter = PhraseSplitter()
            stream = engine.open(agent.voice, rate)
            for phrase in [*splitter.feed(greeting), *splitter.flush()]:
                stream.feed(spoken_text(phrase))
            stream.finish()
            pcm = b"".join([chunk.pcm async for chunk in stream.frames()])
            renderings.append(np.frombuffer(pcm, np.int16).astype(float) / 32768)
        return renderings
    finally:
        await engine.close()
