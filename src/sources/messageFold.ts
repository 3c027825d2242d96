import type Anthropic from '@anthropic-ai/sdk';
import { MOST_NESTED } from './json.js';

type Message = Anthropic.Messages.Message;
type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;
type Delta = Anthropic.Messages.RawContentBlockDelta;
type ContentBlock = Anthropic.Messages.ContentBlock;
type Usage = Anthropic.Messages.Usage;
type MessageDelta = Anthropic.Messages.RawMessageDeltaEvent;

/** A `tool_use` block of a reply, and what is known of its input. */
export interface FoldedCall {
  readonly id: string;
  readonly name: string;
  /** The parsed input; undefined unless `state` is `ready`. */
  readonly input: unknown;
  /** `ready`: the model has moved on and the input is whole. `open`: the reply ended in it. `invalid`: it is no JSON. */
  readonly state: 'open' | 'ready' | 'invalid';
  /** The JSON that has arrived. */
  readonly json: string;
  /** Position among the blocks of the message. */
  readonly index: number;
}

interface OpenBlock {
  block: ContentBlock;
  json: string;
  call: { -readonly [K in keyof FoldedCall]: FoldedCall[K] } | undefined;
}

/** Puts the events of one reply together: a state machine that knows no time and no rxjs. Leaves the events as they are. */
export class MessageFold {
  /** Whether `message_stop` has been seen. */
  stopped = false;
  private start: Message | undefined = undefined;
  private end: MessageDelta | undefined = undefined;
  private readonly blocks: OpenBlock[] = [];
  private latest: OpenBlock | undefined = undefined;

  /** Takes the next event. Returns the call that it releases: the one before it, if its input is whole. */
  take(event: StreamEvent): FoldedCall | undefined {
    switch (event.type) {
      case 'content_block_delta':
        addDelta(this.blocks[event.index], event.delta);
        return undefined;
      case 'content_block_start':
        return this.open(event);
      case 'content_block_stop':
        closeBlock(this.blocks[event.index]);
        return undefined;
      case 'message_delta':
        this.end = event;
        return this.finish(event.delta.stop_reason);
      case 'message_start':
        this.start = event.message;
        return undefined;
      case 'message_stop':
        this.stopped = true;
        return undefined;
      default:
        return undefined;
    }
  }

  private open({ index, content_block }: Anthropic.Messages.RawContentBlockStartEvent): FoldedCall | undefined {
    // They count up: an index that is far off would make room for all before it.
    if (!(index >= 0 && index <= this.blocks.length))
      throw new RangeError(`There is no place for a block ${index} after ${this.blocks.length}.`);
    const released = this.release();
    const opened: OpenBlock = { block: { ...content_block }, json: '', call: undefined };
    if (content_block.type === 'tool_use') {
      const { id, name } = content_block;
      if (typeof id !== 'string' || typeof name !== 'string') throw new TypeError('A tool_use block has an id and a name.');
      opened.call = { id, name, input: undefined, state: 'open', json: '', index };
    }
    this.blocks[index] = this.latest = opened;
    return released;
  }

  /** Unless there was no room for more, the latest block is whole; only after `tool_use` is its call meant to run at once. */
  private finish(stop: Message['stop_reason']): FoldedCall | undefined {
    if (stop === null || stop === 'max_tokens' || stop === 'model_context_window_exceeded') return undefined;
    const released = this.release();
    return stop === 'tool_use' ? released : undefined;
  }

  /** The model has moved on from the latest block. */
  private release(): FoldedCall | undefined {
    const { latest } = this;
    this.latest = undefined;
    if (latest?.call === undefined) return undefined;
    const { block, call, json } = latest;
    call.json = json;
    const parsed = json === '' ? { value: (block as { input: unknown }).input } : strictly(json);
    call.state = parsed === undefined ? 'invalid' : 'ready';
    call.input = parsed?.value;
    return parsed === undefined ? undefined : call;
  }

  /** The calls of the reply, in the model's order. */
  get calls(): readonly FoldedCall[] {
    return this.blocks.flatMap(({ call, json }) => (call === undefined ? [] : [Object.assign(call, { json })]));
  }

  /** The message so far. Inputs that are no JSON are empty objects in it. */
  get message(): Message {
    const { start, end } = this;
    if (start === undefined) throw new Error('A reply begins with message_start, and none has arrived.');
    const content = this.blocks.map(({ block }) => block);
    if (end === undefined) return { ...start, content };
    const { container, ...delta } = end.delta;
    return { ...start, ...delta, ...(container && { container }), content, usage: withTotals(start.usage, end.usage) };
  }
}

function addDelta(open: OpenBlock | undefined, delta: Delta): void {
  if (open === undefined) return;
  const block = open.block as unknown as Record<string, unknown>;
  if (delta.type === 'text_delta') block['text'] = `${block['text'] as string}${delta.text}`;
  else if (delta.type === 'input_json_delta') open.json += delta.partial_json;
  else if (delta.type === 'thinking_delta') block['thinking'] = `${block['thinking'] as string}${delta.thinking}`;
  else if (delta.type === 'signature_delta') block['signature'] = delta.signature;
  else if (delta.type === 'citations_delta') block['citations'] = [...((block['citations'] as unknown[] | null) ?? []), delta.citation];
}

function closeBlock(open: OpenBlock | undefined): void {
  if (open === undefined || !('input' in open.block) || open.json === '') return;
  open.block = { ...open.block, input: strictly(open.json)?.value ?? {} };
}

function nesting(json: string): number {
  let deepest = 0;
  let depth = 0;
  for (const [token] of json.matchAll(/"(?:[^"\\]|\\.)*"|[[\]{}]/g)) {
    if (token === '[' || token === '{') deepest = Math.max(deepest, ++depth);
    else if (token === ']' || token === '}') depth--;
  }
  return deepest;
}

/** Undefined if it is no JSON, or nested too deep. */
function strictly(json: string): { readonly value: unknown } | undefined {
  // What is shorter cannot be nested deeper and be JSON.
  if (json.length > 2 * MOST_NESTED && nesting(json) > MOST_NESTED) return undefined;
  try {
    return { value: JSON.parse(json) as unknown };
  } catch {
    return undefined;
  }
}

/** The counters of `message_delta` are totals of the whole message: they replace what was there; null says nothing. */
function withTotals(usage: Usage, totals: MessageDelta['usage']): Usage {
  const counts: Record<string, unknown> = { ...usage };
  for (const [name, count] of Object.entries(totals)) if (count !== null) counts[name] = count;
  return counts as unknown as Usage;
}
