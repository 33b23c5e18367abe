"""From the records of the reconstruction to what viewers are told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tumble.daemon.particle_files import summary
from tumble.daemon.particles import ParticleEntry, describe, no_status
from tumble.daemon.snapshot import SCHEMA_VERSION, Snapshot, StreamHealth, from_json
from tumble.daemon.views import SLICE_PX, disk_free_MiB, judged, particle_view, verdict
from tumble.recon.records import ParticleStatus, TrackedParticle, Trust, Verdict

GOES_ON = Verdict("CONTINUE", ("it gets better",))


def view_of(status: ParticleStatus):
    return particle_view(ParticleEntry(TrackedParticle(1, (10.0, 12.0), 20.0, 9.0), last=status), 0.5)


def test_slices_are_thinned_together_and_share_one_scale():
    rng = np.random.default_rng(3)
    xy, xz, yz = (rng.random((96, 96)).astype(np.float32) * top for top in (4.0, 2.0, 1.0))
    view = view_of(replace(no_status(1), slice_xy=xy, slice_xz=xz, slice_yz=yz))
    means = []
    for picture in (view.slice_xy, view.slice_xz, view.slice_yz):
        assert len(picture) == len(picture[0]) <= SLICE_PX
        means.append(np.mean([list(row) for row in picture]))
    assert means[0] / means[1] == pytest.approx(2.0, rel=0.05)
    assert means[1] / means[2] == pytest.approx(2.0, rel=0.05)
    assert view.slice_width_A == 48.0


def test_no_map_no_slices():
    view = view_of(no_status(1))
    assert (view.slice_xy, view.slice_xz, view.slice_yz, view.slice_width_A) == ((), (), (), 0.0)


def test_trust_is_passed_on_in_plain_numbers():
    trust = Trust(False, ("two maps disagree",), 900, agreement=0.61, gap=math.nan, used_share=None)
    view = view_of(replace(no_status(1), trust=trust))
    assert view.trusted is False
    assert view.trust_reasons == ("two maps disagree",)
    assert view.trust == {"frames": 900.0, "agreement": 0.61}
    assert view_of(no_status(1)).trusted is None


def test_for_how_many_frames_a_verdict_has_been_said():
    status = replace(no_status(1), frames_seen=900, verdict=replace(GOES_ON, since_frame=650))
    assert view_of(status).verdict_frames == 250
    assert view_of(no_status(1)).verdict_frames is None


def test_the_lattice_that_was_recognised_is_told():
    assert (view_of(no_status(1)).lattice, view_of(no_status(1)).twinned) == ("", False)
    twin = replace(no_status(1), lattice="fcc", twinned=True, lattice_constant_A=3.92)
    assert (view_of(twin).lattice, view_of(twin).twinned) == ("fcc", True)
    assert "twinned fcc lattice constant 3.920 A" in describe(twin)


def test_the_strain_that_was_found_is_told_in_percent():
    assert view_of(no_status(1)).strain_percent == ()
    assert "strain" not in describe(no_status(1))
    strained = replace(no_status(1), lattice_constant_A=3.92, strain_percent=(1.8333, -0.1667, -1.66667))
    assert view_of(strained).strain_percent == (1.833, -0.167, -1.667)
    assert "strained by +1.8, -0.2, -1.7 %" in describe(strained)
    view = view_of(strained)
    snapshot = Snapshot(SCHEMA_VERSION, "0", 1, 0.0, 0.0, "RUNNING", "", StreamHealth(), (view,))
    assert from_json(snapshot.to_json()).particles[0].strain_percent == view.strain_percent
    assert summary(strained, {})["strain_percent"] == [1.8333, -0.1667, -1.66667]


def test_readers_pass_over_fields_that_they_do_not_know():
    text = Snapshot(SCHEMA_VERSION, "0", 1, 0.0, 0.0, "RUNNING", "", StreamHealth()).to_json()
    assert from_json(text[:-1] + ',"later":[1]}').phase == "RUNNING"


def test_a_snapshot_comes_back_as_it_was():
    noise = np.random.default_rng(1).random((70, 70)).astype(np.float32)
    view = view_of(
        replace(no_status(1), slice_xy=noise, slice_xz=noise, slice_yz=noise, trust=Trust(None, ("more frames",)))
    )
    stream = StreamHealth(rejected={"blank": 2}, latency_p50_ms=12.5)
    snapshot = Snapshot(SCHEMA_VERSION, "0", 1, 0.0, 0.0, "RUNNING", "here", stream, (view,), disk_free_MiB=5.5)
    assert from_json(snapshot.to_json()) == snapshot


@pytest.mark.parametrize("picture", ['["0g"]', '["012"]', "[[1, 2]]", "7"])
def test_a_picture_that_is_none_is_refused(picture):
    particle = f'{{"name": "P001", "state": "", "centre_px": [0, 0], "diameter_A": 1, "slice_xz": {picture}}}'
    with pytest.raises(ValueError, match="slice_xz is no picture"):
        from_json(f'{{"version": {SCHEMA_VERSION}, "stream": {{}}, "particles": [{particle}]}}')


def test_free_disk(tmp_path: Path):
    assert disk_free_MiB(tmp_path) > 0
    assert disk_free_MiB(tmp_path / "gone") is None


def test_nobody_is_told_to_go_on_for_what_is_lost_or_excluded():
    followed = ParticleEntry(TrackedParticle(1, (10.0, 12.0), 20.0, 9.0), last=replace(no_status(1), verdict=GOES_ON))
    lost = ParticleEntry(
        TrackedParticle(2, (40.0, 12.0), 20.0, 9.0, state="lost"), last=replace(no_status(2), verdict=GOES_ON)
    )
    out = replace(no_status(3), state="EXCLUDED", verdict=GOES_ON)
    said = verdict([judged(followed), judged(lost), out], 100, final=False)
    assert said == "0 of 2 particles have enough; go on for P001; P002 is lost"
    assert particle_view(lost, 0.5).verdict == "LOST"
    assert particle_view(lost, 0.5).verdict_reasons == ("the track is lost",)
    left = ParticleEntry(TrackedParticle(2, (1.0, 12.0), 20.0, 9.0, state="left"), last=no_status(2))
    assert particle_view(left, 0.5).verdict_reasons == ("it has left the field",)


def test_many_resolutions_are_a_range():
    mapped = [replace(no_status(n), resolution_A=1.0 + 0.01 * n, verdict=GOES_ON) for n in range(1, 6)]
    said = verdict(mapped, 100, final=False)
    assert said == "0 of 5 particles have enough; go on for 5 particles; 5 maps of 1.01 to 1.05 A"
