import type { RateLimit, RateLimits } from './limits.js';
import type { Pace, Script } from './reply.js';

export interface MessagesServerOptions {
  /** What it answers. */
  readonly script: Script;
  /** The key that clients must send; any key, or none, will do without it. */
  readonly apiKey?: string;
  /** Whether requests are checked as strictly as the API does. Default true. */
  readonly validate?: boolean;
  /** Token buckets behind the `anthropic-ratelimit-*` headers and the 429s. Default: no limits, no headers. */
  readonly rateLimits?: RateLimits;
  /** The pace of every reply that does not say otherwise. Default: as fast as possible. */
  readonly pace?: Pace;
  /**
   * What happens to a reply whose client has gone: the model stops (`stop`, the default), or finishes it (`finish`), as providers do that bill the
   * whole completion: then what was left of it counts as `tokensForNobody` and against the rate limit.
   */
  readonly whenClientLeaves?: 'stop' | 'finish';
  /** The largest body in bytes, beyond which it answers 413. Default 32 MB. */
  readonly maxBodyBytes?: number;
  /** How many requests `requests` remembers, the latest first to stay. Default 1000. */
  readonly logSize?: number;
}

/** Bad options fail where they are given. */
export function checkOptions({ script, pace = {}, rateLimits = {}, maxBodyBytes, logSize }: MessagesServerOptions): void {
  if (typeof script !== 'function' && !Array.isArray(script)) throw new TypeError('`script` must be a function or a list of replies.');
  checkPace(pace);
  atLeast('maxBodyBytes', maxBodyBytes, 1);
  atLeast('logSize', logSize, 1);
  for (const [name, limit] of Object.entries(rateLimits) as [string, RateLimit][]) {
    atLeast(`rateLimits.${name}.limit`, limit.limit, 1);
    atLeast(`rateLimits.${name}.perMs`, limit.perMs, 1);
  }
}

export function checkPace({ headersMs, eventMs, deltaMs, pingMs, chunkChars }: Pace): void {
  atLeast('pace.headersMs', headersMs, 0);
  atLeast('pace.eventMs', eventMs, 0);
  atLeast('pace.deltaMs', deltaMs, 0);
  atLeast('pace.pingMs', pingMs, 1);
  atLeast('pace.chunkChars', chunkChars, 1);
}

function atLeast(name: string, value: number | undefined, least: number): void {
  if (value !== undefined && !(value >= least)) throw new RangeError(`\`${name}\` must be a number of at least ${least}, not ${value}.`);
}
