import type { Middleware } from '@anthropic-ai/sdk';
import { of, type Observer } from 'rxjs';
import { costsNothing } from '../gates/budgetCharge.js';
import type { MessageUsage } from '../gates/prices.js';
import { attend } from '../operators/admission.js';
import type { Work } from '../operators/work.js';
import { phaseOf, requestIdOf } from './modelErrors.js';
import { ModelUsage } from './modelUsage.js';
import type { MessageParams } from './request.js';

/** What one HTTP attempt used: told exactly once, however it ended, also when nobody listens to the reply any more. */
export interface UsageRecord {
  readonly model: string;
  /** Name of the call. */
  readonly label: string;
  /** Labels from the root scope down to the call. */
  readonly path: readonly string[];
  /** 1 for the first time that this request was sent. */
  readonly attempt: number;
  readonly requestId: string | null;
  /**
   * `final`: the reply is complete. `cancelled`: it was stopped. `truncated`: it broke off, perhaps before any answer. `failed`: the API refused
   * it, or reported an error. `never-sent`: it did not get as far as the API.
   */
  readonly phase: 'final' | 'cancelled' | 'truncated' | 'failed' | 'never-sent';
  /**
   * Whether the counts are final: of a complete reply, and of what has cost nothing, for it was not sent or was refused before any work (4xx, 429,
   * 529, and 503 with retry-after). What failed in any other way may have been worked on.
   */
  readonly exact: boolean;
  /** Input that was neither read from nor written to the cache. 0 while the API has not told. */
  readonly inputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** At least so many tokens of output were billed, by what the API said; probably, by what arrived; and at most, by `max_tokens`. */
  readonly outputTokens: { readonly floor: number; readonly estimate: number; readonly ceiling: number };
  readonly usage: MessageUsage;
}

const CHARS_PER_TOKEN = 3.5;

/** One attempt while it runs: how far it has come, for the gates around it, and what it has used. */
export class UsageMeter implements Work {
  private readonly totals = new ModelUsage();
  private usage: MessageUsage | undefined = undefined;
  private chars = 0;
  private told = false;
  private requestId: string | null = null;
  /** Whether the API has answered. */
  answered = false;
  done = false;
  finishing = false;
  private readonly gates: ((value: unknown) => void) | undefined = attend(this);

  /** `begun`: whether the request may go out without `hook`, as nobody knows what the client does. */
  constructor(
    private readonly to: Partial<Observer<UsageRecord>> | undefined,
    private readonly params: MessageParams,
    private readonly who: Pick<UsageRecord, 'label' | 'path' | 'attempt'>,
    public begun: boolean,
  ) {}

  /** The last that runs before the client calls `fetch`, which it does not any more for a request that was stopped. */
  hook(signal: AbortSignal): Middleware {
    return (request, next) => {
      if (signal.aborted) return Promise.reject(signal.reason as Error);
      this.begun = true;
      return next(request);
    };
  }

  /** The headers of the response are there. */
  answer(requestId: string | null): void {
    this.begun = this.answered = true;
    this.requestId = requestId;
  }

  /** Takes an event of the stream, or the whole reply. */
  take(value: unknown): void {
    if (this.finishing) this.gates?.(value);
    if (this.to === undefined) return;
    this.usage = this.totals.read(value) ?? this.usage;
    if (typeof value !== 'object' || value === null) return;
    const { delta } = value as { delta?: { text?: string; thinking?: string; partial_json?: string } };
    if (delta !== undefined) this.chars += (delta.text ?? delta.thinking ?? delta.partial_json ?? '').length;
  }

  /** The reply is complete. */
  complete(): void {
    this.done = true;
    this.end('final', true);
  }

  /** If the subscriber leaves before it gets its reply, what that has used is known nevertheless. */
  keep(reply: unknown, signal: AbortSignal): void {
    const { gates } = this;
    if (gates !== undefined) signal.addEventListener('abort', () => gates(reply), { once: true });
  }

  /** The request was stopped. */
  cancel(): void {
    this.end(this.begun ? 'cancelled' : 'never-sent', !this.begun);
  }

  /** The request was refused, or broke off. */
  fail(error: unknown): void {
    const phase = phaseOf(error, this);
    this.requestId ??= requestIdOf(error);
    const free = phase === 'never-sent' || (phase === 'failed' && this.usage === undefined && costsNothing(error));
    // Nobody hears of the error of a request that is read on: for the gates it is as if it had not been sent.
    if (this.finishing && free) this.begun = false;
    this.end(phase, free);
  }

  /** An observer that throws is reported as uncaught: the request has nothing to do with it. */
  private end(phase: UsageRecord['phase'], exact: boolean): void {
    const { to, told, who, params, requestId } = this;
    if (told || to === undefined) return;
    this.told = true;
    of({ ...who, model: params.model, requestId, phase, exact, ...this.counts(exact) }).subscribe((record) => to.next?.(record));
  }

  private counts(exact: boolean): Pick<UsageRecord, 'usage' | (`${string}Tokens` & keyof UsageRecord)> {
    const usage = this.usage ?? {};
    const floor = usage.output_tokens ?? 0;
    const ceiling = Math.max(floor, this.params.max_tokens);
    const estimate = Math.min(ceiling, Math.max(floor, Math.ceil(this.chars / CHARS_PER_TOKEN)));
    return {
      inputTokens: usage.input_tokens ?? 0,
      cacheReadTokens: usage.cache_read_input_tokens ?? 0,
      cacheWriteTokens: usage.cache_creation_input_tokens ?? 0,
      outputTokens: exact ? { floor, estimate: floor, ceiling: floor } : { floor, estimate, ceiling },
      usage,
    };
  }
}
