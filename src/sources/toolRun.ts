import { concatMap, defaultIfEmpty, EMPTY, from, isObservable, map, type Observable, of, throwError } from 'rxjs';
import type { z } from 'zod';
import { ambient } from '../core/ambient.js';
import { CallObservable, innermost } from '../core/call.js';
import { DirectObservable, type Sink } from '../core/direct.js';
import { isPromiseLike } from '../core/lease.js';
import { CANCELLING } from '../core/node.js';
import type { ScopeOptions } from '../core/options.js';
import { OutputScope } from '../core/output.js';
import type { ScopeBase } from '../core/scope.js';
import type { CancelReason, ScopeContext } from '../core/types.js';
import { failWithin } from '../operators/failWithin.js';
import type { Guard } from '../operators/guard.js';
import { ownError } from './callScope.js';
import { checkContext } from './checks.js';
import { ToolInputError, ToolOutputError } from './errors.js';
import { parse, type Parsed } from './parse.js';
import { Call } from './toolCall.js';
import type { ToolEffect } from './tool.js';
import type { ToolDefinition } from './toolDefinition.js';
import { problemsOf } from './words.js';

/** How far a call got; where it was when it failed. */
export type ToolPhase = 'input' | 'gate' | 'run' | 'output' | 'timeout';

/** A call that asks its guard to pass. */
export interface ToolRequest {
  /** The id of the `tool_use` block; a random one for a call by hand. */
  readonly id: string;
  readonly name: string;
  /** The parsed input. */
  readonly input: unknown;
  readonly effect: ToolEffect;
}

/** What the attempts of one call share. */
export class Invocation {
  attempts = 0;
  private key: string | undefined;
  /** Makes an attempt wait until the one before it, when that was told to stop, is over. */
  readonly work: CallObservable<unknown>;
  readonly options: ScopeOptions;
  readonly guard: Guard<ToolRequest> | undefined;
  readonly timeoutMs: number | undefined;

  constructor(
    readonly definition: ToolDefinition,
    readonly input: unknown,
    within: ScopeContext | undefined,
    id?: string,
    rules: { readonly guard?: Guard<ToolRequest> | undefined; readonly timeoutMs?: number | undefined } = {},
  ) {
    const { name: label, graceMs } = definition;
    this.guard = rules.guard;
    this.timeoutMs = definition.timeoutMs ?? rules.timeoutMs;
    const limits = graceMs === undefined ? { label } : { label, graceMs };
    this.options = within === undefined ? limits : { ...limits, within };
    this.key = id;
    const run = (): Observable<unknown> => current().run();
    this.work = new CallObservable<unknown>(undefined, run, { label: definition.name });
  }

  get id(): string {
    return (this.key ??= crypto.randomUUID());
  }
}

/** One attempt of a call: a scope of its own, in which `run` is one call, under the timeout of the tool. */
export abstract class ToolRun<R> extends OutputScope<unknown, R> {
  phase: ToolPhase = 'input';
  attempt: number;
  private parsed: unknown = undefined;

  constructor(
    out: Sink<R>,
    readonly invocation: Invocation,
  ) {
    super(out, invocation.options);
    this.attempt = ++invocation.attempts;
  }

  /** Whether `run` was called. */
  get ran(): boolean {
    return this.phase !== 'input' && this.phase !== 'gate';
  }

  start(): void {
    const { guard, timeoutMs } = this.invocation;
    if (guard === undefined && timeoutMs !== undefined) this.setDeadline(timeoutMs);
    this.begin(() => this.body());
  }

  private body(): Observable<unknown> {
    const { definition, input } = this.invocation;
    const parsed = parse(definition.input, input);
    if (!(parsed instanceof Promise)) return this.checked(parsed);
    return this.call(() => parsed, { label: `input of ${definition.name}` }).pipe(concatMap((each) => this.checked(each)));
  }

  private checked(parsed: Parsed): Observable<unknown> {
    const { definition } = this.invocation;
    if (!parsed.success)
      return throwError(() => new ToolInputError(definition.name, problemsOf(parsed.error.issues), { cause: parsed.error }));
    this.parsed = parsed.data;
    const work = this.guarded();
    return definition.output === undefined ? work : work.pipe(defaultIfEmpty(undefined), checkOutput(this, definition.output));
  }

  /** Behind a guard the time of the tool begins when it has passed, and a timeout is something that the guard hears of. */
  private guarded(): Observable<unknown> {
    const { definition, guard, timeoutMs, work, id } = this.invocation;
    if (guard === undefined) return work;
    const { name, effect } = definition;
    this.phase = 'gate';
    const timed = timeoutMs === undefined ? work : work.pipe(failWithin(timeoutMs, { graceMs: this.env.graceMs }));
    return timed.pipe(guard({ id, name, effect, input: this.parsed }, this));
  }

  /** Runs the tool, unless whoever heard that it is about to start has stopped it. */
  run(): Observable<unknown> {
    if (this.ran) this.attempt = ++this.invocation.attempts;
    this.tellStarted(this.parsed);
    if (this.state >= CANCELLING) return EMPTY;
    this.phase = 'run';
    return unwrap(this.invocation.definition.run(this.parsed, new Call(this, innermost(undefined) as ScopeBase)));
  }

  /** The input is fine and `run` is about to be called. */
  protected tellStarted(_input: unknown): void {}

  /** The tool said how far it is. */
  tellProgress(_value: unknown): void {}
}

/** The attempt in whose synchronous subscribe chain the work is started. */
function current(): ToolRun<unknown> {
  for (let node = ambient.scope; node !== undefined; node = node.up) if (node instanceof ToolRun) return node as ToolRun<unknown>;
  throw new TypeError('unreachable: the work of a tool runs in an attempt');
}

/** A call whose values and errors come out as they are. */
class PlainRun extends ToolRun<unknown> {
  next(value: unknown): void {
    if (this.state < CANCELLING) this.emit(value);
  }

  protected override conclude(reason: CancelReason | undefined): void {
    const own = ownError(this.report(), reason);
    if (own === undefined) super.conclude(reason);
    else this.out.error(own.error);
  }
}

/** A cold Observable of one call by hand: every subscription is an attempt. */
export function invoke(definition: ToolDefinition, input: unknown, ctx: ScopeContext | undefined): Observable<unknown> {
  checkContext(definition.name, ctx);
  const invocation = new Invocation(definition, input, ctx);
  return new DirectObservable((sink) => new PlainRun(sink, invocation).start());
}

/** What a `run` returned, as something to follow: a promise, an Observable or an async iterable; anything else is one value. */
function unwrap(result: unknown): Observable<unknown> {
  if (isObservable(result)) return result;
  if (isPromiseLike(result) || isAsyncIterable(result)) return result as Observable<unknown>;
  return of(result);
}

function isAsyncIterable(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Symbol.asyncIterator in value;
}

function checkOutput(run: ToolRun<never>, schema: z.ZodType): (source: Observable<unknown>) => Observable<unknown> {
  const checked = (parsed: Parsed): unknown => {
    if (parsed.success) return parsed.data;
    run.phase = 'output';
    throw new ToolOutputError(run.invocation.definition.name, problemsOf(parsed.error.issues), { cause: parsed.error });
  };
  return concatMap((value: unknown) => {
    const parsed = parse(schema, value);
    return parsed instanceof Promise ? from(parsed).pipe(map(checked)) : of(checked(parsed));
  });
}
