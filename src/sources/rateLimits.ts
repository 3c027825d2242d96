import type { Middleware } from '@anthropic-ai/sdk';
import { retryAfterOf } from '../gates/classifyError.js';
import type { TokenBucket } from '../gates/tokenBucket.js';

/** The names of the API's limits in its headers, and how a bucket's limit has to be called to follow one. */
const LIMITS = { requests: 'requests', 'input-tokens': 'inputTokens', 'output-tokens': 'outputTokens', tokens: 'tokens' } as const;

interface Feedback {
  readonly remaining: number;
  readonly resetMs: number;
}

/**
 * Lets a bucket follow the server: a middleware for the Anthropic client that reads the rate-limit headers of every HTTP attempt.
 *
 * *When to use*: in a client of your own, when requests go out that `modelGuard` does not see. A `modelGuard` brings it along.
 *
 * The limits of the bucket that are called `requests`, `inputTokens`, `outputTokens` and `tokens` follow the headers of these names; a bucket with
 * a single limit is left alone, for nobody knows what it counts. A 429 with `retry-after` pauses the bucket for that long.
 *
 * @param bucket - the bucket, or a function that picks one for the parameters of a request
 * @returns a middleware that changes nothing in what it passes on
 */
export function rateLimitMiddleware(bucket: TokenBucket | ((params: never) => TokenBucket | undefined)): Middleware {
  return async (request, next, { options }) => {
    const chosen = typeof bucket === 'function' ? bucket(options?.body as never) : bucket;
    if (chosen === undefined) return next(request);
    const sentSeq = chosen.seq;
    const response = await next(request);
    follow(chosen, response, sentSeq);
    return response;
  };
}

function follow(bucket: TokenBucket, { status, headers }: Response, sentSeq: number): void {
  const limits = feedbackOf(headers);
  const names = Object.keys(bucket.snapshot().limits);
  const told = names.length > 1 && names.some((name) => limits[name] !== undefined);
  if (told) bucket.sync({ limits, sentSeq });
  if (status !== 429) return;
  const pauseMs = retryAfterOf({ headers }, Date.now());
  if (pauseMs !== undefined && pauseMs > 0) bucket.pause(pauseMs, `the server answered 429 with retry-after`);
  else if (!told) bucket.drain({ sentSeq });
}

/** What the headers say, as far as it makes sense: they come from outside. */
function feedbackOf(headers: Headers): Record<string, Feedback | undefined> {
  const limits: Record<string, Feedback | undefined> = {};
  // Both times are the server's: what the clock here says does not matter.
  const date = Date.parse(headers.get('date') ?? '');
  const now = Number.isNaN(date) ? Date.now() : date;
  for (const [header, name] of Object.entries(LIMITS)) {
    const remaining = Number(headers.get(`anthropic-ratelimit-${header}-remaining`) ?? Number.NaN);
    const resetMs = Date.parse(headers.get(`anthropic-ratelimit-${header}-reset`) ?? '') - now;
    if (Number.isSafeInteger(remaining) && remaining >= 0) limits[name] = { remaining, resetMs: resetMs > 0 ? Math.floor(resetMs) : 0 };
  }
  return limits;
}
