// Live progress in a browser: every event once and in order, across lost connections and restarted servers.
//
//   import { Progress } from "/static/progress.js";
//   const progress = new Progress({ workflowId: "sales-report", onFrame: console.log });
//   progress.close();
//
// It knows no more than the protocol says (docs/progress.asyncapi.json). A page of this server sends its session by
// itself; another page hands in `ticket`, a function that gives a promise of a ticket of `POST /progress/ticket`.

const FINAL = { 4400: "refused", 4403: "no longer permitted", 4404: "not found" }; // close codes after which to stop
const END = /^execution\.(completed|failed|timed_out|cancelled)$/;
const FIRST_WAIT_MS = 500;
const MOST_WAIT_MS = 30000;

export class Progress {
  // Without `workflowId` it tells of all that the caller may read, and after a lost connection how all of that is now.
  // `onState(state, text)` tells of the connection: "live", "waiting", "closed", or "login" where the session ended.
  // An event that is not the next is given to nobody: `onGap(expected, got)`, and the connection begins anew.
  constructor({ workflowId, since = null, url = "/progress/ws", coalesce = false, ticket, onFrame, onState, onGap }) {
    Object.assign(this, { workflowId, since, url, coalesce, ticket, onFrame });
    this.onState = onState ?? (() => {});
    this.onGap = onGap ?? (() => {});
    this.execution = null; // the one that is followed
    this.cursors = new Map(); // execution → the `seq` of its last event that was given out
    this.connections = 0;
    this.seen = 0; // events that were given out
    this.failures = 0;
    this.live = false;
    this.over = false;
    this.connect();
  }

  close() {
    this.over = true;
    clearTimeout(this.timer);
    this.socket?.close(1000);
  }

  async connect() {
    try {
      const url = new URL(this.url, location.href);
      url.protocol = url.protocol.replace("http", "ws");
      const id = this.execution ?? this.workflowId;
      const since = this.execution ? this.cursors.get(this.execution) : this.since;
      if (id) url.searchParams.set("workflow_id", id);
      if (id && Number.isFinite(since)) url.searchParams.set("since", String(since));
      if (this.coalesce) url.searchParams.set("coalesce", "true");
      this.resumed = Boolean(id) && Number.isFinite(since); // then events after that follow its snapshot
      if (this.ticket) url.searchParams.set("ticket", await this.ticket());
      if (this.over) return;
      this.asked = id;
      this.socket = new WebSocket(url);
    } catch {
      return this.again();
    }
    this.connections += 1;
    const socket = this.socket;
    socket.onmessage = ({ data }) => socket === this.socket && this.told(JSON.parse(data));
    socket.onclose = ({ code }) => socket === this.socket && this.closed(code);
  }

  told(frame) {
    if (this.over || frame.type === "error") return; // the close that follows says whether to come again
    if (!this.live) this.onState("live", "live");
    this.live = true;
    this.failures = 0;
    if (frame.type === "snapshot" && frame.execution_id) this.begin(frame);
    if (frame.type === "event" && !this.isNext(frame)) return this.startOver();
    this.onFrame(frame);
    if (END.test(frame.event) && frame.execution_id === this.execution) this.turnToTheNewest();
  }

  begin({ execution_id: execution, seq }) {
    if (this.workflowId) this.execution = execution;
    const known = this.cursors.get(execution) ?? this.since;
    const standsForEvents = this.coalesce && !this.resumed;
    this.resumed = false;
    if (standsForEvents || !Number.isFinite(known)) this.cursors.set(execution, seq);
    else this.cursors.set(execution, Math.min(known, seq));
    this.since = null;
  }

  isNext({ execution_id: execution, seq }) {
    const last = this.cursors.get(execution);
    if (Number.isFinite(last) && seq !== last + 1) {
      this.onGap(last + 1, seq);
      return false;
    }
    this.cursors.set(execution, seq);
    this.seen += 1;
    return true;
  }

  startOver() {
    const socket = this.socket;
    this.socket = null;
    socket.close(1000);
    this.live = false;
    if (!this.workflowId) this.cursors.clear();
    this.again();
  }

  // Only who asked by the workflow's id is told of a newer execution; after a reconnect it was asked by the execution's.
  turnToTheNewest() {
    if (this.asked !== this.execution || this.asked === this.workflowId) return;
    this.asked = this.workflowId;
    this.socket.send(JSON.stringify({ type: "subscribe", workflow_id: this.workflowId }));
  }

  closed(code) {
    this.live = false;
    if (this.over) return;
    if (code === 4401) return this.onState("login", "logged out");
    if (FINAL[code]) return this.onState("closed", FINAL[code]);
    if (!this.workflowId) this.cursors.clear(); // what began and ended meanwhile is not known here
    this.again();
  }

  again() {
    const wait = Math.min(MOST_WAIT_MS, FIRST_WAIT_MS * 2 ** this.failures) * (0.75 + Math.random() / 2);
    this.failures += 1;
    this.onState("waiting", `not connected, again in ${Math.ceil(wait / 1000)} s`);
    this.timer = setTimeout(() => this.connect(), wait);
  }
}
