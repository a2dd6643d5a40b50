"""The audit log: what was said in whose voice, by whose leave, so that nobody can rewrite it.

::

    record() → bounded queue → writer thread → segments of hash-chained lines, one Merkle tree
                                             → signed checkpoints → witness

A log is written by one process and read by any. :mod:`~ringtrue.agent.audit.published` checks what
others are shown and depends on nothing of this project.
"""
