import { z } from 'zod';
import { isRecord } from './contentBlocks.js';
import type { ForeignToolOptions } from './fromSdkTool.js';
import { ask, type McpClient } from './mcpClient.js';
import { mcpOutput, type McpOutput } from './mcpContent.js';
import { sentSchema } from './mcpSchema.js';
import { cut } from './resultContent.js';
import { MAY_HAVE } from './resultOf.js';
import { toolOf, type Tool, type ToolCall, type ToolEffect } from './tool.js';
import { define } from './toolDefinition.js';

/** What a server tells of a tool. It is the server's word: nothing of it was checked but that there is a name. */
export interface McpToolInfo {
  readonly name: string;
  readonly [field: string]: unknown;
}

/** What can be said about a tool of a server. */
export interface McpToolOptions extends ForeignToolOptions<Record<string, unknown>> {
  /** What the model calls it by. Default: the server's name, with the `prefix`. */
  readonly name?: string | undefined;
  /** Default: the server's. */
  readonly description?: string | undefined;
}

/** A tool of an MCP server. */
export type McpTool = Tool<Record<string, unknown>, McpOutput>;

/** Characters of a description before it is cut off. */
const MOST_WORDS = 20_000;
/** The longest that a timer can wait. How long a call may take is for its tool to say. */
const NEVER = 2 ** 31 - 1;

const LOST = 'The connection to its server was closed before it answered.';

const INPUT = z.custom<Record<string, unknown>>(isRecord, 'Invalid input: expected object');
const RESULT = z.looseObject({});

export function mcpTool(
  client: McpClient,
  info: McpToolInfo,
  {
    maxDataChars,
    trustHints,
    ...given
  }: McpToolOptions & { readonly name: string; readonly maxDataChars: number; readonly trustHints: boolean },
): McpTool {
  const { schema, words } = sentSchema(info['inputSchema']);
  const { name, effect = effectOf(info['annotations'], trustHints), description = wordsOf(info) } = given;
  const said = cut([description, words].filter(Boolean).join('\n'), MOST_WORDS);
  const run = async (input: Record<string, unknown>, { signal, progress }: ToolCall): Promise<McpOutput> => {
    const limits = { timeout: NEVER, resetTimeoutOnProgress: true, onprogress: progress };
    const params = { name: info.name, arguments: input };
    const result = await ask(signal, (own) => client.callTool(params, RESULT, { ...limits, signal: own })).catch((error: unknown) => {
      throw isClosed(error) ? new Error(effect === 'none' ? LOST : `${LOST} ${MAY_HAVE}`, { cause: error }) : error;
    });
    return mcpOutput(info.name, result, maxDataChars);
  };
  const options = { ...given, name, effect, description: said, input: INPUT, run };
  return toolOf(define(options as never, { name, description: said, input_schema: schema })) as McpTool;
}

/** What the client gives to requests that were open when the connection was closed. */
function isClosed(error: unknown): boolean {
  return error instanceof Error && (error as { code?: unknown }).code === -32000 && error.message.endsWith('Connection closed');
}

function wordsOf({ description, title }: McpToolInfo): string {
  return typeof description === 'string' ? description : typeof title === 'string' ? title : '';
}

/** Hints come from a server that may say what it likes. */
function effectOf(annotations: unknown, trusted: boolean): ToolEffect {
  if (!trusted || !isRecord(annotations)) return 'unsafe';
  if (annotations['readOnlyHint'] === true) return 'none';
  return annotations['idempotentHint'] === true ? 'idempotent' : 'unsafe';
}
