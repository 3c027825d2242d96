import Anthropic from '@anthropic-ai/sdk';
import { isDeadlineExceededError, type CallInfo, type Outcome, type ScopeReport } from 'rxfleet';
import type { AgentEvent } from 'rxfleet/agents';
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
  /** A request that has no complete reply yet; `silent` before its first event. */
  request: 'none' | 'silent' | 'writing' = 'none';
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
  readonly abandoned: { readonly call: CallInfo; readonly agent: string }[] = [];
  readonly startedAt: number;
  /** Called when an agent has ended. */
  onEnd: (agent: Agent) => void = () => {};
  private outputSoFar = new Map<Agent, number>();

  constructor(
    packages: readonly InstalledPackage[],
    readonly now: () => number = () => performance.now(),
  ) {
    this.agents = packages.map((pkg) => new Agent(pkg));
    this.startedAt = now();
  }

  with(...statuses: readonly AgentStatus[]): Agent[] {
    return this.agents.filter(({ status }) => statuses.includes(status));
  }

  number(...statuses: readonly AgentStatus[]): number {
    return this.with(...statuses).length;
  }

  get inFlight(): number {
    return this.agents.reduce((sum, { inFlight, request }) => sum + inFlight.size + (request === 'none' ? 0 : 1), 0);
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
    agent.startedAt = this.now();
  }

  requestSent(index: number): void {
    const agent = this.agent(index);
    agent.turn++;
    agent.text = '';
    agent.asked = [];
    agent.request = 'silent';
    this.modelCalls.started++;
  }

  take(index: number, each: AgentEvent): void {
    const agent = this.agent(index);
    if (each.type === 'model') this.takeModel(agent, each.event);
    else if (each.type === 'text') agent.text += each.text;
    else if (each.type === 'tool') this.takeTool(agent, each.event);
    else if (each.type === 'done') takeDone(agent, each);
  }

  private takeModel(agent: Agent, event: (AgentEvent & { type: 'model' })['event']): void {
    agent.request = 'writing';
    if (event.type === 'message_start') this.inputTokens += event.message.usage.input_tokens;
    if (event.type === 'content_block_start' && event.content_block.type === 'tool_use') agent.asked.push(event.content_block.name);
    if (event.type === 'message_delta') {
      // Usage is cumulative within a reply.
      this.outputTokens += event.usage.output_tokens - (this.outputSoFar.get(agent) ?? 0);
      this.outputSoFar.set(agent, event.usage.output_tokens);
    }
    if (event.type === 'message_stop') {
      agent.request = 'none';
      this.outputSoFar.delete(agent);
      this.modelCalls.settled++;
    }
  }

  private takeTool(agent: Agent, event: (AgentEvent & { type: 'tool' })['event']): void {
    const { id, name } = event;
    const call = agent.inFlight.get(id);
    if (event.type === 'started') {
      agent.calls++;
      this.toolCalls.started++;
      agent.inFlight.set(id, { name, input: event.input, since: this.now() });
      return;
    }
    if (event.type === 'progress') {
      if (call !== undefined) agent.inFlight.set(id, { ...call, done: progressOf(event.value) });
      return;
    }
    agent.inFlight.delete(id);
    if (call === undefined) this.refused++;
    else if (event.type === 'result') {
      this.toolCalls.settled++;
      learn(agent.facts, call, event.output);
    } else if (event.type === 'cancelled') this.toolCalls.cancelled++;
    else if (isDeadlineExceededError(event.error) && event.error.abandoned.length > 0) this.abandon(agent, event.error.abandoned);
    else this.toolCalls.failed++;
  }

  private abandon(agent: Agent, calls: readonly CallInfo[]): void {
    this.toolCalls.abandoned++;
    this.abandoned.push(...calls.map((call) => ({ call, agent: agent.pkg.name })));
  }

  /** An agent has ended. What it has still in flight was stopped with it; `close` tells how that went. */
  ended(outcome: Outcome<AgentEvent>): void {
    const agent = this.agent(outcome.index);
    agent.endedAt = this.now();
    agent.status = statusOf(outcome);
    if (outcome.status === 'failed') {
      agent.problem = problemOf(outcome.reason);
      this.endRequest(agent, 'failed');
    }
    this.onEnd(agent);
  }

  /** Their scope has closed: what is in flight now was stopped, or would not stop. */
  close({ abandoned }: ScopeReport): void {
    for (const agent of this.agents) {
      this.endRequest(agent, 'cancelled');
      for (const { name } of agent.inFlight.values()) {
        const left = abandoned.find(({ label, path }) => label === name && path.includes(agent.pkg.name));
        if (left === undefined) this.toolCalls.cancelled++;
        else this.abandon(agent, [left]);
      }
      agent.inFlight.clear();
    }
  }

  private endRequest(agent: Agent, how: 'failed' | 'cancelled'): void {
    if (agent.request !== 'none') this.modelCalls[how]++;
    agent.request = 'none';
  }
}

function takeDone(agent: Agent, { stop, text, turns }: AgentEvent & { type: 'done' }): void {
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
