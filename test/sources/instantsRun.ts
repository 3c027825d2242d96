import Anthropic from '@anthropic-ai/sdk';
import { Subject, takeUntil, VirtualTimeScheduler, type Subscription } from 'rxjs';
import {
  ApprovalGate,
  CircuitBreaker,
  FleetBudget,
  guard,
  KeyedLock,
  RetryGate,
  Semaphore,
  type GateEvent,
  type PriceTable,
  type Scope,
} from 'rxfleet';
import {
  agent,
  conversation,
  modelGuard,
  tool,
  type AgentEvent,
  type MessagesClient,
  type ToolRequest,
  type UsageRecord,
} from 'rxfleet/agents';
import { reply, type MessagesRequest, type MessagesServer, type Reply, type ScriptContext } from 'rxfleet/testing';
import { z } from 'zod';
import { hello, sleep, type MessageParam } from './harness.js';

/** How a run is stopped at its instant. */
export const STOPS = ['unsubscribe', 'abort', 'deadline', 'model breaker', 'tool breaker', 'budget'] as const;
export type Stop = (typeof STOPS)[number];

export const immediate = (): Promise<void> => new Promise((resolve) => void setImmediate(resolve));

/** A dollar for a million tokens of input, five for output. */
const rates = { input: 1_000_000, output: 5_000_000, cacheRead: 100_000, cacheWrite5m: 1_250_000, cacheWrite1h: 2_000_000 };
const prices: PriceTable = { 'claude-test': rates };
const thinking = { type: 'enabled' as const, budget_tokens: 1024 };
const SCRIPTED_ERROR = 529;
const WORKFLOW_MS = 500;
/** What is still open after so long was not closed by the stop. */
const SOCKET_MS = 50;
/** A run that has not ended after so long hangs. */
const HANG_MS = 8_000;

/** Of these the counts are final. `failed` is, as no reply of the script fails in the middle. */
const EXACT: readonly UsageRecord['phase'][] = ['final', 'never-sent', 'failed'];

const textOf = (content: unknown): string => (typeof content === 'string' ? content : JSON.stringify(content));
const call = (id: string, name: string, input: object) => ({ id, name, input });

/** Three turns: eager and unsafe calls that share a file, a request that fails once, an approval, and an answer. */
function scripted(request: MessagesRequest, attempt: number): Reply {
  const turn = (request.messages.length + 1) / 2;
  if (turn === 1) {
    const calls = [
      call('toolu_1a', 'look', { file: 'a' }),
      call('toolu_1b', 'look', { file: 5 }),
      call('toolu_1c', 'write', { file: 'a' }),
      call('toolu_1d', 'look', { file: 'b' }),
    ];
    return reply.toolUse(calls, { thinking: 'what is there?', text: 'Let me look.', pace: { eventMs: 1, chunkChars: 10 } });
  }
  if (turn === 2 && attempt === 2) return reply.error(SCRIPTED_ERROR);
  if (turn === 2) {
    const calls = [
      call('toolu_2a', 'send', { to: 'ann' }),
      call('toolu_2b', 'write', { file: 'a' }),
      call('toolu_2c', 'write', { file: 'a' }),
      call('toolu_2d', 'look', { file: 'a' }),
    ];
    return reply.toolUse(calls, { thinking: 'now tell them', pace: { chunkChars: 10 } });
  }
  return reply.text('That is all.', { pace: { chunkChars: 4 } });
}

const userOf = ({ metadata }: MessagesRequest): string => String(metadata?.user_id);

/** The runs that talk to one server, by their names. */
const runs = new Map<string, Run>();

export async function script(request: MessagesRequest, context: ScriptContext): Promise<Reply> {
  return runs.get(userOf(request))!.answer(request, context);
}

/** One run of the conversation, which notes every instant that it comes by, and is stopped at one of them. */
export class Run {
  /** Every instant, in order, by name. */
  readonly instants: string[] = [];
  readonly complaints: string[] = [];
  readonly records: UsageRecord[] = [];
  private readonly counts = new Map<string, number>();
  private readonly left = new Subject<void>();
  private readonly controller = new AbortController();
  private readonly scheduler = new VirtualTimeScheduler(undefined, WORKFLOW_MS);
  private readonly chat = conversation([hello]);
  private readonly begun = new Set<string>();
  private readonly finished = new Set<string>();
  private readonly approved = new Set<string>();
  private readonly histories = new Map<string, string>();
  private readonly reservations: number[] = [];
  private settled = 0;
  private creates = 0;
  private fetches = 0;
  private answered = 0;
  private open = 0;
  private working = 0;
  private subscription: Subscription | undefined;
  private scope: Scope | undefined;
  private end: { readonly error?: unknown; readonly done?: boolean } | undefined;
  private whenEnded!: () => void;
  private readonly ended: Promise<void> = new Promise((resolve) => (this.whenEnded = resolve));
  private stopped: Promise<void> | undefined;
  private eventsAfter = 0;
  private createsAtStop = 0;

  private readonly budget = new FleetBudget({ name: 'budget', usd: '1', calls: 'unbounded' });
  private readonly modelBreaker = new CircuitBreaker({ name: 'model breaker', failures: 5, scheduler: this.scheduler });
  private readonly modelSemaphore = new Semaphore({ name: 'model semaphore', limit: 1 });
  private readonly retry = new RetryGate({ name: 'retry', baseMs: 1, random: () => 0, jitterMs: 0 });
  private readonly toolBreaker = new CircuitBreaker({ name: 'tool breaker', failures: 5, scheduler: this.scheduler });
  private readonly toolSemaphore = new Semaphore({ name: 'tool semaphore', limit: 2 });
  private readonly lock = new KeyedLock({ name: 'lock' });
  private readonly approvals = new ApprovalGate({ name: 'approvals' });

  constructor(
    readonly name: string,
    private readonly server: MessagesServer,
    private readonly stop: Stop | undefined,
    private readonly at: string | undefined,
    /** How many microtasks after each event are instants of their own. */
    private readonly microtasks: number,
  ) {}

  /** Runs to its end, and tells what was wrong afterwards. */
  async run(): Promise<this> {
    runs.set(this.name, this);
    this.listen();
    this.start();
    try {
      await this.within('end', this.ended);
      const report = await this.within('close', this.scope!.closed);
      await this.stopped;
      if (report !== undefined && report.abandoned.length > 0)
        this.complain(`abandoned ${report.abandoned.map(({ label }) => label).join()}`);
      const unscripted = report?.errors.filter(({ error }) => (error as { status?: unknown }).status !== SCRIPTED_ERROR) ?? [];
      if (this.stop === 'unsubscribe' && unscripted.length > 0)
        this.complain(`errors in the report: ${unscripted.map(({ error }) => String(error)).join()}`);
      await this.checkAfterwards();
    } finally {
      runs.delete(this.name);
    }
    return this;
  }

  get wasStopped(): boolean {
    return this.stopped !== undefined;
  }

  /** How it ended, in a word. */
  get outcome(): string {
    const { end } = this;
    if (end === undefined) return 'left';
    return end.done === true ? 'done' : (end.error as Error).name === 'Error' ? (end.error as Error).message : (end.error as Error).name;
  }

  async answer(request: MessagesRequest, { signal }: ScriptContext): Promise<Reply> {
    this.open++;
    signal.addEventListener('abort', () => this.open--);
    this.point('the server has read a request');
    return scripted(request, ++this.answered);
  }

  private start(): void {
    const source = agent({ ...this.params, thinking, client: this.client(), ...this.gates(), tools: this.tools() });
    this.subscription = source.pipe(takeUntil(this.left)).subscribe({
      next: (event) => this.onEvent(event),
      error: (error: unknown) => this.over({ error }),
      complete: () => this.over({ done: true }),
    });
    this.point('subscribed');
  }

  private get params() {
    return { model: 'claude-test', max_tokens: 2_000, metadata: { user_id: this.name }, messages: this.chat, name: this.name };
  }

  private client(): MessagesClient {
    const count: typeof fetch = (input, init) => {
      this.fetches++;
      this.point('fetch');
      return fetch(input, init);
    };
    const sdk = new Anthropic({ apiKey: 'test', baseURL: this.server.url, maxRetries: 3, logLevel: 'off', fetch: count });
    const create = ((...args: Parameters<typeof sdk.messages.create>) => {
      this.creates++;
      this.point('create');
      return sdk.messages.create(...args);
    }) as typeof sdk.messages.create;
    return { messages: { create } };
  }

  private gates() {
    const { budget, modelBreaker, modelSemaphore, retry, toolBreaker, toolSemaphore, lock, approvals, scheduler } = this;
    return {
      modelGuard: modelGuard({ budget, prices, breaker: modelBreaker, semaphore: modelSemaphore, retry }),
      toolGuard: guard<ToolRequest>({ breaker: toolBreaker, semaphore: toolSemaphore }),
      lock,
      approvals,
      scheduler,
      signal: this.controller.signal,
      timeouts: { workflow: WORKFLOW_MS },
      usage: { next: (record: UsageRecord) => void this.records.push(record) },
      onScope: (scope: Scope) => {
        this.scope = scope;
        this.point('onScope');
      },
    };
  }

  private tools() {
    const file = z.object({ file: z.string() });
    return [
      tool({
        name: 'look',
        description: 'reads a file',
        effect: 'none',
        input: file,
        resources: ({ file: key }) => ({ reads: [key] }),
        run: (_, { id, signal }) => this.work(id, signal),
      }),
      tool({
        name: 'write',
        description: 'writes a file',
        input: file,
        resources: ({ file: key }) => ({ writes: [key] }),
        run: (_, { id, signal }) => this.work(id, signal),
      }),
      tool({
        name: 'send',
        description: 'sends a mail',
        input: z.object({ to: z.string() }),
        needsApproval: true,
        run: (_, { id, signal }) => {
          if (!this.approved.has(id)) this.complain(`${id} ran without an approval`);
          return this.work(id, signal);
        },
      }),
    ];
  }

  /** What a tool does: an instant in every tick, and some of them when it has been told to stop. */
  private async work(id: string, signal: AbortSignal): Promise<string> {
    this.begun.add(id);
    this.working++;
    try {
      this.point(`in ${id}`);
      for (let i = 0; i < 4; i++) {
        await Promise.resolve();
        this.point(`in ${id}: a microtask later`);
      }
      for (let i = 0; i < 2; i++) {
        await immediate();
        this.point(`in ${id}: a macrotask later`);
        if (signal.aborted) await immediate();
        signal.throwIfAborted();
      }
      this.finished.add(id);
      return `${id} is done`;
    } finally {
      this.working--;
    }
  }

  private listen(): void {
    const { budget, modelBreaker, modelSemaphore, retry, toolBreaker, toolSemaphore, lock, approvals } = this;
    for (const gate of [budget, modelBreaker, modelSemaphore, retry, toolBreaker, toolSemaphore, lock, approvals])
      gate.events$.subscribe((event) => this.onGateEvent(event));
  }

  private onGateEvent(event: GateEvent): void {
    if (event.gate === 'budget' && event.type === 'admitted') this.reservations.push(this.budget.snapshot().microUsd.reserved);
    if (event.gate === 'budget' && event.type === 'settled') this.settled++;
    if (event.type === 'approval' && event.outcome === 'asked') setImmediate(() => this.approve(event.id));
    this.point(`${event.gate} ${event.type}`);
  }

  private approve(id: string): void {
    this.approved.add(id);
    this.approvals.approve(id);
    this.point('approved');
  }

  private onEvent(event: AgentEvent): void {
    if (this.stopped !== undefined && this.stop === 'unsubscribe') this.eventsAfter++;
    const n = this.point('event');
    void this.after(`event ${n}`);
    if (event.type === 'turn') this.note('in a turn event', event.history);
  }

  /** The microtasks and macrotasks that follow an event. */
  private async after(event: string): Promise<void> {
    if (this.end !== undefined) return;
    for (let i = 1; i <= this.microtasks; i++) {
      await Promise.resolve();
      this.point(`${event} + microtask`);
    }
    for (let i = 1; i <= 2; i++) {
      await immediate();
      this.point(`${event} + macrotask`);
    }
  }

  /** An instant: the n-th of its name. */
  private point(name: string): number {
    const n = (this.counts.get(name) ?? 0) + 1;
    const instant = `${name} ${n}`;
    this.counts.set(name, n);
    if (this.end === undefined) this.instants.push(instant);
    if (instant === this.at && this.stopped === undefined && this.stop !== undefined) this.halt(this.stop);
    return n;
  }

  private halt(stop: Stop): void {
    this.stopped = this.sweep(stop);
    this.createsAtStop = this.creates;
    if (stop === 'unsubscribe') this.leave();
    else if (stop === 'abort') this.controller.abort('stop');
    else if (stop === 'deadline') this.scheduler.flush();
    else if (stop === 'model breaker') this.modelBreaker.trip('stop');
    else if (stop === 'tool breaker') this.toolBreaker.trip('stop');
    else this.budget.trip('stop');
    this.note('right after the stop', this.chat.messages);
  }

  private leave(): void {
    if (this.subscription === undefined) this.left.next();
    else this.subscription.unsubscribe();
    this.whenEnded();
  }

  private over(end: { readonly error?: unknown; readonly done?: boolean }): void {
    if (this.end !== undefined) this.complain('ended twice');
    if (this.stopped !== undefined && this.stop === 'unsubscribe' && this.subscription !== undefined)
      this.complain('ended after it was left');
    this.end = end;
    if (this.chat.busy && this.scope !== undefined)
      queueMicrotask(() => this.chat.busy && this.complain('the conversation is busy after the end'));
    this.note('at the end', this.chat.messages);
    this.whenEnded();
  }

  /** Whatever the stop closes is closed when its time is up. */
  private async sweep(stop: Stop): Promise<void> {
    await sleep(SOCKET_MS);
    await immediate();
    await immediate();
    if (stop === 'tool breaker') return;
    if (this.open > 0) this.complain(`${this.open} requests open ${SOCKET_MS} ms later`);
    const still = stop === 'model breaker' || stop === 'budget' ? this.creates - this.createsAtStop : 0;
    if (still > 0 && this.createsAtStop > 0) this.complain(`${still} requests after the stop`);
  }

  /** What a history says of its calls has to be so at the time. */
  private note(when: string, history: readonly MessageParam[]): void {
    for (const { content } of history) {
      if (typeof content === 'string') continue;
      for (const block of content)
        if (block.type === 'tool_result') this.checkTold(when, block.tool_use_id, textOf(block.content), block.is_error);
    }
    const json = JSON.stringify(history);
    if (!this.histories.has(json)) this.histories.set(json, when);
  }

  private checkTold(when: string, id: string, told: string, isError: boolean | undefined): void {
    const says = (wrong: string): void => this.complain(`${when}, ${id} ${wrong}: ${told}`);
    if (isError !== true) {
      if (!this.finished.has(id)) says('has not finished');
    } else if (/did not run/.test(told)) {
      if (this.begun.has(id)) says('has run');
    } else if (/stopped before it finished|has not finished yet/.test(told)) {
      if (!this.begun.has(id)) says('has not run');
    } else says('is told of in other words');
  }

  private async checkAfterwards(): Promise<void> {
    if (this.chat.busy) this.complain('the conversation is busy');
    this.note('afterwards', this.chat.messages);
    this.checkGates();
    this.checkBooks();
    this.checkRecords();
    if (this.open > 0) this.complain(`${this.open} requests open at the end`);
    if (this.working > 0) this.complain(`${this.working} calls run at the end`);
    if (this.eventsAfter > 0) this.complain(`${this.eventsAfter} events after it was left`);
    const begun = this.begun.size;
    for (const { id, left } of this.approvals.pending()) {
      if (!left) this.complain(`${id} waits for an approval`);
      this.approvals.approve(id);
    }
    await this.checkHistories();
    if (this.begun.size > begun) this.complain('an approval after the end started a call');
  }

  private checkGates(): void {
    const { modelSemaphore, toolSemaphore, lock, retry } = this;
    for (const semaphore of [modelSemaphore, toolSemaphore]) {
      const { inUse, waiting, name } = semaphore.snapshot();
      if (inUse > 0 || waiting > 0) this.complain(`${name}: ${inUse} in use, ${waiting} waiting`);
    }
    const { held, waiting, keys } = lock.snapshot();
    if (held > 0 || waiting > 0 || Object.keys(keys).length > 0) this.complain(`lock: ${held} held, ${waiting} waiting`);
    const { inFlight, waiting: queued, backingOff } = retry.snapshot();
    if (inFlight + queued + backingOff > 0) this.complain(`retry: ${inFlight} in flight, ${queued} waiting, ${backingOff} backing off`);
  }

  /** Nothing is set aside any more, and what is spent lies between what was seen and what was reserved. */
  private checkBooks(): void {
    const { microUsd, tokens, calls, inFlight, waiting } = this.budget.snapshot();
    const open = [microUsd.reserved, tokens.reserved, calls.reserved, inFlight, waiting];
    if (open.some((each) => each !== 0)) this.complain(`the budget holds ${open.join(' ')}`);
    const seen = this.records.map(({ inputTokens, outputTokens: { floor } }) => inputTokens + 5 * floor).reduce((a, b) => a + b, 0);
    const reserved = this.reservations.reduce((a, b) => a + b, 0);
    if (microUsd.spent < seen || microUsd.spent > reserved) this.complain(`spent ${microUsd.spent}, seen ${seen}, reserved ${reserved}`);
    if (this.end?.done === true && this.records.every(({ exact }) => exact) && microUsd.spent !== seen)
      this.complain(`spent ${microUsd.spent}, but used ${seen}`);
    if (microUsd.uncertain > microUsd.spent) this.complain(`uncertain ${microUsd.uncertain} of ${microUsd.spent}`);
    if (this.settled !== this.reservations.length) this.complain(`${this.reservations.length} reserved, ${this.settled} settled`);
  }

  private checkRecords(): void {
    const { records, creates, fetches } = this;
    if (records.length !== creates) this.complain(`${creates} attempts, ${records.length} records`);
    const sent = records.filter(({ phase }) => phase !== 'never-sent').length;
    if (sent < fetches) this.complain(`${fetches} sent, ${sent} records of what was sent: ${records.map(({ phase }) => phase).join()}`);
    const ids = records.flatMap(({ requestId }) => requestId ?? []);
    if (new Set(ids).size !== ids.length) this.complain('two records of one request');
    for (const {
      phase,
      exact,
      outputTokens: { floor, estimate, ceiling },
    } of records) {
      if (!(floor <= estimate && estimate <= ceiling)) this.complain(`${phase}: ${floor}, ${estimate}, ${ceiling}`);
      if (exact !== EXACT.includes(phase)) this.complain(`${phase} is ${exact ? '' : 'not '}exact`);
    }
  }

  /** Every history that was there can be continued: the server checks it as the API does. */
  private async checkHistories(): Promise<void> {
    const { messages } = new Anthropic({ apiKey: 'test', baseURL: this.server.url, logLevel: 'off' });
    const checks = Array.from(this.histories, async ([json, when]) => {
      const history = JSON.parse(json) as MessageParam[];
      try {
        await messages.countTokens({ model: 'claude-test', messages: [...history, hello], thinking });
      } catch (error) {
        this.complain(`the history ${when} is refused: ${(error as Error).message}`);
      }
    });
    await Promise.all(checks);
  }

  private complain(about: string): void {
    this.complaints.push(about);
  }

  private async within<T>(what: string, promise: Promise<T>): Promise<T | undefined> {
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => {
        this.complain(`hangs: no ${what} after ${HANG_MS} ms; ${JSON.stringify(this.scope?.dump())}`);
        resolve(undefined);
      }, HANG_MS);
    });
    const value = await Promise.race([promise, late]);
    clearTimeout(timer);
    return value;
  }
}
