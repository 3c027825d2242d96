import type Anthropic from '@anthropic-ai/sdk';
import { defer, filter, map, type OperatorFunction } from 'rxjs';
import type { z } from 'zod';
import { refuse } from './checks.js';
import { PartialJson } from './partialJson.js';
import { inputShape, type Shape } from './partialShape.js';
import { fit, PartialValue } from './partialValue.js';

type StreamEvent = Anthropic.Messages.RawMessageStreamEvent;

/** What may be there of a value while it is written. Strings may be cut off; numbers, and strings of a fixed set, are whole or absent. */
export type DeepPartial<T> = 0 extends 1 & T
  ? T
  : T extends readonly unknown[]
    ? number extends T['length']
      ? readonly DeepPartial<T[number]>[]
      : { readonly [K in keyof T]?: DeepPartial<T[K]> | undefined }
    : T extends (...args: never) => unknown
      ? T
      : T extends object
        ? { readonly [K in keyof T]?: DeepPartial<T[K]> | undefined }
        : T;

/** A call that the model is writing. To be shown, never to be executed. */
export interface PartialCall<T = unknown> {
  /** Position among the blocks of the message. */
  readonly index: number;
  readonly id: string;
  /** The name of the tool. */
  readonly name: string;
  /** What is there of the input and fits the schema; undefined while there is nothing. What is whole of it is the same object every time. */
  readonly input: DeepPartial<T> | undefined;
  /** Whether the block has ended and its JSON is whole. Even then the call may be one that `max_tokens` has cut off. */
  readonly complete: boolean;
}

export interface PartialInputOptions {
  /** Only calls of the tool with this name. Default: all calls. */
  readonly tool?: string | undefined;
}

/**
 * The inputs of calls while the model writes them, as far as they can be shown: for screens only, never to be executed.
 *
 * *When to use*: to fill in a form or a draft before the eyes of the user. What runs comes from `toolCalls`, `turn` or `agent`.
 *
 * @param schema - what the input is meant to be. Its types and fixed values are looked at; defaults, checks and transforms are not run
 * @param options - `tool`: only calls of the tool with this name. Default: all calls
 * @returns an operator; what it emits are pictures of the calls, one whenever there is more to show, one at the end of a call with `complete`. What
 * does not fit the schema is left out, and nothing that the model writes is an error. Unsubscribing unsubscribes from the source
 * @see {@link toolCalls} for calls that may run
 */
export function partialInput<S extends z.ZodType>(
  schema: S,
  options: PartialInputOptions = {},
): OperatorFunction<StreamEvent, PartialCall<z.input<S>>> {
  if (typeof options !== 'object' || options === null) refuse(TypeError, 'partialInput', 'options', 'an object', options);
  const { tool } = options;
  const shape = inputShape('partialInput', schema);
  if (tool !== undefined && typeof tool !== 'string') refuse(TypeError, 'partialInput', 'tool', 'a string', tool);
  return (source) =>
    defer(() => {
      const calls = new PartialCalls(shape, tool);
      return source.pipe(
        map((event) => calls.take(event)),
        filter((call) => call !== undefined),
      ) as ReturnType<OperatorFunction<StreamEvent, PartialCall<z.input<S>>>>;
    });
}

interface OpenCall {
  readonly block: Anthropic.Messages.ToolUseBlock;
  readonly json: PartialJson;
  readonly value: PartialValue;
  begun: boolean;
  /** How many items may be copied for pictures. */
  credit: number;
}

/** Items that each piece of an input allows to be copied: what bounds the cost of all pictures by the number of the pieces. */
const CREDIT = 1_000;

/** The calls of a reply that are being written. */
class PartialCalls {
  private readonly open = new Map<number, OpenCall>();

  constructor(
    private readonly shape: Shape | undefined,
    private readonly tool: string | undefined,
  ) {}

  /** Takes the next event. Returns a picture of its call, if there is something new to show. */
  take(event: StreamEvent): PartialCall | undefined {
    if (event.type === 'message_start') this.open.clear();
    else if (event.type === 'content_block_start') return this.begin(event);
    else if (event.type === 'content_block_delta') return this.grow(event);
    else if (event.type === 'content_block_stop') return this.end(event.index);
    return undefined;
  }

  private begin({ index, content_block: block }: Anthropic.Messages.RawContentBlockStartEvent): PartialCall | undefined {
    this.open.delete(index);
    if (block.type !== 'tool_use' || block.name !== (this.tool ?? block.name)) return undefined;
    const value = new PartialValue(this.shape);
    this.open.set(index, { block, value, json: new PartialJson(value), begun: false, credit: 0 });
    return picture(index, block, undefined, false);
  }

  private grow({ index, delta }: Anthropic.Messages.RawContentBlockDeltaEvent): PartialCall | undefined {
    const call = this.open.get(index);
    if (call === undefined || delta.type !== 'input_json_delta' || typeof delta.partial_json !== 'string') return undefined;
    const { block, json, value } = call;
    call.begun ||= delta.partial_json !== '';
    call.credit += CREDIT;
    json.write(delta.partial_json);
    const { changed, cost } = value;
    if (!changed || cost > call.credit) return undefined;
    call.credit -= cost;
    value.changed = false;
    return picture(index, block, value.value, false);
  }

  /** Without a delta the input is what the block began with. */
  private end(index: number): PartialCall | undefined {
    const call = this.open.get(index);
    if (call === undefined) return undefined;
    this.open.delete(index);
    const { block, json, value, begun } = call;
    if (!begun) return picture(index, block, fit(this.shape, block.input), true);
    return json.finish() ? picture(index, block, value.value, true) : undefined;
  }
}

function picture(index: number, { id, name }: Anthropic.Messages.ToolUseBlock, input: unknown, complete: boolean): PartialCall {
  return { index, id, name, input, complete };
}
