"""Tables of what `truth_study.py` measured, as Markdown."""

from __future__ import annotations

from typing import Any

RIGHT_POSES, RIGHT_ATOMS = 0.9, 0.95  # a map with less is wrong, whatever made it so


def _number(value: Any, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _trusted(record: dict[str, Any]) -> str:
    trust = record["trust"]
    if trust is None or trust["trusted"] is None:
        return "not judged"
    return "yes" if trust["trusted"] else "no"


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
        reasons = (found[name]["trust"] or {}).get("reasons", ())
        if reasons:
            print(f"- {name}: {'; '.join(reasons)}")


def print_trust(records: list[dict[str, Any]]) -> None:
    """Per way: runs, how many came out wrong all the same, how many were trusted; odd and even seeds apart."""
    print(f"\n{len(records)} runs, commits {', '.join(sorted({r['commit'] for r in records}))}\n")
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
    right = [record for record in records if is_right(record)]
    wrong = [record for record in records if not is_right(record)]
    for words, part in (("right", right), ("wrong", wrong)):
        yes = sum(_trusted(record) == "yes" for record in part)
        print(f"\nOf {len(part)} maps that are {words} by the truth {yes} were trusted.")
