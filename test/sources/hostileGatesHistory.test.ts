import fc from 'fast-check';
import { repairHistory, type HistoryRepair } from 'rxfleet/agents';
import { describe, expect, it } from 'vitest';
import { checkHistory, type CheckedMessage } from '../../src/testing/messages/validateHistory.js';
import type { MessageParam } from './harness.js';

const text = fc.constantFrom('hi', 'there', ' ', '').map((said) => ({ type: 'text', text: said }));
const id = fc.constantFrom('a', 'b', 'a_2', 'c', 'über', '', 'x'.repeat(70));
const block = fc.oneof(
  text,
  fc.record({ type: fc.constant('tool_use'), id, name: fc.constant('t'), input: fc.constantFrom<unknown>({}, [], null, 'x', { k: 1 }) }),
  fc.record({
    type: fc.constant('tool_result'),
    tool_use_id: id,
    content: fc.constantFrom<unknown>('r', '', undefined, []),
    is_error: fc.constantFrom(true, false, undefined),
  }),
  fc.record({ type: fc.constant('server_tool_use'), id, name: fc.constant('web_search'), input: fc.constant({}) }),
  fc.record({ type: fc.constant('web_search_tool_result'), tool_use_id: id, content: fc.constant([]) }),
  fc.record({ type: fc.constant('thinking'), thinking: fc.constant('hm'), signature: fc.constantFrom('signed', '') }),
  fc.constant({ type: 'redacted_thinking', data: 'blob' }),
);
const message = fc.record({
  role: fc.constantFrom('user', 'assistant'),
  content: fc.oneof(
    { weight: 1, arbitrary: fc.constantFrom('said', ' ', '') },
    { weight: 5, arbitrary: fc.array(block, { maxLength: 6, size: 'max' }) },
  ),
});
const histories = fc.array(message, { maxLength: 8, size: 'max' }) as fc.Arbitrary<unknown> as fc.Arbitrary<MessageParam[]>;

const memory = { signed: new Map([['signed', 'hm']]), redacted: new Set(['blob']), thoughtful: new Set<string>() };
const problems = (messages: readonly MessageParam[]): string[] => [
  ...checkHistory(messages as unknown as readonly CheckedMessage[], memory, false),
];

describe('repairHistory of foreign histories', () => {
  it('the result passes the strict validator, is stable, and the given history is left as it is', () => {
    fc.assert(
      fc.property(histories, (history) => {
        const before = JSON.stringify(history);
        const { messages } = repairHistory(history);
        expect(problems(messages)).toEqual([]);
        expect(messages.every(({ content }) => (typeof content === 'string' ? content.trim() !== '' : content.length > 0))).toBe(true);
        const again = repairHistory(messages);
        expect(again.repairs).toEqual([]);
        expect(again.messages).toHaveLength(messages.length);
        again.messages.forEach((each, i) => expect(each).toBe(messages[i]));
        expect(JSON.stringify(history)).toBe(before);
      }),
      { numRuns: 3_000 },
    );
  });

  it('where it notes nothing it has changed nothing', () => {
    fc.assert(
      fc.property(histories, (history) => {
        const { messages, repairs }: { messages: MessageParam[]; repairs: HistoryRepair[] } = repairHistory(history);
        if (repairs.length > 0) return;
        expect(messages).toHaveLength(history.length);
        messages.forEach((each, i) => expect(each).toBe(history[i]));
      }),
      { numRuns: 3_000 },
    );
  });

  it('what the API takes comes back as the very same objects: results in any order, in several messages, after a paused reply', () => {
    const call = (id: string) => ({ type: 'tool_use' as const, id, name: 't', input: {} });
    const result = (id: string) => ({ type: 'tool_result' as const, tool_use_id: id, content: 'r' });
    const search = { type: 'server_tool_use' as const, id: 's', name: 'web_search' as const, input: {} };
    const found = { type: 'web_search_tool_result' as const, tool_use_id: 's', content: [] };
    const history: MessageParam[] = [
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: [call('a'), call('b'), call(`toolu_${'x'.repeat(80)}`)] },
      { role: 'user', content: [result('b')] },
      { role: 'user', content: [result(`toolu_${'x'.repeat(80)}`), result('a'), { type: 'text', text: 'and' }] },
      { role: 'user', content: 'that' },
      { role: 'assistant', content: [search] },
      { role: 'assistant', content: [found, { type: 'text', text: 'done' }] },
      { role: 'user', content: 'more' },
      { role: 'assistant', content: [{ ...search, id: 'later' }] },
    ];
    const { messages, repairs } = repairHistory(history);
    expect(repairs).toEqual([]);
    expect(messages).toHaveLength(history.length);
    messages.forEach((each, i) => expect(each).toBe(history[i]));
  });

  it('a changed id takes none that a call in order has', () => {
    const call = (id: string) => ({ type: 'tool_use' as const, id, name: 't', input: {} });
    const result = (id: string) => ({ type: 'tool_result' as const, tool_use_id: id, content: 'r' });
    const last: MessageParam = { role: 'assistant', content: [call('a_2')] };
    const { messages, repairs } = repairHistory([
      { role: 'user', content: 'hi' },
      { role: 'assistant', content: [call('a'), call('a')] },
      { role: 'user', content: [result('a'), result('a')] },
      last,
    ]);
    expect(messages[3]).toBe(last);
    expect(repairs).toMatchObject([
      { kind: 'changed-id', message: 1, id: 'a' },
      { kind: 'missing-result', message: 4, id: 'a_2' },
    ]);
    expect(JSON.stringify(messages[2])).toContain('"a_3"');
  });
});
