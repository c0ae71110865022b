// Keeps a page true while it is open: bars and statuses follow the progress socket, regions marked `data-refresh` are
// fetched anew when something began or ended, and all the while no socket answers.

import { Progress } from "../progress.js";

const main = document.querySelector("main");
const pill = document.querySelector("[data-connection]");
const TERMINAL = new Set(["completed", "failed", "timed_out", "cancelled", "skipped"]);
const QUIET = new Set(["task.progress"]); // events that change nothing but bars
const TOLD = new Set(["snapshot", "event", "execution"]); // frames that tell of executions
const REFRESH_MS = 1500; // at most one fetch in this time

const pollMs = Number(main.dataset.poll || 0) * 1000;
const skew = { ms: 0 }; // the server's clock minus ours
let live = false;
let ended = false;
let seq = Number(main.dataset.seq ?? -1);

// --- what is on the page -----------------------------------------------------------------------------------------

const words = (status) => status.replaceAll("_", " ");

function show(within, { status, percent, message }) {
  const badge = within.querySelector(".status");
  const bar = within.querySelector("progress");
  const said = within.querySelector(".message");
  if (within.tagName === "g" && status) within.dataset.status = status;
  if (badge && status && badge.dataset.status !== status) {
    badge.dataset.status = status;
    badge.textContent = words(status);
  }
  if (bar && status) bar.dataset.status = status;
  if (bar && Number.isFinite(percent)) {
    bar.value = percent;
    bar.parentElement.querySelector(".percent").textContent = `${Math.round(percent)} %`;
  }
  if (said && status === "completed") said.textContent = "";
  else if (said && message) said.textContent = message;
}

function showStep(id, state) {
  for (const row of main.querySelectorAll(`[data-step="${CSS.escape(id)}"]`)) {
    show(row, { status: state.status, percent: state.percent_complete, message: state.message });
  }
}

function showExecution(id, state) {
  const one = main.dataset.execution === id;
  const where = one ? document.getElementById("state") : main.querySelector(`tr[data-execution="${CSS.escape(id)}"]`);
  if (where) show(where, state);
  if (one && TERMINAL.has(state.status)) ended = true;
  return Boolean(where);
}

function apply(frame) {
  if (frame.executions) return frame.executions.forEach((one) => apply({ ...one, type: "snapshot" }));
  const id = frame.execution_id;
  if (!id) return;
  const here = main.dataset.execution === id;
  const missed = frame.type === "snapshot" && here && frame.seq > seq;
  if (here && Number.isFinite(frame.seq)) {
    if (frame.type === "event" && frame.seq <= seq) return;
    seq = frame.seq;
  }
  const percent = frame.overall_percent ?? (frame.step_id ? undefined : frame.percent_complete);
  const state = { percent, status: frame.step_id ? undefined : frame.status, message: frame.step_id ? "" : frame.message };
  const known = showExecution(id, state);
  if (frame.step_id && here) showStep(frame.step_id, frame);
  if (here) for (const [step, one] of Object.entries(frame.steps ?? {})) showStep(step, one);
  // A step that says how far it is may have written to its log: where that is shown, look.
  if (here && QUIET.has(frame.event) && document.getElementById("log")) return refresh();
  if (frame.type === "snapshot" ? !known || missed || ended : !known || !QUIET.has(frame.event)) refresh();
}

// --- regions fetched anew ------------------------------------------------------------------------------------------

let fetched = 0;
let timer = 0;
let fetching = false;
let outdated = false; // what is being fetched may be older than what was told meanwhile

function refresh() {
  if (fetching) outdated = true;
  else if (!timer) timer = setTimeout(load, Math.max(150, fetched + REFRESH_MS - Date.now()));
}

async function load() {
  timer = 0;
  fetching = true;
  outdated = false;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" }, cache: "no-store" });
    if (answer.redirected) return location.reload(); // the session has ended: the login page is next
    if (!answer.ok) return;
    const date = Date.parse(answer.headers.get("Date") ?? "");
    if (Number.isFinite(date)) skew.ms = date - Date.now();
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    const opened = [...main.querySelectorAll("details[open]")].map((one) => one.id);
    for (const old of main.querySelectorAll("[data-refresh]")) {
      const next = fresh.getElementById(old.id);
      if (next && next.innerHTML !== old.innerHTML && !selects(old)) old.replaceChildren(...next.childNodes);
    }
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    document.title = fresh.title;
    ended = ended || (main.dataset.live !== undefined && !fresh.querySelector("main").dataset.live);
  } catch {
    // no network for the moment: the next poll or event tries again
  } finally {
    fetched = Date.now();
    fetching = false;
    if (outdated) refresh();
  }
}

// Where somebody just selects text to copy, or writes, it is left alone until the next time.
function selects(region) {
  const selection = getSelection();
  const writes = document.activeElement?.matches("input, textarea, select") && region.contains(document.activeElement);
  return writes || (selection && !selection.isCollapsed && region.contains(selection.anchorNode));
}

// --- the socket ----------------------------------------------------------------------------------------------------

function tell(state, text) {
  if (!pill) return;
  pill.hidden = false;
  pill.dataset.state = state;
  pill.textContent = text;
}

function connect() {
  const url = new URL(main.dataset.live, location.href);
  const progress = new Progress({
    url: url.pathname,
    workflowId: url.searchParams.get("workflow_id") ?? undefined,
    onFrame(frame) {
      if (TOLD.has(frame.type)) apply(frame);
      if (!ended) return;
      progress.close();
      live = false;
      tell("ended", "ended");
    },
    onState(state, text) {
      live = state === "live";
      if (state === "login") location.reload();
      else tell(state, text);
    },
  });
}

// --- durations ----------------------------------------------------------------------------------------

function lasting(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor((whole % 3600) / 60))} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

setInterval(() => {
  const now = Date.now() + skew.ms;
  for (const one of main.querySelectorAll("[data-since]")) {
    one.textContent = lasting((now - Date.parse(one.dataset.since)) / 1000);
  }
  for (const one of main.querySelectorAll("[data-until]")) {
    one.textContent = lasting((Date.parse(one.dataset.until) - now) / 1000);
  }
}, 1000);

// --- what may be asked of an execution ---------------------------------------------------------------------------------

async function post(path, body) {
  const headers = { "X-CSRFToken": main.dataset.csrf, Accept: "application/json", "Content-Type": "application/json" };
  const answer = await fetch(path, { method: "POST", headers, body: body ?? "{}" });
  const said = await answer.json().catch(() => ({}));
  return { ok: answer.ok, said, detail: said.detail ?? `refused (${answer.status})` };
}

main.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-post]");
  if (!button || (button.dataset.confirm && !confirm(button.dataset.confirm))) return;
  button.disabled = true;
  const { ok, said, detail } = await post(button.dataset.post, button.dataset.body);
  button.disabled = false;
  if (!ok) tell("closed", detail);
  else if (said.execution_id) return location.assign(`/ui/executions/${encodeURIComponent(said.execution_id)}`);
  refresh();
});

function filledIn(form) {
  let filled = {};
  for (const field of form.querySelectorAll("[data-kind]")) {
    const { kind } = field.dataset;
    if (kind !== "boolean" && field.value === "") continue;
    const value = kind === "boolean" ? field.checked : kind === "text" ? field.value : JSON.parse(field.value);
    if (field.name) filled[field.name] = value;
    else filled = value;
  }
  return filled;
}

main.addEventListener("submit", async (event) => {
  const form = event.target.closest("form[data-decide]");
  if (!form) return;
  event.preventDefault();
  const verb = event.submitter?.value ?? "approve";
  const complaint = form.querySelector("[role=alert]");
  const body = { reason: form.querySelector("[data-reason]").value };
  const complain = (text) => {
    complaint.textContent = text;
    complaint.hidden = false;
  };
  try {
    if (verb === "approve" && form.querySelector("[data-kind]")) body.form = filledIn(form);
  } catch (error) {
    return complain(`This is no JSON: ${error.message}`);
  }
  const { ok, said, detail } = await post(`${form.dataset.decide}/${verb}`, JSON.stringify(body));
  if (!ok) complain([detail, ...(said.errors ?? []).map((one) => `${one.pointer}: ${one.message}`)].join(" · "));
  else form.remove();
  refresh();
});

if (main.dataset.live) connect();
if (pollMs) setInterval(() => !live && !ended && !document.hidden && refresh(), pollMs);
// Counts over time change without an event of ours (24 h pass, workers go): look now and then, though live.
if (pollMs) setInterval(() => live && !ended && !document.hidden && refresh(), 3 * pollMs);
