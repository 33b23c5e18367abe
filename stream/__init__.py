"""Bytes to frames: codecs, sources, publisher, recorder, file readers, simulator."""
