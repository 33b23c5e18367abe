"""Lines for the operator as JSON, one object a line, for machines that gather logs."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

_UPTIME = re.compile(r" *(\d+\.\d) s  ")  # how the daemon's own lines begin


def as_json(line: str) -> str:
    """A line of the daemon as a JSON object: time (UTC), uptime_s where it has one, message."""
    match = _UPTIME.match(line)
    record: dict[str, str | float] = {"time": datetime.now(UTC).isoformat(timespec="milliseconds")}
    if match:
        record["uptime_s"] = float(match[1])
    return json.dumps({**record, "message": line[match.end() :] if match else line}, ensure_ascii=False)
