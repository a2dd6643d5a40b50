"""Calls from browsers: WebRTC by aiortc, its datagrams guarded, its tracks fed by the gate only."""
