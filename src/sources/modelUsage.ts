import type { MessageUsage } from '../gates/prices.js';

interface Carrier {
  readonly type?: unknown;
  readonly usage?: MessageUsage | null;
  readonly message?: { readonly usage?: MessageUsage | null };
}

/**
 * The usage of one request as its values tell it: a whole reply at once, or the events of a stream, of which `message_start` has the
 * input side and `message_delta` running totals that take the place of what was known before.
 */
export class ModelUsage {
  private known: MessageUsage = {};

  /** The running totals after a value; undefined if it tells nothing of them. */
  read(value: unknown): MessageUsage | undefined {
    const { type, usage, message } = (typeof value === 'object' && value !== null ? value : {}) as Carrier;
    const told = type === 'message_start' ? message?.usage : usage;
    if (typeof told !== 'object' || told === null) return undefined;
    this.known = { ...this.known, ...Object.fromEntries(Object.entries(told).filter(([, each]) => each !== null && each !== undefined)) };
    return this.known;
  }
}
