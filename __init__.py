"""Tumble: the atoms of a nanocrystal tumbling in liquid, in 3D, while the movie is still being taken."""

__version__ = "0.1.0"
