"""What the agent says: the embedded dialogue, OpenAI-compatible models, and their deadlines."""
