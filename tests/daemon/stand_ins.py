"""Stand-ins for the stages: small, quick, with books and delays like the real ones. Programs import them as well."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from tumble.daemon.devices import Found
from tumble.recon.records import (
    Atom,
    NoiseSpectrum,
    Observation,
    ParticleResult,
    ParticleStatus,
    PoseRow,
    TrackedParticle,
)

BOX = 8
LAG = 5


class FakeFrontEnd:
    """Finds one particle in the tenth good frame, holds frames back for five, rejects frames without counts."""

    def __init__(self, height: int, width: int, *, particles: int) -> None:
        self.shape = (height, width)
        self.held: list[tuple[int, float, np.ndarray]] = []
        self.good = 0
        self.wanted = particles
        self.found: tuple[TrackedParticle, ...] = ()

    def step(self, index, time_s, data):
        if not data.any():
            return self._output(rejected=((index, "blank"),))
        self.good += 1
        events = ()
        if self.good == 10 and self.wanted:
            self.found = tuple(TrackedParticle(n + 1, (10.0 + n, 12.0), 20.0, 9.0) for n in range(self.wanted))
            events = ("particle 1 found at (10, 12) px, diameter 20.0 A",)
        self.held.append((index, time_s, data.copy()))
        return self._release(LAG, events)

    def flush(self):
        return self._release(0, ())

    def noise(self, box_px):
        return NoiseSpectrum(np.full((box_px, box_px), self.good, np.float32), self.good)

    def particles(self):
        return self.found

    def _release(self, keep, events):
        observations, analysed = [], []
        while len(self.held) > keep:
            index, time_s, data = self.held.pop(0)
            analysed.append(index)
            for particle in self.found:
                box = data[:BOX, :BOX].astype(np.float32)
                observations.append(Observation(particle.particle, index, time_s, box, (0, 0), (10.0, 12.0), 0.5))
        return self._output(tuple(observations), tuple(analysed), (), events)

    @staticmethod
    def _output(observations=(), analysed=(), rejected=(), events=()):
        return SimpleNamespace(observations=observations, analysed=analysed, rejected=rejected, events=events)


class FakeParticle:
    """Gathers 20 frames, then adds each box to a map, with the background known then; refuses every seventh."""

    def __init__(
        self,
        number: int,
        noise=lambda: None,
        *,
        bootstrap: int = 20,
        fail_at: int | None = None,
        work_s: float = 0.0,
        work_until: str = "",
    ) -> None:
        self.number, self.noise, self.bootstrap, self.fail_at, self.work_s = number, noise, bootstrap, fail_at, work_s
        self.work_until = work_until  # a file that ends a piece of work
        self.waiting: list[Observation] = []
        self.seen = self.used = 0
        self.refused = 0
        self.poses: list[PoseRow] = []
        self.map = np.zeros((BOX, BOX, BOX), np.float32)
        self.state = "COLLECTING"

    def push(self, observation):
        self.seen += 1
        if self.fail_at is not None and self.seen >= self.fail_at:
            raise RuntimeError("deliberate")
        self.waiting.append(observation)

    def work(self):
        if self.state == "COLLECTING" and len(self.waiting) < self.bootstrap:
            return False
        if not self.waiting:
            return False
        self.state = "MAPPING"
        self._use(self.waiting.pop(0))
        return bool(self.waiting)

    def _use(self, observation):
        if self.work_s:
            time.sleep(self.work_s)
        while self.work_until and not Path(self.work_until).exists():
            time.sleep(0.02)
        used = observation.frame % 7 != 0
        self.used += used
        self.refused += not used
        if used:
            noise = self.noise()
            self.map[observation.frame % BOX] += observation.box / (1 + self.used + (noise.boxes if noise else 0))
        row = PoseRow(observation.frame, observation.time_s, (1.0, 0.0, 0.0, 0.0), (10.0, 12.0), 3.0, bool(used))
        self.poses.append(row)

    def finish(self):
        while self.waiting:
            self._use(self.waiting.pop(0))
        self.state = "DONE"

    def status(self):
        mapped = self.used > 0
        return ParticleStatus(
            particle=self.number,
            state=self.state,
            frames_seen=self.seen,
            frames_used=self.used,
            frames_rejected={"seventh": self.refused} if self.refused else {},
            frames_in_flight=len(self.waiting),
            lattice_constant_A=3.92 if mapped else None,
            step_deg=2.0 if mapped else None,
            resolution_A=2.0 - 0.001 * self.used if mapped else None,
            fsc_k=(0.1, 0.2, 0.3) if mapped else (),
            fsc=(1.0, 0.8, float("nan")) if mapped else (),
            coverage=np.arange(12, dtype=np.int32),
            slice_xy=self.map[BOX // 2] if mapped else None,
            atoms=1 if mapped else None,
            ms_per_frame={"work": 0.1},
        )

    def drain_poses(self):
        settled, self.poses = tuple(self.poses[:-30]), self.poses[-30:]
        return settled

    def result(self):
        if not self.used:
            return None
        atoms = (Atom("Pt", (0.0, 1.0, -2.0), 0.9),)
        extra = {"sigma": float("nan"), "array": np.arange(2)}
        return ParticleResult(
            self.status(), self.map.copy(), self.map / 2, self.map / 3, 0.5, atoms, tuple(self.poses), extra
        )


class FakeParts:
    """Makes the stand-ins.

    `devices` GPUs, of which those in `broken` do not work; `crashes` is one whose driver takes the process with it,
    `dies` one that breaks with the first particle that fails. As with CUDA, a process sees those that the environment
    says, and takes the first one.
    """

    def __init__(self, particles=1, devices=0, broken=(), dies=None, crashes=None, **of_particle) -> None:
        self.particles, self.of_particle, self.crashes = particles, of_particle, crashes
        visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        seen = [int(word) for word in visible.split(",")] if visible else range(devices)
        self.seen = [number for number in seen if number < devices]
        self.broken, self.dies = broken, dies

    def device(self):
        if self.seen and self.seen[0] == self.crashes:
            os._exit(7)
        if not self.seen or self.seen[0] in self.broken:
            return Found("cpu", len(self.seen), "no GPU: deliberate")
        return Found("stand-in", len(self.seen))

    def rehearse(self):
        return iter(())

    def rehearse_front_end(self):
        return iter(())

    def recover(self):
        return "deliberately broken" if self.seen and self.seen[0] == self.dies else ""

    def begin(self, start):
        self.start = start

    def front_end(self, height, width, pixel_size_A):
        return FakeFrontEnd(height, width, particles=self.particles)

    def shared(self):
        return {}

    def particle(self, number, pixel_size_A, diameter_A, noise):
        return FakeParticle(number, noise, **(self.of_particle if number == 1 else {}))
