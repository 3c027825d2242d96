import type Anthropic from '@anthropic-ai/sdk';
import { EMPTY, from, lastValueFrom, take, toArray } from 'rxjs';
import { foldMessage, textDeltas, toolCalls } from 'rxfleet/agents';
import { describe, expect, it } from 'vitest';
import { virtual } from '../support/virtual.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;
type Block = Anthropic.Messages.ContentBlock;
type StopReason = Anthropic.Messages.StopReason;

const usage = { input_tokens: 10, output_tokens: 1, cache_read_input_tokens: 3 } as Anthropic.Messages.Usage;
const begin = {
  type: 'message_start',
  message: { id: 'm', role: 'assistant', content: [], stop_reason: null, usage },
} as unknown as StreamEvent;
const open = (index: number, content_block: object): StreamEvent => ({
  type: 'content_block_start',
  index,
  content_block: content_block as Block,
});
const call = (index: number, name: string): StreamEvent => open(index, { type: 'tool_use', id: `id_${name}`, name, input: {} });
const json = (index: number, partial_json: string): StreamEvent => ({
  type: 'content_block_delta',
  index,
  delta: { type: 'input_json_delta', partial_json },
});
const text = (index: number, said: string): StreamEvent => ({
  type: 'content_block_delta',
  index,
  delta: { type: 'text_delta', text: said },
});
const close = (index: number): StreamEvent => ({ type: 'content_block_stop', index });
const end = (stop_reason: StopReason, counts: object = { output_tokens: 40 }): StreamEvent =>
  ({
    type: 'message_delta',
    delta: { stop_reason, stop_sequence: null, stop_details: null, container: null },
    usage: counts,
  }) as StreamEvent;
const stop: StreamEvent = { type: 'message_stop' };

const reply = {
  s: begin,
  a: call(0, 'a'),
  b: json(0, '{"n"'),
  c: json(0, ':1}'),
  d: close(0),
  e: call(1, 'b'),
  f: close(1),
  g: end('tool_use'),
  z: stop,
};

describe('toolCalls', () => {
  it('releases a call only when the model has moved on', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const events = cold('sabcd--e-f--g-z|', reply);
      expectObservable(events.pipe(toolCalls())).toBe('-------a----b--|', {
        a: { id: 'id_a', name: 'a', input: { n: 1 } },
        b: { id: 'id_b', name: 'b', input: {} },
      });
      expectSubscriptions(events.subscriptions).toBe('^--------------!');
    }));

  it('leaving stops the reply', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const events = cold('sabcd--e-f--g-z|', reply);
      expectObservable(events.pipe(toolCalls(), take(1))).toBe('-------(a|)', { a: { id: 'id_a', name: 'a', input: { n: 1 } } });
      expectSubscriptions(events.subscriptions).toBe('^------!');
    }));

  const released = (...events: StreamEvent[]): Promise<unknown[]> => lastValueFrom(from(events).pipe(toolCalls(), toArray()));

  it.each(['max_tokens', 'end_turn', 'refusal', 'model_context_window_exceeded'] as const)(
    'does not release a last call that %s has cut off, however whole it looks',
    async (reason) => {
      expect(await released(begin, call(0, 'a'), json(0, '{"n":1}'), close(0), end(reason), stop)).toEqual([]);
    },
  );

  it('does not release what is no JSON, though the model has moved on', async () => {
    expect(await released(begin, call(0, 'a'), json(0, '{"n":'), close(0), call(1, 'b'), close(1), end('tool_use'), stop)).toMatchObject([
      { name: 'b' },
    ]);
  });

  it('releases what was whole before the cut', async () => {
    const events = [begin, call(0, 'a'), json(0, '{}'), close(0), call(1, 'b'), json(1, '{"x":"'), close(1), end('max_tokens'), stop];
    expect(await released(...events)).toMatchObject([{ name: 'a' }]);
  });

  it('is not confused by the blocks of server tools', async () => {
    const server = open(0, { type: 'server_tool_use', id: 's', name: 'web_search', input: {} });
    expect(await released(begin, server, json(0, '{"query":"x"}'), close(0), call(1, 'a'), close(1), end('tool_use'), stop)).toMatchObject([
      { id: 'id_a' },
    ]);
  });

  it('keeps nothing between two replies, also when they come at once', async () => {
    const operator = toolCalls();
    const one = from([begin, call(0, 'a'), json(0, '{'), close(0)]).pipe(operator);
    const two = from([begin, call(0, 'b'), close(0), end('tool_use')]).pipe(operator);
    expect(await Promise.all([one, two].map((each) => lastValueFrom(each.pipe(toArray()))))).toMatchObject([[], [{ name: 'b' }]]);
  });
});

describe('foldMessage', () => {
  const fold = (...events: StreamEvent[]): Promise<Anthropic.Messages.Message> => lastValueFrom(from(events).pipe(foldMessage()));

  it('is one message at message_stop', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const events = cold('s-abcde-fg-z---|', reply);
      expectObservable(events.pipe(foldMessage(), (source) => source.pipe(take(9)))).toBe('-----------m---|', {
        m: {
          id: 'm',
          role: 'assistant',
          content: [
            { type: 'tool_use', id: 'id_a', name: 'a', input: { n: 1 } },
            { type: 'tool_use', id: 'id_b', name: 'b', input: {} },
          ],
          stop_reason: 'tool_use',
          stop_sequence: null,
          stop_details: null,
          usage: { ...usage, output_tokens: 40 },
        },
      });
      expectSubscriptions(events.subscriptions).toBe('^--------------!');
    }));

  it('overwrites the usage, which is a total, and keeps what is not told again', async () => {
    const counts = { output_tokens: 40, input_tokens: null, cache_read_input_tokens: 5, server_tool_use: null };
    expect((await fold(begin, end('end_turn', { output_tokens: 20 }), end('end_turn', counts), stop)).usage).toEqual({
      input_tokens: 10,
      output_tokens: 40,
      cache_read_input_tokens: 5,
    });
  });

  it('puts texts, thinking, signatures and citations together', async () => {
    const delta = (index: number, each: object): StreamEvent => ({ type: 'content_block_delta', index, delta: each }) as StreamEvent;
    const message = await fold(
      begin,
      open(0, { type: 'thinking', thinking: '', signature: '' }),
      delta(0, { type: 'thinking_delta', thinking: 'a ' }),
      delta(0, { type: 'thinking_delta', thinking: 'b' }),
      delta(0, { type: 'signature_delta', signature: 'sig' }),
      open(1, { type: 'redacted_thinking', data: 'xyz' }),
      open(2, { type: 'text', text: '', citations: null }),
      text(2, 'he'),
      text(2, 'llo'),
      delta(2, { type: 'citations_delta', citation: { cited_text: 'x' } }),
      delta(2, { type: 'some_future_delta' }),
      end('end_turn'),
      stop,
    );
    expect(message.content).toEqual([
      { type: 'thinking', thinking: 'a b', signature: 'sig' },
      { type: 'redacted_thinking', data: 'xyz' },
      { type: 'text', text: 'hello', citations: [{ cited_text: 'x' }] },
    ]);
  });

  it('leaves the events as they are', async () => {
    const events = [
      begin,
      open(0, { type: 'text', text: '' }),
      text(0, 'x'),
      call(1, 'a'),
      json(1, '{"a":1}'),
      close(1),
      end('tool_use'),
      stop,
    ];
    const before = structuredClone(events);
    await fold(...events);
    expect(events).toEqual(before);
  });

  it('an input that is no JSON is empty in the message', async () => {
    expect((await fold(begin, call(0, 'a'), json(0, '{"x":"'), close(0), end('max_tokens'), stop)).content).toMatchObject([{ input: {} }]);
  });

  it('is nothing for a reply that does not end', async () => {
    expect(await lastValueFrom(from([begin]).pipe(foldMessage(), toArray()))).toEqual([]);
    expect(await lastValueFrom(EMPTY.pipe(foldMessage(), toArray()))).toEqual([]);
  });
});

describe('textDeltas', () => {
  it('is the text, piece by piece', () =>
    virtual(({ cold, expectObservable, expectSubscriptions }) => {
      const events = cold('sotu-x-z|', {
        s: begin,
        o: open(0, { type: 'text', text: '' }),
        t: text(0, 'he'),
        u: text(0, 'llo'),
        x: json(1, '{}'),
        z: stop,
      });
      expectObservable(events.pipe(textDeltas())).toBe('--tu----|', { t: 'he', u: 'llo' });
      expectObservable(events.pipe(textDeltas()), '^---!').toBe('--tu', { t: 'he', u: 'llo' });
      expectSubscriptions(events.subscriptions).toBe(['^-------!', '^---!']);
    }));
});
