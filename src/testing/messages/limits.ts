/** A token bucket: `limit` at once, refilled evenly so that `limit` come back in `perMs`. */
export interface RateLimit {
  readonly limit: number;
  readonly perMs: number;
}

/** The limits of the API, each optional. */
export interface RateLimits {
  readonly requests?: RateLimit;
  /** Input tokens (cache reads are not counted), taken when the request arrives. */
  readonly inputTokens?: RateLimit;
  /** Output tokens, taken when a reply is over: a request is refused while the bucket is empty; `max_tokens` plays no part. */
  readonly outputTokens?: RateLimit;
}

export interface Refusal {
  readonly message: string;
  /** Whole seconds, at least 1, as the API says it. */
  readonly retryAfter: number;
}

interface Bucket {
  readonly name: string;
  readonly unit: string;
  readonly limit: number;
  readonly perMs: number;
  level: number;
  at: number;
}

/** Three buckets, in pure arithmetic: whoever asks brings the time. */
export interface Limiter {
  /** Takes one request and its input tokens, or nothing at all and says when to come back. */
  admit(inputTokens: number, now: number): Refusal | undefined;
  spendOutput(tokens: number, now: number): void;
  /** The `anthropic-ratelimit-*` headers; `wallClock` is the Date that `now` stands for. */
  headers(now: number, wallClock: number): Readonly<Record<string, string>>;
}

export function makeLimiter(limits: RateLimits, now: number): Limiter {
  const requests = bucketOf('requests', 'requests', limits.requests, now);
  const input = bucketOf('input-tokens', 'input tokens', limits.inputTokens, now);
  const output = bucketOf('output-tokens', 'output tokens', limits.outputTokens, now);
  const all = [requests, input, output].filter((bucket) => bucket !== undefined);
  return {
    admit: (inputTokens, at) => {
      all.forEach((bucket) => refill(bucket, at));
      const needs = [need(requests, 1), need(input, inputTokens), need(output, 1)].filter((refusal) => refusal !== undefined);
      if (needs.length > 0) return needs.reduce((worst, refusal) => (refusal.retryAfter > worst.retryAfter ? refusal : worst));
      if (requests) requests.level -= 1;
      if (input) input.level -= inputTokens;
      return undefined;
    },
    spendOutput: (tokens, at) => {
      if (!output) return;
      refill(output, at);
      output.level -= tokens;
    },
    headers: (at, wallClock) => {
      all.forEach((bucket) => refill(bucket, at));
      const tokens = [input, output].filter((bucket) => bucket !== undefined);
      return Object.assign(
        {},
        ...all.map((bucket) => headersOf(bucket.name, [bucket], wallClock)),
        headersOf('tokens', tokens, wallClock),
      ) as Record<string, string>;
    },
  };
}

function bucketOf(name: string, unit: string, limit: RateLimit | undefined, now: number): Bucket | undefined {
  return limit && { name, unit, ...limit, level: limit.limit, at: now };
}

function refill(bucket: Bucket, now: number): void {
  bucket.level = Math.min(bucket.limit, bucket.level + ((now - bucket.at) * bucket.limit) / bucket.perMs);
  bucket.at = now;
}

function need(bucket: Bucket | undefined, amount: number): Refusal | undefined {
  if (!bucket || bucket.level >= amount) return undefined;
  const missing = Math.min(amount, bucket.limit) - bucket.level;
  const per = bucket.perMs === 60_000 ? 'minute' : `${bucket.perMs} ms`;
  return {
    message: `This request would exceed your organization's rate limit of ${bucket.limit} ${bucket.unit} per ${per}. See the response headers for current usage.`,
    retryAfter: Math.max(1, Math.ceil((missing * bucket.perMs) / bucket.limit / 1000)),
  };
}

function headersOf(name: string, buckets: readonly Bucket[], wallClock: number): Record<string, string> {
  if (buckets.length === 0) return {};
  const sum = (pick: (bucket: Bucket) => number): number => buckets.reduce((total, bucket) => total + pick(bucket), 0);
  const untilFull = Math.max(...buckets.map((bucket) => ((bucket.limit - bucket.level) * bucket.perMs) / bucket.limit));
  return {
    [`anthropic-ratelimit-${name}-limit`]: String(sum((bucket) => bucket.limit)),
    [`anthropic-ratelimit-${name}-remaining`]: String(sum((bucket) => Math.max(0, Math.floor(bucket.level)))),
    [`anthropic-ratelimit-${name}-reset`]: new Date(wallClock + untilFull).toISOString(),
  };
}
