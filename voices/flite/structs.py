"""C structures of Flite 2.2, as its public headers declare them.

Only what is read from Python is spelled out; everything else is an untyped pointer. The layout
is checked against the loaded library by :mod:`ringtrue.voices.flite.library`.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_char_p, c_float, c_int, c_void_p


class Track(Structure):
    """``cst_track`` (cst_track.h): ``num_frames`` rows of ``num_channels`` floats."""

    _fields_ = (
        ("type", c_char_p),
        ("num_frames", c_int),
        ("num_channels", c_int),
        ("times", c_void_p),
        ("frames", c_void_p),
    )


class Utterance(Structure):
    """``cst_utterance`` (cst_utterance.h)."""

    _fields_ = (
        ("features", c_void_p),
        ("ffunctions", c_void_p),
        ("relations", c_void_p),
        ("ctx", c_void_p),
    )


class Voice(Structure):
    """``cst_voice`` (cst_voice.h)."""

    _fields_ = (
        ("name", c_char_p),
        ("features", c_void_p),
        ("ffunctions", c_void_p),
        ("utt_init", c_void_p),
    )


class AudioStreamingInfo(Structure):
    """``cst_audio_streaming_info`` (cst_audio.h)."""

    _fields_ = (
        ("min_buffsize", c_int),
        ("asc", c_void_p),
        ("utt", c_void_p),
        ("item", c_void_p),
        ("userdata", c_void_p),
    )


class ClustergenDb(Structure):
    """``cst_cg_db`` (cst_cg.h), up to ``gain``."""

    _fields_ = (
        ("name", c_char_p),
        ("types", c_void_p),
        ("num_types", c_int),
        ("sample_rate", c_int),
        ("f0_mean", c_float),
        ("f0_stddev", c_float),
        ("num_f0_models", c_int),
        ("f0_trees", c_void_p),
        ("num_param_models", c_int),
        ("param_trees", c_void_p),
        ("spamf0_accent_tree", c_void_p),
        ("spamf0_phrase_tree", c_void_p),
        ("num_channels", c_void_p),
        ("num_frames", c_void_p),
        ("model_vectors", c_void_p),
        ("num_channels_spamf0_accent", c_int),
        ("num_frames_spamf0_accent", c_int),
        ("spamf0_accent_vectors", c_void_p),
        ("model_min", c_void_p),
        ("model_range", c_void_p),
        ("qtable", c_void_p),
        ("model_shape", c_int),
        ("frame_advance", c_float),
        ("num_dur_models", c_int),
        ("dur_stats", c_void_p),
        ("dur_cart", c_void_p),
        ("phone_states", c_void_p),
        ("do_mlpg", c_int),
        ("dynwin", c_void_p),
        ("dynwinsize", c_int),
        ("mlsa_alpha", c_float),
        ("mlsa_beta", c_float),
        ("multimodel", c_int),
        ("mixed_excitation", c_int),
        ("ME_num", c_int),
        ("ME_order", c_int),
        ("me_h", c_void_p),
        ("spamf0", c_int),
        ("gain", c_float),
    )


TrackPointer = POINTER(Track)
UtterancePointer = POINTER(Utterance)
VoicePointer = POINTER(Voice)
AudioStreamingInfoPointer = POINTER(AudioStreamingInfo)
ClustergenDbPointer = POINTER(ClustergenDb)

POINTER_SIZE = ctypes.sizeof(c_void_p)
