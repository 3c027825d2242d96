import { of, type Observer } from 'rxjs';
import type { MessageUsage } from '../gates/prices.js';
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
   * `final`: the reply is complete. `cancelled`: it was stopped. `truncated`: it broke off. `failed`: the API refused it, or reported an error.
   * `never-sent`: it did not get as far as the API.
   */
  readonly phase: 'final' | 'cancelled' | 'truncated' | 'failed' | 'never-sent';
  /** Whether the counts are final. */
  readonly exact: boolean;
  /** Input that was neither read from nor written to the cache. */
  readonly inputTokens: number;
  readonly cacheReadTokens: number;
  readonly cacheWriteTokens: number;
  /** At least so many tokens of output were billed, by what the API said; probably, by what arrived; and at most, by `max_tokens`. */
  readonly outputTokens: { readonly floor: number; readonly estimate: number; readonly ceiling: number };
  readonly usage: MessageUsage;
}

const CHARS_PER_TOKEN = 3.5;

/** The usage of one attempt while it runs. */
export class UsageMeter {
  private readonly totals = new ModelUsage();
  private usage: MessageUsage | undefined = undefined;
  private chars = 0;
  private told = false;
  requestId: string | null = null;
  /** Whether the API has answered. */
  answered = false;

  constructor(
    private readonly to: Partial<Observer<UsageRecord>> | undefined,
    private readonly params: MessageParams,
    private readonly who: Pick<UsageRecord, 'label' | 'path' | 'attempt'>,
  ) {}

  /** Takes an event of the stream, or the whole reply. */
  take(value: unknown): void {
    if (this.to === undefined) return;
    this.usage = this.totals.read(value) ?? this.usage;
    const { delta } = value as { delta?: { text?: string; thinking?: string; partial_json?: string } };
    if (delta !== undefined) this.chars += (delta.text ?? delta.thinking ?? delta.partial_json ?? '').length;
  }

  /** An observer that throws is reported as uncaught: the request has nothing to do with it. */
  end(phase: UsageRecord['phase']): void {
    const { to, told, who, params, requestId } = this;
    if (told || to === undefined) return;
    this.told = true;
    of({ ...who, model: params.model, requestId, phase, ...this.counts(phase) }).subscribe((record) => to.next?.(record));
  }

  private counts(phase: UsageRecord['phase']): Pick<UsageRecord, 'exact' | 'usage' | (`${string}Tokens` & keyof UsageRecord)> {
    const usage = this.usage ?? {};
    const floor = usage.output_tokens ?? 0;
    const nothing = phase === 'never-sent' || (phase === 'failed' && this.usage === undefined);
    const exact = phase === 'final' || nothing;
    const ceiling = nothing ? 0 : Math.max(floor, this.params.max_tokens);
    const estimate = Math.min(ceiling, Math.max(floor, Math.ceil(this.chars / CHARS_PER_TOKEN)));
    return {
      exact,
      inputTokens: usage.input_tokens ?? 0,
      cacheReadTokens: usage.cache_read_input_tokens ?? 0,
      cacheWriteTokens: usage.cache_creation_input_tokens ?? 0,
      outputTokens: exact ? { floor, estimate: floor, ceiling: floor } : { floor, estimate, ceiling },
      usage,
    };
  }
}
