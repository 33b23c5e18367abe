"""Frames to crystals: background, detection, tracking, poses, volumes, metrics, atoms."""
