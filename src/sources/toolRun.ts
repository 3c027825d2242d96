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
import { admit } from '../operators/admit.js';
import { ownError } from './callScope.js';
import { checkContext } from './checks.js';
import { graceWithin } from './grace.js';
import { ToolInputError, ToolOutputError, type VersionConflictError } from './errors.js';
import { parse, type Parsed } from './parse.js';
import { Call } from './toolCall.js';
import type { ToolDefinition } from './toolDefinition.js';
import { behindGates, type ToolRules } from './toolGates.js';
import { ConflictRetries, type Chat, type Version } from './versions.js';
import { problemsOf } from './words.js';

/** How far a call got; where it was when it failed. */
export type ToolPhase = 'input' | 'gate' | 'run' | 'output' | 'timeout';

/** What the attempts of one call share. */
export class Invocation {
  attempts = 0;
  private key: string | undefined;
  /** Makes an attempt wait until the one before it, when that was told to stop, is over. */
  readonly work: CallObservable<unknown>;
  readonly options: ScopeOptions;

  constructor(
    readonly definition: ToolDefinition,
    readonly input: unknown,
    within: ScopeContext | undefined,
    id?: string,
    readonly rules: ToolRules = {},
    readonly chat?: Chat | undefined,
  ) {
    const { name: label } = definition;
    const graceMs = within === undefined ? definition.graceMs : graceWithin(within, definition.graceMs, this.timeoutMs);
    const limits = graceMs === undefined ? { label } : { label, graceMs };
    this.options = within === undefined ? limits : { ...limits, within };
    this.key = id;
    const run = (): Observable<unknown> => current().run();
    this.work = new CallObservable<unknown>(undefined, run, { label: definition.name });
  }

  get id(): string {
    return (this.key ??= crypto.randomUUID());
  }

  get timeoutMs(): number | undefined {
    return this.definition.timeoutMs ?? this.rules.timeoutMs;
  }
}

/** One attempt of a call: a scope of its own, in which `run` is one call, under the timeout of the tool. */
export abstract class ToolRun<R> extends OutputScope<unknown, R> {
  phase: ToolPhase = 'input';
  attempt: number;
  /** Whether gates stand in front of the work. */
  protected gated = false;
  private parsed: unknown = undefined;
  /** What a person has put in the place of the model's input. */
  protected edited: { readonly edited?: unknown } = {};
  /** What `versionOf` said. */
  private key: string | undefined = undefined;
  /** The version that a conflict has shown. */
  private newer: Version | undefined = undefined;
  private noted: Version | undefined = undefined;

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

  protected get rules(): ToolRules {
    return this.invocation.rules;
  }

  start(): void {
    const { timeoutMs } = this.invocation;
    if (timeoutMs !== undefined) this.setDeadline(timeoutMs);
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

  /** Behind gates the time of the tool begins when it has passed them, and a timeout is something that they hear of. */
  private guarded(): Observable<unknown> {
    const { definition, timeoutMs, id, input: said, chat } = this.invocation;
    const work = this.versioned();
    const edited = (input: unknown, instead: unknown): void => {
      this.parsed = input;
      this.edited = { edited: instead };
    };
    const asking = (request: string): void => this.tellAsking(said, request);
    const waiting = (keys: readonly string[]): void => this.tellWaiting('resources', keys);
    const call = { id, said, input: this.parsed, chat, scope: this, graceMs: this.env.graceMs, edited, asking, waiting };
    this.phase = 'gate';
    const gated = behindGates(definition, this.rules, call, work);
    if (gated === undefined) this.phase = 'input';
    else if (timeoutMs !== undefined) this.setDeadline(null);
    this.gated = gated !== undefined;
    return gated ?? work;
  }

  /** The work; where versions are compared, a conflict may be met with another run. */
  private versioned(): Observable<unknown> {
    const { definition, work, chat } = this.invocation;
    if (definition.versionOf === undefined) return work;
    const retries = new ConflictRetries(definition.conflictRetries, (error, again) => {
      this.newer = error.version;
      if (!again && this.key !== undefined) chat?.versions.met(this.key, error.version);
      this.tellConflict(error, again);
    });
    return work.pipe(admit(retries, undefined));
  }

  get version(): Version | undefined {
    const { key, newer } = this;
    return newer ?? (key === undefined ? undefined : this.invocation.chat?.versions.get(key));
  }

  noteVersion(version: Version): void {
    this.noted = version;
  }

  /** The call has succeeded: the model gets to know what was read or written. */
  protected keepVersion(): void {
    const { key, noted } = this;
    const { chat, definition } = this.invocation;
    if (key === undefined || noted === undefined) return;
    if (definition.effect === 'none') chat?.versions.read(key, noted);
    else chat?.versions.wrote(key, noted);
  }

  /** A person is about to be asked. */
  protected tellAsking(_input: unknown, _request: string): void {}

  /** Others hold what it needs. */
  protected tellWaiting(_for: 'resources', _on: readonly string[]): void {}

  /** Somebody else has written since the version that the call is based on. */
  protected tellConflict(_error: VersionConflictError, _again: boolean): void {}

  /** Runs the tool, unless whoever heard that it is about to start has stopped it. */
  run(): Observable<unknown> {
    if (this.ran) this.attempt = ++this.invocation.attempts;
    this.tellStarted(this.parsed);
    if (this.state >= CANCELLING) return EMPTY;
    this.phase = 'run';
    this.key = this.invocation.definition.versionOf?.(this.parsed);
    this.noted = undefined;
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
