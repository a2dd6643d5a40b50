"""The embedded cloning engine's fit: from 5-30 s of speech to a transform of a Flite voice.

:mod:`.model` is what is kept and applied, and cheap to import; :mod:`.fit` makes it.
"""
