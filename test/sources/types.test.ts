import { EMPTY, of, type Observable } from 'rxjs';
import type { ScopeContext } from 'rxfleet';
import { agent, fromTool, tool, type AgentEvent, type AnyTool, type Tool, type ToolEvent } from 'rxfleet/agents';
import { describe, expectTypeOf, it } from 'vitest';
import { z } from 'zod';

const base = { name: 't', description: '' };
const input = z.object({ n: z.coerce.number().default(1), s: z.string().transform((s) => s.length) });

describe('types', () => {
  it('callers give what goes in, run gets what comes out', () => {
    const made = tool({
      ...base,
      input,
      run: (given, call) => {
        expectTypeOf(given).toEqualTypeOf<{ n: number; s: number }>();
        expectTypeOf(call.signal).toEqualTypeOf<AbortSignal>();
        return given.n;
      },
    });
    expectTypeOf(made).parameter(0).toEqualTypeOf<{ n?: unknown; s: string }>();
    expectTypeOf(made).parameter(1).toEqualTypeOf<ScopeContext | undefined>();
  });

  it('unwraps promises, Observables and async iterables, and nothing else', () => {
    const of1 = <R>(run: () => R) => tool({ ...base, input, run });
    expectTypeOf(of1(() => 'x')).returns.toEqualTypeOf<Observable<string>>();
    expectTypeOf(of1(async () => 1)).returns.toEqualTypeOf<Observable<number>>();
    expectTypeOf(of1(() => of(1))).returns.toEqualTypeOf<Observable<number>>();
    expectTypeOf(of1(() => [1])).returns.toEqualTypeOf<Observable<number[]>>();
    expectTypeOf(
      of1(async function* () {
        yield 'x';
      }),
    ).returns.toEqualTypeOf<Observable<string>>();
    expectTypeOf(of1(() => (Math.random() > 2 ? Promise.resolve(1) : 'x'))).returns.toEqualTypeOf<Observable<number | 'x'>>();
  });

  it('an output schema types run and the result', () => {
    const output = z.object({ text: z.string().transform(Number) });
    const made = tool({ ...base, input, output, run: async () => ({ text: '5' }) });
    expectTypeOf(made).returns.toEqualTypeOf<Observable<{ text: number }>>();
    // @ts-expect-error: what run returns does not fit the schema
    tool({ ...base, input, output, run: async () => ({ text: 5 }) });
  });

  it('refuses calls that do not fit', () => {
    const made = tool({ ...base, input, run: () => 1 });
    // @ts-expect-error: a wrong field
    made({ s: 5 });
    // @ts-expect-error: no input
    (() => made())();
  });

  it('any tool goes into a list, and into an agent', () => {
    const one = tool({ ...base, input, run: () => 1 });
    const two = tool({ ...base, input: z.object({}), output: z.string(), run: () => 'x' });
    const tools: AnyTool[] = [one, two];
    expectTypeOf(agent).parameter(0).toHaveProperty('tools').extract<readonly unknown[]>().toExtend<readonly unknown[]>();
    expectTypeOf(tools).items.toEqualTypeOf<Tool<never, unknown>>();
    expectTypeOf<ReturnType<typeof agent>>().toEqualTypeOf<Observable<AgentEvent>>();
  });

  it('events have the type of the output', () => {
    const made = tool({ ...base, input, run: () => 'x' });
    expectTypeOf(fromTool(made, { id: '', name: '', input: {} })).toEqualTypeOf<Observable<ToolEvent<string>>>();
    expectTypeOf(fromTool([made], { id: '', name: '', input: {} })).toEqualTypeOf<Observable<ToolEvent>>();
    expectTypeOf(EMPTY).toExtend<Observable<never>>();
  });
});
