import type { z } from 'zod';

export type Parsed = z.ZodSafeParseResult<unknown>;

/** A promise only if the schema has asynchronous parts. */
export function parse(schema: z.ZodType, value: unknown): Parsed | Promise<Parsed> {
  try {
    return schema.safeParse(value);
  } catch (error) {
    if ((error as Error | null)?.constructor.name !== '$ZodAsyncError') throw error;
    return schema.safeParseAsync(value);
  }
}
