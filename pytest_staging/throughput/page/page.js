"use strict";
const BASE = "workflows/throughput-policy/";
const EVERY_MS = 2000, LIMIT_MS = 5000;
const at = (id) => document.getElementById(id);
let last = 0;

async function ask(path) {
  const token = sessionStorage.getItem("token");
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(BASE + path, { headers, signal: AbortSignal.timeout(LIMIT_MS) });
  if (answer.status === 401) throw new Refused();
  if (!answer.ok) throw new Error(`the API answered ${answer.status}`);
  return answer.json();
}

class Refused extends Error {}

function seconds(value) {
  const whole = Math.ceil(value);
  if (whole < 120) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 120 ? `${minutes} min ${whole % 60} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

function fill(id, rows) {
  const table = at(id);
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  table.tBodies[0].replaceChildren(...rows.map((row) => {
    const line = document.createElement("tr");
    row.forEach(({ text, kind }, index) => {
      const cell = document.createElement("td");
      // Never as markup: names and reasons were written by somebody.
      cell.textContent = text;
      cell.dataset.label = labels[index];
      if (kind) cell.className = kind;
      line.append(cell);
    });
    return line;
  }));
}

const plain = (value) => ({ text: value === null || value === undefined ? "–" : String(value) });

function show(status, override, trail) {
  const kind = status.fail_safe ? "critical" : status.policy_active ? "warning" : "normal";
  at("state").className = kind;
  at("state").textContent = status.fail_safe ? "Fail-safe: conservative"
    : override.active ? `Override: ${override.preset}`
    : status.policy_active ? `Policy active: ${status.active_preset}` : "No policy is active";
  at("why").textContent = status.fail_safe_reason || (status.class_states[0] || {}).reason || "";
  at("active").textContent = status.policy_active ? status.active_preset : "none";
  at("requested").textContent = status.requested_preset;
  at("pressure").textContent = status.queue_pressure_level;
  at("pressure").className = status.queue_pressure_level;
  at("sustained").textContent = `${seconds(status.sustained_seconds)} of ${seconds(status.sustained_seconds_required)}`;
  at("cooldown").textContent = seconds(status.cooldown_remaining_seconds);
  at("override").textContent = override.active
    ? `${override.preset}, ${seconds(override.remaining_seconds)} left, by ${override.who}` : "none";
  fill("classes", status.class_states.map((one) => [plain(one.class_name), plain(one.active_parallelism),
    plain(one.minimum_floor), { text: one.deferred_admission ? "deferred" : "open", kind: one.deferred_admission ? "warning" : "normal" },
    plain(one.reason)]));
  fill("queues", status.queue_states.map((one) => [plain(one.queue), plain(one.queued_messages),
    plain(one.warning_threshold), plain(one.critical_threshold), { text: one.severity, kind: one.severity }]));
  fill("audit", trail.entries.map((one) => [plain(one.at), plain(one.who), plain(one.what), plain(one.preset),
    plain(one.ttl_s ? seconds(one.ttl_s) : null), plain(one.reason)]));
}

async function refresh() {
  try {
    const [status, override, trail] = await Promise.all([ask("status"), ask("override"), ask("audit?limit=20")]);
    show(status, override, trail);
    last = Date.now();
    at("shown").hidden = false;
    at("login").hidden = true;
    at("problem").hidden = true;
  } catch (error) {
    if (error instanceof Refused) {
      at("login").hidden = false;
      at("shown").hidden = true;
      at("login-problem").textContent = sessionStorage.getItem("token") ? "This token is not known." : "";
    } else {
      at("problem").hidden = false;
      at("problem").textContent = `What is shown may be old: ${error.message}`;
    }
  }
  at("fresh").textContent = last ? `as of ${new Date(last).toLocaleTimeString()}` : "not loaded";
  setTimeout(refresh, EVERY_MS);
}

at("login").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("token", at("token").value);
  location.reload();
});
refresh();
