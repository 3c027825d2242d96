import { dist } from '../lib/fleet.mjs';

const { reply, lastToolResults, startMessagesServer } = await import(new URL('testing/index.js', dist));

const TOOL_MS = 1_000;
const CLEANUP_MS = 120;
const FAIL_MS = 50;
const MOMENT_MS = 100;
/** Longer than any tool takes. */
const SETTLE_MS = 1_500;

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** By kind, see kinds.mjs. */
const bodies = {
  coop: (signal) => stoppable(signal, (stop) => stop()),
  cleanup: (signal) => stoppable(signal, (stop) => setTimeout(stop, CLEANUP_MS)),
  deaf: () => sleep(TOOL_MS),
};

function stoppable(signal, onAbort) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, TOOL_MS);
    const told = () => {
      clearTimeout(timer);
      onAbort(() => reject(signal.reason));
    };
    if (signal?.aborted) told();
    else signal?.addEventListener('abort', told);
  });
}

/** Five calls of one kind, who watches them, and a model that asks for them. */
export class Job {
  running = 0;
  started = 0;
  requestsThen = 0;
  controller = new AbortController();

  constructor(scenario, kind) {
    this.scenario = scenario;
    this.kind = kind;
    this.names = [scenario === 'fail' ? 'bad' : 'slow', 'slow', 'slow', 'slow', 'slow'];
    this.underWay = new Promise((resolve) => (this.tellUnderWay = resolve));
  }

  get signal() {
    return this.controller.signal;
  }

  /** The tools by name: functions of a signal. */
  get tools() {
    return {
      slow: (signal) => this.count(() => bodies[this.kind](signal)),
      bad: () =>
        this.count(async () => {
          await sleep(FAIL_MS);
          throw new Error('boom');
        }),
    };
  }

  async count(body) {
    this.running++;
    this.started++;
    this.lastStart = performance.now();
    this.tellUnderWay();
    try {
      await body();
      return 'done';
    } finally {
      this.running--;
      this.lastEnd = performance.now();
    }
  }

  /** 100 ms after the first call began, or, if it never gets so far, after the model began to speak. */
  async moment() {
    if (this.scenario.endsWith('Quiet')) await this.server.when(({ open }) => open === 1);
    else await this.underWay;
    await sleep(MOMENT_MS);
    this.momentAt = performance.now();
  }

  async abortAtMoment() {
    await this.moment();
    this.controller.abort(new Error('the caller has had enough'));
  }

  /** A model that wants the five tools, then says "done"; or one that falls silent after its first words. */
  async open({ eventMs = 0 } = {}) {
    this.server = await startMessagesServer({
      script: (request) => {
        if (this.scenario.endsWith('Quiet')) return reply.text('never said', { fault: { kind: 'stall', after: 2 } });
        if (lastToolResults(request).length > 0) return reply.text('done');
        return reply.toolUse(
          this.names.map((name) => ({ name, input: {} })),
          { pace: { eventMs } },
        );
      },
    });
    this.url = this.server.url;
  }

  /** Control is back with the caller. What runs now is an orphan. Peers get the rest of this turn of the event loop. */
  async controlIsBack({ strict = false } = {}) {
    this.controlAt = performance.now();
    if (!strict) await turn();
    this.orphans = this.running;
    this.startedThen = this.started;
    this.requestsThen = this.server?.stats().requests ?? 0;
  }

  async close() {
    await sleep(SETTLE_MS);
    const { stats, requests } = this.server ?? {};
    const { controlAt, momentAt, orphans, started, startedThen } = this;
    const closedAt = requests?.[0]?.closedByClientAt;
    const found = {
      orphans,
      started: startedThen,
      startedLater: started - startedThen,
      orphanMs: orphans > 0 ? this.lastEnd - controlAt : 0,
      waitedMs: controlAt - (momentAt ?? this.lastStart + FAIL_MS),
      moreRequests: this.server ? stats.call(this.server).requests - this.requestsThen : 0,
      closedMs: closedAt === undefined || momentAt === undefined ? undefined : closedAt - momentAt,
      openRequests: this.server ? stats.call(this.server).open : 0,
    };
    await this.server?.close();
    return found;
  }
}
