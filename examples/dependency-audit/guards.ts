import { merge, type Observable } from 'rxjs';
import {
  type BudgetNode,
  CircuitBreaker,
  classifyError,
  FleetBudget,
  guard,
  RetryGate,
  TokenBucket,
  type ErrorKind,
  type GateEvent,
  type Guard,
} from 'rxfleet';
import { modelGuard, type MessageParams, type ModelGuard, type ToolRequest } from 'rxfleet/agents';
import type { RateLimit, RateLimits } from 'rxfleet/testing';
import { DependencyError } from './dependencies.js';
import { PathError } from './files.js';
import { results } from './tools.js';

export interface GuardsOptions {
  /** What the API allows. */
  readonly limits: Required<RateLimits>;
  /** What the whole fleet may spend, in micro-dollars. */
  readonly microUsd: number;
  readonly agents: number;
  /** The most that a request can cost, in micro-dollars, if that is to be known better than it is by default. */
  readonly ceiling?: ((params: MessageParams) => number) | undefined;
}

/** The name of the bucket. */
export const RATE_LIMIT = 'rate limit';

/** No agent may spend more of the budget that it is part of alone, be that of the fleet or of the agent above. */
const MOST_OF_IT = 0.5;

/** What stands in front of the requests of one agent. */
export interface AgentGuard {
  /** Its own budget. */
  readonly budget: BudgetNode;
  readonly modelGuard: ModelGuard;
}
/** A bucket stays a little below what the server allows: a request arrives later than it is sent, and not always equally late. */
const CAUTION = 0.8;

/** What stands between the agents and whatever they call. All of them share it. */
export class Guards {
  /** Keeps the requests of all agents within the rate limits of the API. */
  readonly bucket: TokenBucket;
  /** Holds every request back while the API asks for less. */
  readonly retry: RetryGate = new RetryGate({ name: 'retry gate' });
  /** Sets aside what a request can cost before it is sent. */
  readonly budget: FleetBudget;
  /** One for each tool: no more calls of one that keeps failing. */
  readonly breakers: ReadonlyMap<string, CircuitBreaker> = new Map(
    Object.keys(results).map((name) => [name, new CircuitBreaker({ name, failures: 3, openMs: 1_000, classify })]),
  );
  /** In front of every call of a tool. */
  readonly toolGuard: Guard<ToolRequest> = guard({ breaker: ({ name }) => this.breakers.get(name) });

  constructor(private readonly options: GuardsOptions) {
    const { requests, inputTokens, outputTokens } = options.limits;
    this.budget = new FleetBudget({ name: 'fleet', microUsd: options.microUsd });
    this.bucket = new TokenBucket({
      name: RATE_LIMIT,
      limits: { requests: { ...below(requests), cost: 1 }, inputTokens: below(inputTokens), outputTokens: below(outputTokens) },
    });
  }

  /** In front of the requests of one agent, which has a budget of its own within that of the fleet, or of the agent above it. */
  forAgent(agent: string, above: BudgetNode = this.budget): AgentGuard {
    const { bucket, retry, options } = this;
    const { agents, ceiling } = options;
    const ask = ceiling && ((params: MessageParams) => ({ estimate: ceiling(params) }));
    const budget = above.child(agent, { share: agents === 1 && above === this.budget ? 1 : MOST_OF_IT });
    return { budget, modelGuard: modelGuard({ retry, bucket, budget, ask }) };
  }

  get all(): readonly (TokenBucket | RetryGate | FleetBudget | CircuitBreaker)[] {
    return [this.bucket, this.retry, this.budget, ...this.breakers.values()];
  }

  /** What happens at any of them. */
  get events$(): Observable<GateEvent> {
    return merge(...this.all.map((gate) => gate.events$));
  }
}

function below({ limit, perMs }: RateLimit) {
  const capacity = Math.floor(CAUTION * limit);
  return { capacity, refill: { tokens: capacity, everyMs: perMs } };
}

/** That a model asks for a file or a dependency which is not there says nothing about the tool. */
const classify = (error: unknown): ErrorKind =>
  error instanceof PathError || error instanceof DependencyError ? 'fatal' : classifyError(error);
