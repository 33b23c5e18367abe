"""Snapshots to eyes: the terminal dashboard."""
