"""Composes the rooms into a server: call lifecycle, dialogue, API, console and command line."""

import os

# Before NumPy is loaded: its threads wait for each other by spinning, which for products as small
# as a call's takes a tenth more of the processors, and stalls the loop where these are busy.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
