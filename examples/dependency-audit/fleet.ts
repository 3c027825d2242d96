import Anthropic from '@anthropic-ai/sdk';
import { isCircuitTrippedError, isDeadlineExceededError, type CallInfo, type GateEvent, type Outcome, type ScopeReport } from 'rxfleet';
import type { AgentEvent } from 'rxfleet/agents';
import { RATE_LIMIT } from './guards.js';
import { isRecord, stringOf } from './json.js';
import type { InstalledPackage } from './packages.js';
import { results, type ToolName, type ToolOutput } from './tools.js';
import { parseVerdict, type Verdict } from './verdict.js';
import { clean, words } from './text.js';

export type AgentStatus = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled' | 'not started';

/** What the tools really told about a package. */
export type Facts = { -readonly [N in ToolName]?: ToolOutput<N> };

/** A tool call that runs. */
export interface CallInFlight {
  readonly name: string;
  readonly input: unknown;
  readonly since: number;
  /** How far it is, if it tells. */
  readonly done?: string;
}

/** One agent, as its events describe it. */
export class Agent {
  status: AgentStatus = 'waiting';
  turn = 0;
  calls = 0;
  startedAt = 0;
  endedAt: number | undefined = undefined;
  /** Whether the reply to its request has begun, and is not complete. */
  writing = false;
  /** The guard in whose line its request stands. */
  heldBy: string | undefined = undefined;
  /** What the model has written in this turn, and the tools that it asks for. */
  text = '';
  asked: string[] = [];
  /** The calls in flight. */
  readonly inFlight = new Map<string, CallInFlight>();
  readonly facts: Facts = {};
  verdict: Verdict | undefined = undefined;
  /** Why there is no verdict. */
  problem: string | undefined = undefined;

  constructor(readonly pkg: InstalledPackage) {}
}

/** What became of calls; `started` is the sum of the others once nothing is in flight. */
export interface Tally {
  started: number;
  settled: number;
  failed: number;
  cancelled: number;
  abandoned: number;
}

const tally = (): Tally => ({ started: 0, settled: 0, failed: 0, cancelled: 0, abandoned: 0 });

/** The whole fleet, as the events of its agents describe it: all that the view and the report show. */
export class Fleet {
  readonly agents: readonly Agent[];
  readonly toolCalls = tally();
  readonly modelCalls = tally();
  /** Calls that were answered without being run: no such tool, or an input that does not fit. */
  refused = 0;
  inputTokens = 0;
  outputTokens = 0;
  /** Calls that did not stop when told to. */
  readonly abandoned: CallInfo[] = [];
  readonly startedAt: number;
  /** Called when an agent has ended. */
  onEnd: (agent: Agent) => void = () => {};
  private outputSoFar = new Map<Agent, number>();
  private readonly byName = new Map<string, Agent>();

  constructor(
    packages: readonly InstalledPackage[],
    readonly now: () => number = () => performance.now(),
  ) {
    this.agents = packages.map((pkg) => new Agent(pkg));
    for (const agent of this.agents) this.byName.set(agent.pkg.name, agent);
    this.startedAt = now();
  }

  with(...statuses: readonly AgentStatus[]): Agent[] {
    return this.agents.filter(({ status }) => statuses.includes(status));
  }

  number(...statuses: readonly AgentStatus[]): number {
    return this.with(...statuses).length;
  }

  get inFlight(): number {
    const { started, settled, failed, cancelled } = this.modelCalls;
    return this.agents.reduce((sum, { inFlight }) => sum + inFlight.size, started - settled - failed - cancelled);
  }

  get elapsed(): number {
    return this.now() - this.startedAt;
  }

  agent(index: number): Agent {
    const agent = this.agents[index];
    if (agent === undefined) throw new RangeError(`There is no agent ${index}.`);
    return agent;
  }

  // What happens

  started(index: number): void {
    const agent = this.agent(index);
    agent.status = 'running';
    agent.turn = 1;
    agent.startedAt = this.now();
  }

  /** A request is sent when the last of its guards, the rate limit, has admitted it: each attempt is one. */
  hear(event: GateEvent): void {
    if (!('path' in event) || event.path.length !== 2) return;
    const agent = this.byName.get(event.path[1] ?? '');
    if (agent === undefined) return;
    agent.heldBy = event.type === 'queued' ? event.gate : undefined;
    if (event.gate !== RATE_LIMIT) return;
    if (event.type === 'admitted') this.modelCalls.started++;
    else if (event.type === 'settled') this.modelCalls[event.end === 'completed' ? 'settled' : event.end]++;
  }

  take(index: number, each: AgentEvent): void {
    const agent = this.agent(index);
    if (each.type === 'model') this.takeModel(agent, each.event);
    else if (each.type === 'text') agent.text += each.text;
    else if (each.type === 'tool') this.takeTool(agent, each.event);
    else if (each.type === 'turn' && each.continues) nextTurn(agent);
    else if (each.type === 'done') takeDone(agent, each);
  }

  private takeModel(agent: Agent, event: (AgentEvent & { type: 'model' })['event']): void {
    agent.writing = event.type !== 'message_stop';
    if (event.type === 'message_start') this.inputTokens += event.message.usage.input_tokens;
    if (event.type === 'content_block_start' && event.content_block.type === 'tool_use') agent.asked.push(event.content_block.name);
    if (event.type === 'message_delta') {
      // Usage is cumulative within a reply.
      this.outputTokens += event.usage.output_tokens - (this.outputSoFar.get(agent) ?? 0);
      this.outputSoFar.set(agent, event.usage.output_tokens);
    }
    if (event.type === 'message_stop') this.outputSoFar.delete(agent);
  }

  private takeTool(agent: Agent, event: (AgentEvent & { type: 'tool' })['event']): void {
    const { id, name } = event;
    const call = agent.inFlight.get(id);
    switch (event.type) {
      case 'started':
        agent.calls++;
        this.toolCalls.started++;
        agent.inFlight.set(id, { name, input: event.input, since: this.now() });
        break;
      case 'progress':
        if (call !== undefined) agent.inFlight.set(id, { ...call, done: progressOf(event.value) });
        break;
      case 'result':
        if (call !== undefined) learn(agent.facts, call, event.output);
        this.end(agent, id, 'settled');
        break;
      case 'cancelled':
        this.end(agent, id, 'cancelled');
        break;
      case 'failed':
        // Those that a guard refused are counted there.
        if (event.phase === 'input') this.refused++;
        this.end(agent, id, this.howItFailed(event.error));
    }
  }

  private howItFailed(error: unknown): Exclude<keyof Tally, 'started'> {
    if (isCircuitTrippedError(error)) return 'cancelled';
    if (!isDeadlineExceededError(error) || error.abandoned.length === 0) return 'failed';
    this.abandoned.push(...error.abandoned);
    return 'abandoned';
  }

  private end(agent: Agent, id: string, how: Exclude<keyof Tally, 'started'>): void {
    if (agent.inFlight.delete(id)) this.toolCalls[how]++;
  }

  /** An agent has ended. What it has still in flight was stopped with it; `close` tells how that went. */
  ended(outcome: Outcome<AgentEvent>): void {
    const agent = this.agent(outcome.index);
    agent.endedAt = this.now();
    agent.status = statusOf(outcome);
    if (outcome.status === 'failed') agent.problem = problemOf(outcome.reason);
    this.onEnd(agent);
  }

  /** Their scope has closed: what was in flight has stopped, and so has what a breaker cancelled, unless the report says otherwise. */
  close(report: ScopeReport): void {
    const known = this.abandoned.map(placeOf);
    const more = report.abandoned.filter((call) => {
      const at = known.indexOf(placeOf(call));
      if (at >= 0) known.splice(at, 1);
      return at < 0 && call.label in results;
    });
    for (const { inFlight } of this.agents) {
      this.toolCalls.cancelled += inFlight.size;
      inFlight.clear();
    }
    this.toolCalls.cancelled -= more.length;
    this.toolCalls.abandoned += more.length;
    this.abandoned.push(...more);
  }
}

const placeOf = ({ path, label }: CallInfo): string => [...path, label].join(' > ');

function nextTurn(agent: Agent): void {
  agent.turn++;
  agent.text = '';
  agent.asked = [];
}

function takeDone(agent: Agent, { stop, text, turns }: AgentEvent & { type: 'done' }): void {
  agent.turn = turns;
  agent.verdict = parseVerdict(text);
  if (agent.verdict !== undefined) return;
  agent.problem = stop === 'max_turns' ? `no verdict after ${turns} turns` : `no verdict in its last reply (${stop})`;
}

function learn(facts: Facts, { name, input }: CallInFlight, output: unknown): void {
  // Lists of single folders say nothing about the whole package.
  if (!(name in results) || (name === 'list_files' && isRecord(input) && input['path'] !== '.')) return;
  const known = name as ToolName;
  const parsed = results[known].safeParse(output);
  if (parsed.success) Object.assign(facts, { [known]: parsed.data });
}

const progressOf = (value: unknown): string => {
  const [first] = Object.entries(typeof value === 'object' && value !== null ? value : {});
  return first === undefined ? '' : `${String(first[1])} ${first[0]}`;
};

/** An error of the API says more than its message, which is the JSON of it all. */
function problemOf(error: unknown): string {
  if (!(error instanceof Anthropic.APIError) || error.status === undefined) return words(error);
  const body: unknown = error.error;
  const said = isRecord(body) && isRecord(body['error']) ? stringOf(body['error']['message']) : undefined;
  return clean(`The API answered ${String(error.status)} ${error.type ?? ''}${said === undefined ? '' : `: ${said}`}`);
}

function statusOf({ status }: Outcome<unknown>): AgentStatus {
  if (status === 'fulfilled') return 'done';
  if (status === 'not-started') return 'not started';
  return status === 'failed' ? 'failed' : 'cancelled';
}
