"""Who answered a call we placed: a person or a machine, judged while the agent already speaks."""
