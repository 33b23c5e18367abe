"""Simulated recordings with known truth: `Scene` yields the same events as a detector.

Use `demo_scene` or `scene_from_options` to make one, iterate it to stream it, `write_simulation` to store it.
"""

from .crystal import Crystal, read_structure, wulff_crystal
from .optics import Optics
from .options import SceneOptions
from .presets import demo_scene, scene_from_options
from .scene import Scene
from .truth import read_truth, truth_path, write_truth
from .writer import write_simulation

__all__ = [
    "Crystal",
    "Optics",
    "Scene",
    "SceneOptions",
    "demo_scene",
    "read_structure",
    "read_truth",
    "scene_from_options",
    "truth_path",
    "write_simulation",
    "write_truth",
    "wulff_crystal",
]
