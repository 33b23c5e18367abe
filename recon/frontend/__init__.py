"""Where each crystal is in each frame: detection, tracking, motion, background."""
