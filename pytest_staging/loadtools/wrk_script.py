"""The Lua script that wrk runs: the benchmark's functions in turn, or the user's own script, then a report."""

from __future__ import annotations

from pathlib import Path

from pytest_staging.model.placing import Place
from pytest_staging.model.ports import LoadRequest

SCRIPT, REPORT = "wrk-script.lua", "wrk-report.json"
SCHEMA = "staging-wrk/1"

WORKLOAD = """\
local functions = {{
{functions}
}}
local requests, sent = {{}}, 0

function init()
  local headers = {{ ["Content-Type"] = "application/json", ["Host"] = wrk.headers["Host"] }}
  for place, one in ipairs(functions) do
    requests[place] = wrk.format("POST", "/invoke/" .. one[1], headers, one[2])
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end
"""

# `latency(i)` gives the i-th distinct value in microseconds, and how often it came.
REPORTING = """\
local users_done = done

function done(summary, latency, requests)
  local pairs_of = {{}}
  for place = 1, #latency do
    local value, times = latency(place)
    pairs_of[place] = string.format("[%.0f,%.0f]", value, times)
  end
  local draft = {report} .. ".tmp"
  local file = assert(io.open(draft, "w"))
  local errors = summary.errors
  assert(file:write(string.format(
    '{{"schema":"{schema}","duration_us":%.0f,"requests":%.0f,'
      .. '"errors":{{"connect":%.0f,"read":%.0f,"write":%.0f,"timeout":%.0f,"status":%.0f}},"histogram":[',
    summary.duration, summary.requests,
    errors.connect, errors.read, errors.write, errors.timeout, errors.status)))
  assert(file:write(table.concat(pairs_of, ","), "]}}\\n"))
  assert(file:close())
  assert(os.rename(draft, {report}))
  if users_done then users_done(summary, latency, requests) end
end
"""


def build_script(request: LoadRequest, place: Place) -> str:
    """Lua. The user's script is run as it stands, and its own `done` is called after ours."""
    if request.script:
        workload = f"dofile({quote(place.there(request.script.resolve()).encode())})\n"
    else:
        bodies = sorted(request.bodies.items())
        lines = [f"  {{ {quote(name.encode())}, {quote(path.read_bytes())} }}," for name, path in bodies]
        workload = WORKLOAD.format(functions="\n".join(lines))
    report = place.there(Path(request.folder / REPORT).resolve())
    return f"{workload}\n{REPORTING.format(report=quote(report.encode()), schema=SCHEMA)}"


def quote(content: bytes) -> str:
    """A Lua string that holds exactly these bytes."""
    plain = {ord('"'): '\\"', ord("\\"): "\\\\", ord("\n"): "\\n"}
    return (
        '"' + "".join(plain.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03d}") for byte in content) + '"'
    )
