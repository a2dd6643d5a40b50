"""The watermark: keyed chips in the telephone band, made frame by frame, found again anywhere."""
