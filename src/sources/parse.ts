import { z } from 'zod';

export type Parsed = z.ZodSafeParseResult<unknown>;

/** Parses once. A promise only if the schema has asynchronous parts, which `safeParse` would have to start twice to find out. */
export function parse(schema: z.ZodType, value: unknown): Parsed | Promise<Parsed> {
  const ctx: z.core.ParseContextInternal = { async: true };
  const ran = schema._zod.run({ value, issues: [] }, ctx);
  return ran instanceof Promise ? ran.then((payload) => parsed(payload, ctx)) : parsed(ran, ctx);
}

function parsed({ value, issues }: z.core.ParsePayload, ctx: z.core.ParseContextInternal): Parsed {
  if (issues.length === 0) return { success: true, data: value };
  const finished = issues.map((issue) => z.core.util.finalizeIssue(issue, ctx, z.core.config()));
  return { success: false, error: new z.ZodError(finished) };
}
