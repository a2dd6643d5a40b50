"""FARGAN, a small neural vocoder: cepstra, pitch and periodicity in, 16 kHz speech out.

Valin, Mustafa and Buethe, "Very Low Complexity Speech Synthesis Using Framewise Autoregressive GAN
(FARGAN) with Pitch Prediction", IEEE Signal Processing Letters 2024, with the weights of libopus
1.5. :mod:`.features` makes its input of our parameters, :mod:`.network` runs it and
:mod:`.vocoder` stands where :class:`ringtrue.voices.vocoder.Vocoder` does.
"""
