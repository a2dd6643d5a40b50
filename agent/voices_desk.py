"""The desk that the command line and the HTTP interface enrol at."""

from __future__ import annotations

from ringtrue.agent.enrolments import Desk
from ringtrue.voices.enrolment.desk import EnrolmentDesk
from ringtrue.voices.library import VoiceLibrary


def enrolment_desk(library: VoiceLibrary) -> Desk:
    """A desk that enrols into ``library`` with every check there is."""
    return EnrolmentDesk(library, marks=library.config.marks.detection)
