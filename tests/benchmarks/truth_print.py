"""Tables of what `truth_study.py` measured, as Markdown."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from tumble.recon.records import Trust
from tumble.recon.trust import judge

EVIDENCE = (
    "agreement", "gap", "pose_agreement", "upheld", "second_margin", "branch_margin", "shape", "unseen_share",
    "packing", "mixed_share",
)  # fmt: skip
RIGHT_POSES, RIGHT_ATOMS = 0.9, 0.95  # a map with less is wrong, whatever made it so
KINDS = {  # what was done to a run, and the names of its ways
    "left alone": ("right",),
    "little dose": ("little dose",),
    "a wrong branch forced": (
        "wrong branch in a part", "100 frames on a wrong branch", "150 frames on a wrong branch in both",
        "half on a wrong branch in both",
    ),
    "a mirror branch forced, in half of the frames or less": (
        "half on a mirror branch", "half on a mirror branch in both", "90 frames on a mirror branch in both",
    ),
    "two crystals joined": ("two crystals joined",),
    "turning about one axis": ("turning about one axis",),
    "frames shuffled": ("frames shuffled",),
    "pure noise": ("pure noise",),
}  # fmt: skip

REFUSALS = (
    ("of the atoms only", "atoms of the second map"), ("several sides", "gap to the second-best gauge"),
    ("of the time", "branches tried on the second map"), ("on the pose", "poses of the second map"),
    ("stretch of frames", "branch margin"), ("shapes", "shape"), ("never seen", "directions not seen"),
    ("vacuum", "atoms in the vacuum"), ("hardly", "likelihood"), ("are sure", "frames with a sure pose"),
    ("about their lattice", "scatter about the lattice"), ("no second map", "no second map"),
    ("crystal changes", "the crystal changes"), ("come and go", "atoms that come and go"),
)  # fmt: skip


def _number(value: Any, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def verdict(record: dict[str, Any]) -> Trust:
    """The rule of today on the evidence of that day; an alarm of that day stands, what was not asked speaks for it."""
    kept = {"mixed_share": 0.0} | (record["trust"] or {"trusted": None})
    known = {item.name for item in fields(Trust)}
    trust = Trust(**{name: value for name, value in kept.items() if name in known})
    if trust.agreement is None:  # without a second map there is nothing to judge
        return trust
    alarms = tuple(words for words in trust.reasons if words.startswith("the crystal changes"))
    found = judge(trust)
    return Trust(False, (*alarms, *found.reasons)) if alarms else found


def _trusted(record: dict[str, Any]) -> str:
    found = verdict(record).trusted
    return "not judged" if found is None else "yes" if found else "no"


def is_right(record: dict[str, Any]) -> bool:
    """Whether poses and atoms came out right."""
    return (
        record.get("right_used", 0.0) >= RIGHT_POSES
        and min(record.get("recall", 0.0), record.get("precision", 0.0)) >= RIGHT_ATOMS
    )


def print_table(records: list[dict[str, Any]], names: list[str]) -> None:
    """One line per case, in the order of the study."""
    found = {record["name"]: record for record in records}
    done = [name for name in names if name in found]
    print(f"\n{len(done)} of {len(names)} cases run, commits {', '.join(sorted({r['commit'] for r in records}))}\n")
    print(
        "| case | diameter A | right of used | used | recall | precision | RMSD A | given true poses | trusted "
        "| F1 | gap | same poses | CPU s |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name in done:
        record = found[name]
        trust = record["trust"] or {}
        cells = [
            name.removesuffix("-s0"), _number(record["diameter_A"], 0), _number(record.get("right_used"), 3),
            _number(record.get("used")), _number(record.get("recall"), 3), _number(record.get("precision"), 3),
            _number(record.get("rmsd_A"), 3), _number(record.get("ceiling_A"), 3), _trusted(record),
            _number(trust.get("agreement"), 3), _number(trust.get("gap"), 3), _number(trust.get("pose_agreement")),
            _number(record["cpu_s"], 0),
        ]  # fmt: skip
        print("| " + " | ".join(cells) + " |")
    print("\nWhy not trusted:\n")
    for name in done:
        reasons = verdict(found[name]).reasons
        if reasons:
            print(f"- {name}: {'; '.join(reasons)}")


def print_separation(right: list[dict[str, Any]], wrong: list[dict[str, Any]]) -> None:
    """Least, median and largest of every number of the evidence, of right and of wrong maps."""
    print("\n| number | right: least, median, largest | wrong: least, median, largest |\n|---|---|---|")
    for name in EVIDENCE:
        cells = []
        for part in (right, wrong):
            values = sorted(v for r in part if (v := (r["trust"] or {}).get(name)) is not None)
            picked = (values[0], values[len(values) // 2], values[-1]) if values else ()
            cells.append(", ".join(_number(value) for value in picked))
        print(f"| {name} | {cells[0]} | {cells[1]} |")


def print_totals(records: list[dict[str, Any]]) -> None:
    """Per kind of run: how many, how many maps right by the truth, how many trusted, and how many of the right ones."""
    print("| what was done | runs | map right by the truth | trusted | right and trusted |\n|---|---|---|---|---|")
    for kind, ways in KINDS.items():
        runs = [record for record in records if record["way"] in ways]
        right = [is_right(record) for record in runs]
        yes = [_trusted(record) == "yes" for record in runs]
        both = sum(r and y for r, y in zip(right, yes, strict=True))
        print(f"| {kind} | {len(runs)} | {sum(right)} | {sum(yes)} | {both} |")


def print_trust(records: list[dict[str, Any]]) -> None:
    """Per way: runs, how many came out wrong all the same, how many were trusted; odd and even seeds apart."""
    print(f"\n{len(records)} runs, commits {', '.join(sorted({r['commit'] for r in records}))}\n")
    print_totals(records)
    print()
    print("| way | runs | map right by the truth | no map | trusted | trusted, even seeds | trusted, odd seeds |")
    print("|---|---|---|---|---|---|---|")
    for way in dict.fromkeys(record["way"] for record in records):
        runs = [record for record in records if record["way"] == way]
        cells = [
            way,
            str(len(runs)),
            str(sum(is_right(r) for r in runs)),
            str(sum(r["state"] == "FAILED" for r in runs)),
        ]
        parts = (runs, [r for r in runs if r["seed"] % 2 == 0], [r for r in runs if r["seed"] % 2])
        cells += [f"{sum(_trusted(r) == 'yes' for r in part)} of {len(part)}" for part in parts]
        print("| " + " | ".join(cells) + " |")
    print("\nWhat refused how many runs:\n")
    refused = [record for record in records if _trusted(record) == "no"]
    for word, meaning in REFUSALS:
        count = sum(any(word in reason for reason in verdict(record).reasons) for record in refused)
        print(f"- {meaning}: {count}")
    right = [record for record in records if is_right(record)]
    wrong = [record for record in records if not is_right(record)]
    for words, part in (("right", right), ("wrong", wrong)):
        yes = sum(_trusted(record) == "yes" for record in part)
        print(f"\nOf {len(part)} maps that are {words} by the truth {yes} were trusted.")
    print_separation(right, wrong)
