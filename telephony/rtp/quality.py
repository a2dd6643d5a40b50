"""What a call's media was worth, as RFC 3611 §4.7 reports it."""

from __future__ import annotations

from ringtrue.streaming.ports import FRAME_MS, LegStats
from ringtrue.telephony.rtp.e_model import opinion_score, rating
from ringtrue.telephony.rtp.receiver import RtpReceiver


def note_quality(stats: LegStats, receiver: RtpReceiver) -> None:
    """Put losses, how they cluster and the E-model's estimates into ``stats.extra``.

    ``stats.round_trip_ms`` must be up to date; an unknown one counts as none.
    """
    extra, clustering = stats.extra, receiver.bursts.clustering()
    # half the way there and back, one packet's length, and what the buffer holds
    delay = (stats.round_trip_ms or 0.0) / 2000 + FRAME_MS / 1000 + receiver.buffer.target
    listening = rating(clustering.loss, clustering.burst_ratio, 0.0)
    talking = rating(clustering.loss, clustering.burst_ratio, delay)
    extra["loss_and_late"] = clustering.loss
    extra["burst_density"] = clustering.burst_density
    extra["gap_density"] = clustering.gap_density
    extra["burst_ms"] = clustering.burst_packets * FRAME_MS
    extra["gap_ms"] = clustering.gap_packets * FRAME_MS
    extra["r_factor"] = talking
    extra["mos_listening"] = opinion_score(listening)
    extra["mos_conversational"] = opinion_score(talking)
