"""The reconstruction of a tilt series: books, states, a map after every tilt, and what it cannot do in words."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial import cKDTree

from tumble.recon.device import cpu
from tumble.recon.records import Observation
from tumble.recon.tilt_field import TiltField
from tumble.recon.tilt_series import LEAST_TILTS, TiltOptions, TiltReconstruction
from tumble.stream.poses import tilted

from .tilting import crystal_A, tilt_images

PIXEL_A = 0.6


def series(angles, **how):
    """Observations of a crystal as the front end makes them."""
    images, _ = tilt_images(crystal_A(), angles, pixel_size_A=PIXEL_A, **how)
    field = TiltField(*images.shape[1:], PIXEL_A, how.get("axis_deg", 90.0))
    for number, (image, angle) in enumerate(zip(images, angles, strict=True)):
        field.place(tilted(angle))
        (seen,) = field.step(number, 0.1 * number, image).observations
        yield seen


def balanced(status):
    return status.frames_seen == status.frames_used + sum(status.frames_rejected.values()) + status.frames_in_flight


def test_a_map_after_every_tilt_and_the_atoms_at_the_end():
    made = TiltReconstruction(1, PIXEL_A, TiltOptions(element="Pt"), cpu())
    angles = np.arange(-72.0, 73.0, 6.0)
    resolutions = []
    for number, seen in enumerate(series(angles, noise=0.2, shape=(40, 40))):
        made.push(seen)
        assert balanced(made.status())
        while made.work():
            pass
        status = made.status()
        assert status.frames_used == number + 1
        assert (made.result() is not None) == (number + 1 >= LEAST_TILTS)
        resolutions.append(status.resolution_A)
    assert status.verdict.word == "CONTINUE"
    assert "next tilt" in status.verdict.reasons[0]
    made.finish()
    status, result = made.status(), made.result()
    assert (status.state, status.verdict.word) == ("DONE", "PLATEAU")
    assert status.resolution_A < 2.5
    assert status.trust.trusted is None
    assert "left-out tilts agree" in status.trust.reasons[0]
    assert status.coverage.sum() == len(angles)
    facts = result.extra["tilts"]
    assert (facts["wedge_deg"], facts["low_deg"], facts["high_deg"]) == (36, -72, 72)
    assert status.tilts["next_deg"] == facts["next_deg"]
    assert abs(facts["next_deg"]) == 78
    assert 1.2 < status.tilts["elongation"] < 1.4
    assert 0 < facts["R"] < facts["R_other_half"] < 1
    assert status.tilts["axis_A"] <= status.tilts["beam_A"]
    found = np.array([atom.position_A for atom in result.atoms])
    distance = cKDTree(found).query(crystal_A())[0]
    assert (distance < 0.6).mean() > 0.9
    assert [row.frame for row in result.poses] == list(range(len(angles)))


def test_the_same_tilts_give_the_same_maps():
    made = [TiltReconstruction(1, PIXEL_A, TiltOptions(), cpu()) for _ in range(2)]
    for each in made:
        for seen in series(np.arange(-30.0, 31.0, 10.0), shape=(40, 40)):
            each.push(seen)
            while each is made[0] and each.work():
                pass
        each.finish()
    np.testing.assert_array_equal(made[0].result().map, made[1].result().map)


@pytest.mark.parametrize(
    ("height", "width", "words"), [(16, 1024, "maps are up to 512 px"), (16, 16, "nothing but zeros")]
)
def test_what_cannot_be_mapped_is_said(height, width, words):
    made = TiltReconstruction(1, PIXEL_A, TiltOptions(), cpu())
    for number in range(LEAST_TILTS):
        box = np.zeros((height, width), np.float32)
        made.push(Observation(1, number, 0.0, box, (0, 0), (0.0, 0.0), 0.0, pose=tilted(float(number))))
        made.work()
    made.finish()
    status = made.status()
    assert (status.state, status.verdict.word, made.result()) == ("FAILED", "PLATEAU", None)
    assert words in status.note
    assert balanced(status)


def test_too_few_tilts_and_frames_without_a_pose():
    made = TiltReconstruction(1, PIXEL_A, TiltOptions(), cpu())
    box = np.ones((16, 16), np.float32)
    made.push(Observation(1, 0, 0.0, box, (0, 0), (0.0, 0.0), 0.0))
    made.push(Observation(1, 1, 0.0, box * np.nan, (0, 0), (0.0, 0.0), 0.0, pose=tilted(1.0)))
    made.push(Observation(1, 2, 0.0, box, (0, 0), (0.0, 0.0), 0.0, pose=tilted(1.0)))
    made.finish()
    status = made.status()
    assert status.note == f"only 1 tilts with a pose, a map needs {LEAST_TILTS}"
    assert status.frames_rejected == {"failed": 1, "no pose": 1, "not finite": 1}


def test_the_field_takes_the_pose_from_frame_table_or_goniometer():
    field = TiltField(20, 30, 0.5, 0.0, box=(4, 2, 20, 16), poses={1: tilted(11.0)}, goniometer_deg=(-5.0, 1.0))
    counts = np.full((20, 30), 7, np.uint16)
    counts[10, 14] = 9
    for index, streamed, angle in ((0, 33.0, 33.0), (1, None, 11.0), (2, None, -3.0)):
        if streamed is not None:
            field.place(tilted(streamed))
        (seen,) = field.step(index, 0.0, counts).observations
        np.testing.assert_allclose(seen.pose, tilted(angle), atol=1e-12)
        assert (seen.corner_px, seen.centre_px, seen.box.shape) == ((4, 2), (14.0, 10.0), (16, 20))
        assert (seen.box.max(), seen.box.min(), seen.box[8, 10]) == (2, 0, 2)  # the border of counts is taken off
    (seen,) = field.step(3, 0.0, counts.astype(np.float32)).observations
    assert seen.box.min() == 7
    assert field.step(4, 0.0, np.full((20, 30), np.nan)).rejected == ((4, "not finite"),)
    deaf = TiltField(20, 30, 0.5, 0.0, streamed=False)
    deaf.place(tilted(1.0))
    assert deaf.step(0, 0.0, counts).rejected == ((0, "no pose"),)
    with pytest.raises(ValueError, match="is not within frames of 30 x 20 px"):
        TiltField(20, 30, 0.5, 0.0, box=(20, 0, 20, 20))
