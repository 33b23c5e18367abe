"""The acceptance cases of the main job, end to end, and one table of what they gave.

    python tests/benchmarks/acceptance.py --work /tmp/acceptance [--only scene again ...] [--table]

Every case runs the command line as an operator would and looks only at what it printed and at the session folder. Truth
is compared by two scorers beside the checkout, ``../shared/tools/score.py`` and ``pose_error.py``; cases whose data or
scorers are absent are skipped. Figures of a case are kept in ``WORK/<case>.json``, so that cases can be run one by one
and ``--table`` prints them all. The whole set is about an hour on two cores; CPU time is given beside wall time because
only that means something on a machine with other work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import mrcfile
import numpy as np
from measured import Run, run, stretches

ROOT = Path(__file__).resolve().parents[2]
THINNED_DOSE = 25.0
LONG_FRAMES, LONG_BUFFER = 6000, 800
LIBERTEM_FRAMES = 1500
LIBERTEM = """
import sys
from libertem_dectris import DectrisSim
sender = DectrisSim.new_mocked(uri="tcp://127.0.0.1", num_frames=int(sys.argv[1]), dwelltime=2500, random_port=True)
print(sender.get_uri(), flush=True)
sender.send_headers(); sender.send_frames(); sender.send_footer()
sys.stdin.readline()
"""


@dataclass(frozen=True)
class Row:
    """One figure of one case; `ok` is None where there is no target."""

    case: str
    figure: str
    value: str
    target: str = ""
    ok: bool | None = None


class Bench:
    """Where things are, and how a command is run and scored."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.work: Path = arguments.work.resolve()
        self.shared: Path = arguments.shared
        self.nice: int = arguments.nice
        self.threads: int | None = arguments.threads
        self.interop: str = arguments.interop
        self.rows: list[Row] = []
        self.case = ""

    @property
    def scene(self) -> Path:
        return self.shared / "data" / "scene_PQ.h5"

    @property
    def truth(self) -> Path:
        return self.shared / "data" / "truth_PQ.h5"

    def add(self, figure: str, value: object, target: str = "", ok: bool | None = None) -> None:
        words = f"{value:.4g}" if isinstance(value, float) else str(value)
        self.rows.append(Row(self.case, figure, words, target, ok))

    def tumble(self, *words: object, session: Path | None = None) -> Run:
        command = [sys.executable, "-m", "tumble", *map(str, words)]
        if session is not None:
            command += ["--headless", "--overwrite", "--session", str(session)]
            command += ["--threads", str(self.threads)] if self.threads else []
        return run(command, nice=self.nice, session=session)

    def scorer(self, name: str, *words: object) -> dict[str, Any]:
        """Figures of a scorer; empty when it is absent or finds nothing to score."""
        script = self.shared / "tools" / name
        if not script.exists():
            return {}
        out = self.work / f"{self.case}-{name}.json"
        out.unlink(missing_ok=True)
        run([sys.executable, str(script), *map(str, words), "--json", str(out)], nice=self.nice)
        return json.loads(out.read_text()) if out.exists() else {}


def needs(*paths: Path) -> None:
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} is not here")


def books(bench: Bench, done: Run, session: Path, frames: int | None, code: int = 0) -> dict[str, Any]:
    """Rows that every run has: exit code, accounting, time and memory. Returns session.json."""
    facts: dict[str, Any] = json.loads((session / "session.json").read_text())
    line = done.last("received ")
    numbers = [int(n) for n in re.findall(r"(?:received|used|rejected|dropped|in flight) (\d+)", line)]
    adds_up = len(numbers) == 5 and numbers[0] == sum(numbers[1:]) and numbers[4] == 0
    bench.add("exit code", done.code, str(code), done.code == code)
    bench.add("accounting", line, "adds up, in flight 0", adds_up)
    if frames is not None:
        bench.add("frames received", numbers[0] if numbers else "none", str(frames), numbers[:1] == [frames])
    bench.add("wall / CPU time, s", f"{done.wall_s:.0f} / {done.cpu_s:.0f}")
    below = max((sample.children for sample in done.samples), default=0.0)
    bench.add("peak memory, MiB", f"daemon {done.peak_MiB:.0f}, publisher and receiver {below:.0f}")
    return facts


def steps(bench: Bench, session: Path) -> None:
    """Milliseconds by step, from the last line of the timeline."""
    with (session / "timeline.jsonl").open() as file:
        *_, last = file
    snapshot = json.loads(last)
    bench.add("ms per frame", ", ".join(f"{name} {ms:.3g}" for name, ms in snapshot["step_ms"].items()))
    for view in snapshot["particles"]:
        spent = view["ms_per_frame"]
        words = ", ".join(f"{name} {ms:.3g}" for name, ms in spent.items())
        bench.add(f"{view['name']} ms per particle-frame", f"{sum(spent.values()):.3g} ({words})")


def particles(session: Path) -> list[Path]:
    return sorted((session / "particles").glob("P[0-9]*"))


def nearest(folder: Path, truth: Path) -> str:
    """The true particle whose centre is nearest to the first poses."""
    rows = np.genfromtxt(folder / "poses.csv", delimiter=",", names=True, max_rows=50)
    place = np.median(np.column_stack([rows["x_px"], rows["y_px"]]), axis=0)
    frame = rows["frame"].astype(int)
    with h5py.File(truth) as file:
        names = [name for name in file if isinstance(file[name], h5py.Group) and "centres_px" in file[name]]
        away = {n: np.linalg.norm(np.median(file[n]["centres_px"][:][frame], axis=0) - place) for n in names}
    return min(away, key=lambda name: away[name])


def score(bench: Bench, folder: Path, truth: Path, name: str, *, targets: bool = True) -> None:
    """Poses, map and atoms of one particle against the truth; without `targets` they are reported only."""

    def add(figure: str, value: float | None, target: str = "", good: Callable[[float], bool] | None = None) -> None:
        aimed = targets and good is not None
        ok = value is not None and bool(good(value)) if aimed else None
        bench.add(f"{name} {figure}", value, target if aimed else "", ok)

    poses = bench.scorer("pose_error.py", "--truth", truth, "--particle", name, "--poses", folder / "poses.csv")
    if poses:
        add("poses right, of used", poses["right_used"], ">= 0.95", lambda v: v >= 0.95)
        add("poses right, of all", poses["right"])
        add("used", poses["used"], ">= 0.85", lambda v: v >= 0.85)
        add("centre rms, px", poses["centre_rms_px"], "<= 1.5", lambda v: v <= 1.5)
    files = [x for key in ("map.mrc", "atoms.xyz") for x in (f"--{key.split('.')[0]}", folder / key)]
    found = bench.scorer("score.py", "--truth", truth, "--particle", name, *files)
    if not found:
        return
    atoms = found["atoms"]
    add("surface AUC", found["map"]["surface_auc"], ">= 0.98", lambda v: v >= 0.98)
    add("mean FSC to truth", found["map"]["mean_fsc"])
    bench.add(f"{name} atoms", f"{atoms['n']} (truth {found['truth_atoms']})")
    add("recall", atoms["recall"], ">= 0.98", lambda v: v >= 0.98)
    add("precision", atoms["precision"], ">= 0.98", lambda v: v >= 0.98)
    add("RMSD, A", atoms["rmsd_A"], "<= 0.10", lambda v: v <= 0.10)
    measured = json.loads((folder / "summary.json").read_text())["lattice_constant_A"]
    core = found["truth_lattice"]["a_nn"]  # from the atoms with twelve neighbours
    if core and measured:
        add(f"lattice constant, A (true core {core:.4g})", measured, "0.5 %", lambda v: abs(v / core - 1) <= 0.005)
        add("lattice constant of the atoms' core, A", atoms["lattice"]["a_nn"])


def replayed(bench: Bench, movie: Path, speed: str, frames: int | None, *extra: object) -> Path:
    session = bench.work / bench.case
    done = bench.tumble("replay", movie, "--speed", speed, *extra, session=session)
    books(bench, done, session, frames)
    steps(bench, session)
    return session


# ---------------------------------------------------------------- cases


def case_scene(bench: Bench) -> None:
    """The recorded scene: P with targets, the twinned Q for the record."""
    needs(bench.scene, bench.truth)
    session = replayed(bench, bench.scene, "max", 1600)
    found = particles(session)
    bench.add("particles", len(found), "2", len(found) == 2)
    for folder in found:
        name = nearest(folder, bench.truth)
        score(bench, folder, bench.truth, name, targets=name == "P")


def case_again(bench: Bench) -> None:
    """The scene once more at another pace: the same maps, bit by bit."""
    before = bench.work / "scene"
    needs(bench.scene, before)
    session = replayed(bench, bench.scene, "2", 1600)
    for folder in particles(before):
        for name in ("map.mrc", "half1.mrc", "half2.mrc"):
            first, second = (mrcfile.read(base / "particles" / folder.name / name) for base in (before, session))
            same = first.shape == second.shape and first.tobytes() == second.tobytes()
            bench.add(f"{folder.name} {name}", "bitwise equal" if same else "differs", "bitwise equal", same)
        for name in ("atoms.xyz", "poses.csv", "fsc.csv", "coverage.csv", "summary.json"):
            first, second = ((base / "particles" / folder.name / name).read_bytes() for base in (before, session))
            bench.add(f"{folder.name} {name}", "equal" if first == second else "differs", "equal", first == second)


def case_measured(bench: Bench) -> None:
    """A crystal that was measured in liquid, simulated and replayed."""
    structure = bench.shared / "data" / "real" / "snu_pt_stage2.pdb"
    needs(structure)
    movie = bench.work / "measured.h5"
    options = ["--frames", 1600, "--dose", 80, "--rotation", 2.5, "--size", 256, "--seed", 1, "--overwrite"]
    bench.tumble("simulate", movie, "--structure", structure, *options)
    session = replayed(bench, movie, "max", 1600)
    found = particles(session)
    bench.add("particles", len(found), "1", len(found) == 1)
    truth = movie.with_name("measured_truth.h5")
    for folder in found[:1]:
        score(bench, folder, truth, nearest(folder, truth))


def case_foreign(bench: Bench) -> None:
    """A sender that nobody here wrote: libertem-live's DECTRIS simulator, SIMPLON v1."""
    sender = subprocess.Popen(
        [bench.interop, "-c", LIBERTEM, str(LIBERTEM_FRAMES)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert sender.stdout is not None
    try:
        uri = "zmq+" + sender.stdout.readline().strip()
        session = bench.work / bench.case
        done = bench.tumble("run", "--series", "1", "--source", uri, "--pixel-size", "0.358", session=session)
    finally:
        sender.kill()
        sender.wait()
    facts = books(bench, done, session, LIBERTEM_FRAMES)
    with h5py.File(session / "frames.h5") as file:
        kept = len(file["/entry/data/data"])
    bench.add("frames recorded", kept, str(LIBERTEM_FRAMES), kept == LIBERTEM_FRAMES)
    empty(bench, done, facts, session)


def empty(bench: Bench, done: Run, facts: dict[str, Any], session: Path) -> None:
    said = done.last("no particle")
    bench.add("said", said, "no particle", bool(said) and "no particle" in facts["verdict"])
    bench.add("particle folders", len(particles(session)), "0", not particles(session))


def case_empty(bench: Bench) -> None:
    """Background only."""
    movie = bench.work / "empty.h5"
    bench.tumble("simulate", movie, "--no-particles", "--frames", 800, "--seed", 2, "--overwrite")
    session = bench.work / bench.case
    done = bench.tumble("replay", movie, "--speed", "max", session=session)
    empty(bench, done, books(bench, done, session, 800), session)


def case_long(bench: Bench) -> None:
    """Many more frames than are remembered: neither memory nor time per frame grows."""
    movie, settings = bench.work / "long.h5", bench.work / "long.toml"
    recipe = ["--atoms", 201, "--size", 192, "--frames", LONG_FRAMES, "--mode", "linear", "--seed", 3, "--overwrite"]
    bench.tumble("simulate", movie, *recipe)
    settings.write_text(f"[reconstruction]\nbuffer_frames = {LONG_BUFFER}\n")
    session = bench.work / bench.case
    done = bench.tumble("replay", movie, "--speed", "max", "--config", settings, session=session)
    books(bench, done, session, LONG_FRAMES)
    steps(bench, session)
    parts = stretches(done, [int(LONG_FRAMES * share) for share in (0.2, 0.4, 0.6, 0.8, 1.0)])
    for part in parts:
        words = f"{part.cpu_ms:.1f} ms CPU per frame; daemon {part.daemon:.0f} MiB, others {part.children:.0f} MiB"
        bench.add(f"frames {part.first} to {part.last}", words)
    if len(parts) > 1:
        first, last = parts[0], parts[-1]
        bench.add("late / early, CPU", last.cpu_ms / first.cpu_ms, "<= 1.15", last.cpu_ms <= 1.15 * first.cpu_ms)
        bench.add("late / early, memory", last.daemon / first.daemon, "<= 1.05", last.daemon <= 1.05 * first.daemon)
    truth = movie.with_name("long_truth.h5")
    for folder in particles(session)[:1]:
        score(bench, folder, truth, nearest(folder, truth), targets=False)


def case_demo(bench: Bench) -> None:
    """What a newcomer runs first."""
    session = bench.work / bench.case
    done = run(
        [sys.executable, "-m", "tumble", "demo", "--headless", "--overwrite", "--session", str(session)],
        nice=bench.nice,
        session=session,
    )
    books(bench, done, session, 800)
    steps(bench, session)
    first = next((line.strip() for line in done.lines if "first map" in line), "")
    bench.add("first map", first, "under 300 s", bool(first) and float(first.split()[0]) < 300)
    bench.add("end", done.last("DONE"), "a map with atoms", "atoms" in done.last("DONE"))


def case_thinned(bench: Bench) -> None:
    """The scene at 25 instead of 80 electrons per A^2: binomial thinning of its counts."""
    needs(bench.scene, bench.truth)
    movie, random = bench.work / "thinned.h5", np.random.default_rng(25)
    with h5py.File(bench.scene) as full, h5py.File(movie, "w") as thin:
        frames = full["frames"]
        options = {"chunks": (1, *frames.shape[1:]), **hdf5plugin.Bitshuffle()}
        kept = thin.create_dataset("frames", shape=frames.shape, dtype=np.uint16, **options)
        for source, target in ((full, thin), (frames, kept)):
            target.attrs.update({key: value for key, value in source.attrs.items() if "dose" not in key})
            target.attrs["dose_e_per_A2_per_frame"] = THINNED_DOSE
        for index in range(len(frames)):
            kept[index] = random.binomial(frames[index], THINNED_DOSE / 80.0)
    session = replayed(bench, movie, "max", 1600)
    found = particles(session)
    bench.add("particles", len(found))
    for folder in found:
        score(bench, folder, bench.truth, nearest(folder, bench.truth), targets=False)


CASES = ("scene", "again", "measured", "foreign", "empty", "demo", "long", "thinned")


def table(rows: list[Row]) -> str:
    lines = ["| case | figure | value | target | |", "|---|---|---|---|---|"]
    for row in rows:
        mark = {None: "", True: "ok", False: "**no**"}[row.ok]
        lines.append(f"| {row.case} | {row.figure} | {row.value} | {row.target} | {mark} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for sessions, movies and figures")
    parser.add_argument("--shared", type=Path, default=ROOT.parent / "shared", help="data and scorers")
    parser.add_argument("--only", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--table", action="store_true", help="run nothing, print what is known")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--threads", type=int, help="of the reconstruction")
    parser.add_argument(
        "--interop", default=os.environ.get("TUMBLE_INTEROP_PYTHON", sys.executable).split(os.pathsep)[0]
    )
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    bench = Bench(arguments)
    for case in () if arguments.table else arguments.only:
        bench.case, bench.rows = case, []
        try:
            globals()[f"case_{case}"](bench)
        except FileNotFoundError as error:
            bench.add("skipped", error)
        (bench.work / f"{case}.json").write_text(json.dumps([asdict(row) for row in bench.rows], indent=1))
        print(table(bench.rows), flush=True)
    rows = [
        Row(**row)
        for case in CASES
        if (kept := bench.work / f"{case}.json").exists()
        for row in json.loads(kept.read_text())
    ]
    print(table(rows))
    return int(any(row.ok is False for row in rows))


if __name__ == "__main__":
    sys.exit(main())
