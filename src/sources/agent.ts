import type Anthropic from '@anthropic-ai/sdk';
import { concat, defer, finalize, of, repeat, takeWhile, tap, type Observable } from 'rxjs';
import { DirectObservable } from '../core/direct.js';
import { CallScope } from './callScope.js';
import { checkCount, refuse } from './checks.js';
import type { Ledger } from './conversation.js';
import type { MessageParam } from './historyParts.js';
import { planTurn, type TurnOptions, type TurnPlan, type TurnTimeouts } from './turnPlan.js';
import type { TurnEvent } from './turnEvent.js';
import { TurnRun } from './turnRun.js';

export interface AgentOptions extends Omit<TurnOptions, 'timeouts'> {
  /** Label of the agent's scope: what paths, reports and errors call it. Default `agent`. */
  readonly name?: string | undefined;
  /** The agent ends after so many turns even if the model would go on. Default 10; Infinity may be asked for. */
  readonly maxTurns?: number | undefined;
  /** Time limits, nested in each other. Default: none. */
  readonly timeouts?: AgentTimeouts | undefined;
}

/** Milliseconds; each limit holds inside of the one after it. */
export interface AgentTimeouts extends TurnTimeouts {
  /** Of the whole agent: it errors with DeadlineExceededError. */
  readonly workflow?: number | undefined;
}

/** Tokens of all turns together, as the API counts them. */
export interface AgentUsage {
  readonly input_tokens: number;
  readonly output_tokens: number;
  readonly cache_creation_input_tokens: number;
  readonly cache_read_input_tokens: number;
}

/** How an agent ended. */
export interface AgentDone {
  readonly type: 'done';
  /** The stop reason of the last reply; `max_turns` if the model would have gone on. */
  readonly stop: Anthropic.Messages.StopReason | 'max_turns';
  readonly turns: number;
  /** The last reply. */
  readonly message: Anthropic.Messages.Message;
  /** The text of the last reply. */
  readonly text: string;
  /** All messages, ready to be continued. */
  readonly history: MessageParam[];
  readonly usage: AgentUsage;
}

/** What happens in an agent: the events of its turns, and how it ended. */
export type AgentEvent = TurnEvent | AgentDone;

const MAX_TURNS = 10;

/**
 * A model with tools, turn after turn, until it is done: a stream of everything that happens, in a scope of its own.
 *
 * *When to use*: for a task that a model does with tools, alone, in a fan-out of many, or inside a tool of another agent.
 *
 * @param options - those of `turn`, a `name`, and `maxTurns` (default 10); see {@link AgentOptions}. Throws a TypeError or RangeError for a wrong one
 * @returns a cold Observable of events, the last of which has type `done`. Unsubscribing closes the model's stream and cancels the calls; the scope
 * (`onScope`) has closed when they have stopped. Errors with what the model's stream errors with, or with ScopeCancelledError
 * @see {@link turn} for one turn
 */
export function agent(options: AgentOptions): Observable<AgentEvent> {
  const { name = 'agent', maxTurns = MAX_TURNS, ...others } = options;
  if (typeof name !== 'string') refuse(TypeError, 'agent', 'name', 'a string', name);
  checkCount('agent', 'maxTurns', maxTurns);
  const { workflow } = others.timeouts ?? {};
  const plan = planTurn('agent', others, name);
  return new DirectObservable((sink) => {
    const scope = new AgentScope(sink, plan.scope);
    if (workflow !== undefined) scope.setDeadline(workflow);
    scope.begin(() => {
      const ledger = plan.open();
      ledger.acquire();
      return new AgentRun(plan, ledger, scope, maxTurns).events().pipe(finalize(() => ledger.release()));
    });
  });
}

/** An agent is one level deeper than what started it. */
class AgentScope extends CallScope<AgentEvent> {
  override get depth(): number {
    return super.depth + 1;
  }
}

class AgentRun {
  private turns = 0;
  private last: (TurnEvent & { readonly type: 'turn' }) | undefined = undefined;
  private readonly usage = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };

  constructor(
    private readonly plan: TurnPlan,
    private readonly ledger: Ledger,
    private readonly scope: AgentScope,
    private readonly maxTurns: number,
  ) {}

  events(): Observable<AgentEvent> {
    const { plan, ledger, scope } = this;
    const turns = defer(() => new TurnRun(plan, ledger, scope, ++this.turns).events()).pipe(
      tap((event) => this.note(event)),
      repeat(),
      takeWhile((event) => event.type !== 'turn' || (event.continues && this.turns < this.maxTurns), true),
    );
    return concat(
      turns,
      defer(() => of(this.done())),
    );
  }

  private note(event: TurnEvent): void {
    if (event.type !== 'turn') return;
    this.last = event;
    const { usage } = event.message;
    for (const key of Object.keys(this.usage) as (keyof AgentUsage)[]) this.usage[key] += usage[key] ?? 0;
  }

  private done(): AgentDone {
    const { message, continues, stop, history } = this.last as TurnEvent & { readonly type: 'turn' };
    const text = message.content.map((block) => (block.type === 'text' ? block.text : '')).join('');
    return {
      type: 'done',
      stop: continues ? 'max_turns' : stop,
      turns: this.turns,
      message,
      text,
      history: [...history],
      usage: { ...this.usage },
    };
  }
}
