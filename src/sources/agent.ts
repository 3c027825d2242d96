import { concat, defer, EMPTY, from, isObservable, Observable, of, repeat, tap } from 'rxjs';
import { innermost } from '../core/call.js';
import { DirectObservable } from '../core/direct.js';
import type { ScopeNode } from '../core/node.js';
import { DepthGate, type DepthGateOptions } from '../gates/depthGate.js';
import { isGate } from '../operators/admit.js';
import { depthLimit } from '../operators/depthLimit.js';
import type { AgentDone, AgentEvent, AgentMessage, AgentUsage } from './agentEvent.js';
import { agentAround, AgentScope } from './agentScope.js';
import { checkCount, refuse } from './checks.js';
import type { Ledger } from './conversation.js';
import type { MessageParam } from './historyParts.js';
import { Inbox, sayable } from './inbox.js';
import { begun, planTurn, type TurnOptions, type TurnPlan, type TurnTimeouts } from './turnPlan.js';
import type { TurnEvent } from './turnEvent.js';
import { TurnRun } from './turnRun.js';
import { turnAround } from './turnScope.js';

export interface AgentOptions<O = unknown> extends Omit<TurnOptions<O>, 'timeouts'> {
  /** Label of the agent's scope: what paths, reports and errors call it. Default `agent`. */
  readonly name?: string | undefined;
  /** The agent ends after so many turns even if the model would go on. Default 10; Infinity may be asked for. */
  readonly maxTurns?: number | undefined;
  /** Time limits, nested in each other. Default: none. */
  readonly timeouts?: AgentTimeouts | undefined;
  /**
   * Bounds of the tree of agents that start agents: `maxDepth` (0: none below this one), `maxFanOut` and `maxLive` (at once), `maxTotal` (ever, this
   * one included), or a gate that several trees share. They hold for all agents below; those of an agent around this one hold as well. One that is
   * refused errors with DepthLimitError. Default: only those of the agents around it.
   */
  readonly limits?: DepthGate | Omit<DepthGateOptions, 'name'> | undefined;
  /**
   * What people say while the agent runs: it joins the conversation between turns, in the order in which it came, and each is acknowledged by an
   * event of type `message`. While there is something unread the agent goes on. An error of it is the agent's.
   */
  readonly inbox$?: Observable<MessageParam['content']> | undefined;
}

/** Milliseconds; each limit holds inside of the one after it. */
export interface AgentTimeouts extends TurnTimeouts {
  /** Of the whole agent: it errors with DeadlineExceededError. */
  readonly workflow?: number | undefined;
}

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
export function agent<O = unknown>(options: AgentOptions<O>): Observable<AgentEvent<O>> {
  const { name = 'agent', maxTurns = MAX_TURNS, limits, inbox$, ...others } = options;
  if (typeof name !== 'string') refuse(TypeError, 'agent', 'name', 'a string', name);
  checkCount('agent', 'maxTurns', maxTurns);
  if (inbox$ !== undefined && !isObservable(inbox$)) refuse(TypeError, 'agent', 'inbox$', 'an Observable', inbox$);
  if (limits !== undefined && !isGate(limits)) new DepthGate(limits);
  const { workflow } = others.timeouts ?? {};
  const plan = planTurn('agent', others, name);
  const run = (own: TurnPlan, trees: readonly DepthGate[]): DirectObservable<AgentEvent> =>
    new DirectObservable((sink) => {
      const scope = new AgentScope(sink, own.scope, own, trees);
      if (workflow !== undefined) scope.setDeadline(workflow);
      scope.begin(() => {
        scope.tellStarted();
        const ledger = (scope.ledger = own.open().below(turnAround(scope.up)?.ledger, name));
        const inbox = new Inbox(inbox$);
        const run = new AgentRun(own, ledger, scope, maxTurns, inbox);
        return inbox.beside(run.events());
      });
    });
  const events = new DirectObservable<AgentEvent>((sink) => {
    const within = innermost(plan.scope.within as ScopeNode | undefined);
    const around = agentAround(within);
    const trees = bounds(around?.trees ?? [], limits, within?.depth ?? 0);
    const limit = (inner: Observable<AgentEvent>, tree: DepthGate): Observable<AgentEvent> =>
      inner.pipe(depthLimit(tree, plan.scope.within, { label: name }));
    const bounded = trees.reduceRight(limit, run(begun(plan, turnAround(within)?.plan), trees));
    (bounded as DirectObservable<AgentEvent>).begin(sink);
  });
  return events as Observable<AgentEvent<O>>;
}

/** What bounds an agent and those below it: whatever bounds the agents around it, and its own limits, which count from where it starts. */
function bounds(around: readonly DepthGate[], limits: AgentOptions['limits'], depth: number): readonly DepthGate[] {
  if (limits === undefined || around.includes(limits as DepthGate)) return around;
  if (isGate(limits)) return [...around, limits];
  const { maxDepth } = limits;
  return [...around, new DepthGate({ ...limits, ...(maxDepth !== undefined && { maxDepth: maxDepth + depth }), name: 'agents' })];
}

class AgentRun {
  private turns = 0;
  private goesOn = false;
  private finished = false;
  private last: (TurnEvent & { readonly type: 'turn' }) | undefined = undefined;
  private readonly usage = { input_tokens: 0, output_tokens: 0, cache_creation_input_tokens: 0, cache_read_input_tokens: 0 };

  constructor(
    private readonly plan: TurnPlan,
    private readonly ledger: Ledger,
    private readonly scope: AgentScope,
    private readonly maxTurns: number,
    private readonly inbox: Inbox,
  ) {}

  /** The conversation is free again when the end is told. */
  events(): Observable<AgentEvent> {
    const turns = this.ledger.continued(
      () => this.turnByTurn(),
      this.plan.whenBusy,
      () => this.unread(),
    );
    return concat(
      turns,
      defer(() => of(this.done())),
    );
  }

  private turnByTurn(): Observable<AgentEvent> {
    const { plan, ledger, scope, inbox } = this;
    const begun = defer(() => (ledger.isAnswered ? inbox.first() : EMPTY));
    const heard = defer(() => this.readInbox());
    const turn = defer(() => new TurnRun(plan, ledger, scope, ++this.turns).events()).pipe(tap((event) => this.note(event)));
    const turns = concat(turn, heard).pipe(repeat({ delay: () => (this.goesOn ? of(true) : EMPTY) }));
    return concat(begun, heard, turns).pipe(tap({ complete: () => void (this.finished = true) }));
  }

  /** What it has not read and will not tell, because it was stopped. */
  private unread(): readonly MessageParam['content'][] {
    return this.finished ? [] : this.inbox.read();
  }

  /** Between turns: what people have said joins the conversation. A reply that was only paused goes on first: its own calls have no results yet. */
  private readInbox(): Observable<AgentMessage> {
    const { inbox, ledger, turns: turn } = this;
    const room = turn < this.maxTurns;
    const read = room && this.last?.stop !== 'pause_turn' ? inbox.read() : [];
    const messages = read.map((content): AgentMessage => {
      const said = sayable(content);
      if (said !== undefined) ledger.say({ role: 'user', content: said });
      return { type: 'message', turn, content, ...(said === undefined && { ignored: true }) };
    });
    this.goesOn = room && (messages.some(({ ignored }) => ignored !== true) || this.last?.continues === true);
    return from(messages);
  }

  private note(event: TurnEvent): void {
    if (event.type !== 'turn') return;
    this.last = event;
    const { usage } = event.message;
    for (const key of Object.keys(this.usage) as (keyof AgentUsage)[]) this.usage[key] += usage[key] ?? 0;
  }

  private done(): AgentDone {
    const { message, continues, stop, history, output } = this.last as TurnEvent & { readonly type: 'turn' };
    const text = message.content.map((block) => (block.type === 'text' ? block.text : '')).join('');
    return {
      type: 'done',
      stop: continues ? 'max_turns' : stop,
      turns: this.turns,
      message,
      text,
      ...(output !== undefined && { output }),
      history: [...history],
      usage: { ...this.usage },
      unread: this.inbox.read(),
    };
  }
}
