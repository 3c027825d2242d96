import Anthropic from '@anthropic-ai/sdk';
import {
  isCircuitTrippedError,
  isDeadlineExceededError,
  isDepthLimitError,
  isScopeCancelledError,
  type CallInfo,
  type DepthLimitError,
  type GateEvent,
  type Outcome,
  type ScopeReport,
} from 'rxfleet';
import type { AgentEvent } from 'rxfleet/agents';
import { RATE_LIMIT } from './guards.js';
import { isRecord, stringOf } from './json.js';
import type { InstalledPackage } from './packages.js';
import { results, type ToolName, type ToolOutput } from './tools.js';
import { parseVerdict, type Verdict } from './verdict.js';
import { clean, words } from './text.js';

export type AgentStatus = 'waiting' | 'running' | 'done' | 'failed' | 'cancelled' | 'not started' | 'refused';

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
  /** The calls in flight, and those that wait for somebody's yes. */
  readonly inFlight = new Map<string, CallInFlight>();
  readonly asking = new Set<string>();
  readonly facts: Facts = {};
  verdict: Verdict | undefined = undefined;
  /** Why there is no verdict. */
  problem: string | undefined = undefined;

  /** Agents that it has started, for dependencies of its package. */
  readonly below: Agent[] = [];

  constructor(
    readonly pkg: InstalledPackage,
    readonly above?: Agent,
  ) {}

  get depth(): number {
    return this.above === undefined ? 0 : 1 + this.above.depth;
  }
}

/** The agent that a call is part of, by the labels from the root down: below the root, agents and tools take turns. */
export const agentIn = (path: readonly string[]): string | undefined => path.findLast((_label, i) => i % 2 === 1);

/** An agent and all below it, in the order of a drawn tree. */
const family = (agent: Agent): Agent[] => [agent, ...agent.below.flatMap(family)];

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
  /** Those of the packages; others are below them. */
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
  private readonly byPath = new Map<string, Agent>();

  constructor(
    packages: readonly InstalledPackage[],
    readonly now: () => number = () => performance.now(),
  ) {
    this.agents = packages.map((pkg) => new Agent(pkg));
    this.startedAt = now();
  }

  /** Every agent, each followed by those below it. */
  get all(): Agent[] {
    return this.agents.flatMap(family);
  }

  with(...statuses: readonly AgentStatus[]): Agent[] {
    return this.all.filter(({ status }) => statuses.includes(status));
  }

  number(...statuses: readonly AgentStatus[]): number {
    return this.with(...statuses).length;
  }

  get inFlight(): number {
    const { started, settled, failed, cancelled } = this.modelCalls;
    return this.all.reduce((sum, { inFlight }) => sum + inFlight.size, started - settled - failed - cancelled);
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

  /** An agent starts; `path` are the labels from the root down to its scope. */
  started(agent: Agent, path: readonly string[]): void {
    this.byPath.set(path.join('\n'), agent);
    agent.status = 'running';
    agent.turn = 1;
    agent.startedAt = this.now();
  }

  /** A request is sent when the last of its guards, the rate limit, has admitted it: each attempt is one. */
  hear(event: GateEvent): void {
    if (!('path' in event)) return;
    const agent = this.byPath.get(event.path.join('\n'));
    if (agent === undefined) return;
    agent.heldBy = event.type === 'queued' ? event.gate : undefined;
    if (event.gate !== RATE_LIMIT) return;
    if (event.type === 'admitted') this.modelCalls.started++;
    else if (event.type === 'settled') this.modelCalls[event.end === 'completed' ? 'settled' : event.end]++;
  }

  take(agent: Agent, each: AgentEvent): void {
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
    if (event.type === 'approval') agent.asking.add(id);
    else agent.asking.delete(id);
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
        this.end(agent, id, this.howItFailed(name, event.error));
    }
  }

  /** What an agent below has left behind is in the report of the whole. */
  private howItFailed(name: string, error: unknown): Exclude<keyof Tally, 'started'> {
    if (isCircuitTrippedError(error)) return 'cancelled';
    const own = isDeadlineExceededError(error) && name !== 'audit_dependency' ? error.abandoned : [];
    this.abandoned.push(...own);
    return own.length === 0 ? 'failed' : 'abandoned';
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

  /** An agent is about to start another one, for a dependency of its package. */
  below(above: Agent, pkg: InstalledPackage): Agent {
    const agent = new Agent(pkg, above);
    above.below.push(agent);
    return agent;
  }

  /** The same for an agent below another: what it has in flight is cancelled with it. */
  endedBelow(agent: Agent, status: 'done' | 'failed' | 'cancelled'): void {
    if (agent.status === 'waiting') agent.status = 'not started';
    if (agent.status !== 'running') return;
    agent.endedAt = this.now();
    agent.status = status;
    this.toolCalls.cancelled += agent.inFlight.size;
    agent.inFlight.clear();
    agent.asking.clear();
    this.onEnd(agent);
  }

  /** It ended with an error, or the limits of its tree did not let it start. */
  failedBelow(agent: Agent, error: unknown): void {
    if (agent.status === 'waiting' && isDepthLimitError(error)) {
      agent.status = 'refused';
      agent.problem = refusalOf(error);
    } else if (isScopeCancelledError(error)) this.endedBelow(agent, 'cancelled');
    else {
      agent.problem = problemOf(error);
      this.endedBelow(agent, 'failed');
    }
  }

  /** Their scope has closed: what was in flight has stopped, and so has what a breaker cancelled, unless the report says otherwise. */
  close(report: ScopeReport): void {
    const known = this.abandoned.map(placeOf);
    const more = report.abandoned.filter((call) => {
      const at = known.indexOf(placeOf(call));
      if (at >= 0) known.splice(at, 1);
      return at < 0 && call.label in results;
    });
    for (const { inFlight } of this.all) {
      this.toolCalls.cancelled += inFlight.size;
      inFlight.clear();
    }
    this.toolCalls.cancelled -= more.length;
    this.toolCalls.abandoned += more.length;
    this.abandoned.push(...more);
  }
}

const placeOf = ({ path, label }: CallInfo): string => [...path, label].join(' > ');

function refusalOf({ limit, max }: DepthLimitError): string {
  if (limit === 'maxDepth') return `it would be deeper than ${max} below the agent of a package`;
  return limit === 'maxTotal' ? `its tree had ${max} agents already` : `${max} agents ran beside it already`;
}

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
